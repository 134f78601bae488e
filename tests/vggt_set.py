"""One recorded set of VGGT's tensors: its sizes, cases and arrays, whichever of them it has."""

from dataclasses import fields

import numpy as np
import torch
from golden_sets import facts_of, file_of
from safetensors.torch import load_file

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
