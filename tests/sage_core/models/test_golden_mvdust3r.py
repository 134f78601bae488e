"""MV-DUSt3R against tensors recorded from the published code."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sage_core.models import MVDust3r, MVDust3rConfig

GOLDEN = Path(os.environ.get("SAGE_GOLDEN", Path(__file__).parents[3].parent / "shared" / "golden"))
FOLDERS = sorted(GOLDEN.glob("mvdust3r*"))
TOLERANCE = 1e-4

pytestmark = pytest.mark.skipif(
    not FOLDERS, reason=f"no golden tensors mvdust3r* under {GOLDEN} (set SAGE_GOLDEN)"
)


class Golden:
    def __init__(self, folder):
        self.folder = folder
        self.facts = json.loads((folder / "config.json").read_text())
        widths = dict(self.facts["model"])
        widths.pop("img_w")
        self.config = MVDust3rConfig(image_size=widths.pop("img_h"), **widths)
        inputs = self.arrays("inputs")
        self.images = (inputs["imgs"].transpose(0, 1) + 1) / 2
        self.weight = inputs["obj_weight"].transpose(0, 1)

    def arrays(self, name):
        with np.load(self.folder / f"{name}.npz") as data:
            return {key: torch.from_numpy(data[key]) for key in data.files}

    def model(self, plus=False):
        torch.manual_seed(self.facts["seed"])
        model = MVDust3r(replace(self.config, cross_reference=plus))
        state = load_file(self.folder / "weights.safetensors")
        if plus:
            state |= load_file(self.folder / "weights_plus_extra.safetensors")
        model.load_state_dict(state)
        return model.eval()


@pytest.fixture(scope="module", params=FOLDERS, ids=lambda folder: folder.name)
def golden(request):
    return Golden(request.param)


def assert_close(ours, recorded, views_first=True):
    recorded = recorded.transpose(0, 1) if views_first else recorded
    assert ours.shape == recorded.shape
    error = (ours.detach() - recorded).abs() / recorded.abs().clamp(min=1)
    assert error.max() <= TOLERANCE


def named_outputs(out):
    splats = out.gaussians
    return {
        "pts3d": out.points,
        "conf": out.conf,
        "rgb": splats.colours,
        "opacity": splats.opacities[..., None],
        "scale": splats.scales,
        "rotation": splats.rotations,
    }


def test_golden_outputs_in_evaluation_mode(golden):
    recorded = golden.arrays("outputs")
    with torch.no_grad():
        ours = named_outputs(golden.model()(golden.images))
    for name, tensor in ours.items():
        assert_close(tensor, recorded[name])


def test_golden_intermediate_tokens(golden):
    recorded = golden.arrays("outputs")
    model, seen = golden.model(), {}

    def keep(name):
        return lambda _module, _inputs, output: seen.update({name: output})

    model.patch_embed.register_forward_hook(keep("int_patch_tokens"))
    model.enc_blocks[0].register_forward_hook(keep("int_enc_block0"))
    model.enc_norm.register_forward_hook(keep("int_enc_out"))
    with torch.no_grad():
        out = model(golden.images)
    assert out.points.isfinite().all()
    batch_and_views = golden.images.shape[:2]
    for name, tensor in seen.items():
        assert_close(tensor.unflatten(0, batch_and_views), recorded[name])


def test_golden_batchnorm_in_training_mode(golden):
    recorded = golden.arrays("outputs_train_mode")
    model = golden.model().train()
    with torch.no_grad():
        out = model(golden.images)
    assert_close(out.points, recorded["train_pts3d"])
    assert_close(out.conf, recorded["train_conf"])
    buffers = dict(model.named_buffers())
    recorded_buffers = {k[4:]: v for k, v in recorded.items() if k.startswith("buf:")}
    assert buffers.keys() == recorded_buffers.keys()
    for name, value in recorded_buffers.items():
        assert_close(buffers[name].float(), value.float(), views_first=False)


def test_golden_gradients_of_every_parameter(golden):
    recorded = json.loads((golden.folder / "grads.json").read_text())
    model = golden.model()
    outputs = named_outputs(model(golden.images))
    outputs["conf"] = outputs["conf"].log()[..., None]
    objective = sum((golden.weight[..., None] * t).mean() for t in outputs.values())
    assert objective.item() == pytest.approx(recorded["objective"], abs=TOLERANCE)
    objective.backward()
    parameters = dict(model.named_parameters())
    assert parameters.keys() == recorded["grad_l2"].keys()
    for name, norm in recorded["grad_l2"].items():
        if norm is None:
            assert parameters[name].grad is None
        else:
            assert parameters[name].grad.norm().item() == pytest.approx(norm, rel=1e-3), name


def test_golden_several_references(golden):
    references = golden.facts["n_ref_plus"]
    model = golden.model()
    with torch.no_grad():
        single = model(golden.images).points
        several = model(golden.images, references=references).points
    recorded = golden.arrays("outputs_multiref_mvd")["pts3d_r1"]
    assert_close(several[1::references], recorded)
    torch.testing.assert_close(several[::references], single)


def test_golden_plus(golden):
    recorded = golden.arrays("outputs_plus")
    with torch.no_grad():
        out = golden.model(plus=True)(golden.images, references=golden.facts["n_ref_plus"])
    assert_close(out.points, recorded["pts3d"])
    assert_close(out.conf, recorded["conf"])


def test_golden_keys_of_the_published_checkpoints(golden):
    keys = json.loads((golden.folder / "keys_full.json").read_text())

    def shape(entry):
        return list(entry["shape"]) if isinstance(entry, dict) else list(entry)

    for config, expected in (
        (MVDust3rConfig.mvdust3r(), keys["MVD"]),
        (MVDust3rConfig.mvdust3r_plus(), keys["MVD"] | keys["MVDp_extra"]),
    ):
        with torch.device("meta"):
            ours = {k: list(t.shape) for k, t in MVDust3r(config).state_dict().items()}
        assert ours == {name: shape(entry) for name, entry in expected.items()}
