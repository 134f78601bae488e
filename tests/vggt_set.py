"""One recorded set of VGGT's tensors: its sizes, cases and arrays, whichever of them it has."""

import json
from dataclasses import fields

import numpy as np
import torch
from golden_sets import facts_of, file_of
from safetensors.torch import load_file, save_file

from sage_core.models import VGGT, VGGTConfig


class VGGTSet:
    """A folder whose name begins with ``vggt``."""

    def __init__(self, folder):
        self.folder, self.facts = folder, facts_of(folder)
        sizes = {"image_size": self.facts["img_size"], **self.facts}
        known = {field.name for field in fields(VGGTConfig)}
        whole = {k: int(v) if k == "mlp_ratio" else v for k, v in sizes.items() if k in known}
        self.config = VGGTConfig.from_json(whole)
        self.inputs, self.outputs = self._arrays("inputs.npz"), self._arrays("outputs.npz")

    def _arrays(self, name):
        with np.load(file_of(self.folder, name)) as data:
            return {key: torch.from_numpy(data[key]) for key in data.files}

    @staticmethod
    def below(name, arrays):
        """The arrays ``name.…``, by the rest of their names."""
        return {
            k.removeprefix(f"{name}."): v for k, v in arrays.items() if k.startswith(f"{name}.")
        }

    def model(self):
        """With the recorded weights, in evaluation mode, nothing frozen."""
        with torch.device("meta"):
            model = VGGT(self.config)
        model.load_state_dict(load_file(file_of(self.folder, "weights.safetensors")), assign=True)
        return model.eval()


def write_set(folder, config, *, off_by=0.0):
    """A set laid out as the recorded ones, our own model its source: one case, no training, few arrays.

    ``off_by`` is added to the depth, as an error.
    """
    folder.mkdir(parents=True)
    torch.manual_seed(4)
    model = VGGT(config).eval()
    for parameter in model.parameters():
        parameter.data.add_(0.02 * torch.randn(parameter.shape))
    shape = (1, 2, 3, 2 * config.patch_size, 3 * config.patch_size)
    images = torch.rand(shape)
    with torch.no_grad():
        native = model(images).native
        last = config.aa_depth - 1
        tokens = model.aggregator(images, [last])[last]
    outputs = {
        "wide.depth": native["depth"][..., None] + off_by,
        "wide.pose_enc_list": native["pose_enc_list"].transpose(0, 1),
        f"wide.aggregated_{last}": tokens,
    }
    sizes = config.to_json()
    facts = {"img_size": sizes.pop("image_size"), **sizes, "cases": {"wide": shape}}
    (folder / "config.json").write_text(json.dumps(facts))
    np.savez(folder / "inputs.npz", **{"wide.images": images.numpy()})
    np.savez(folder / "outputs.npz", **{name: value.numpy() for name, value in outputs.items()})
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(state, folder / "weights.safetensors")
