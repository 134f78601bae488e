"""MV-DUSt3R against tensors recorded from the published code."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from golden_sets import facts_of, file_of, golden_sets, needs_golden
from safetensors.torch import load_file

from sage_core.models import MVDust3r, MVDust3rConfig
from sage_core.models.mvdust3r._heads import SKIP_GAIN, PointHead
from sage_core.models.mvdust3r._rope import rotary_table

TOLERANCE = 1e-4
# What this file, the golden losses and the golden metrics read; `test_volume_list` means nothing.
READ = {
    "inputs.npz": {"imgs", "obj_weight"},
    "outputs.npz": {"pts3d", "conf", "rgb", "opacity", "scale", "rotation", "raw_head"}
    | {f"raw_tok_{name}" for name in ("rgb", "opacity", "scale", "rotation")}
    | {"int_patch_tokens", "int_patch_pos", "int_enc_block0", "int_enc_out"}
    | {"int_skip_input", "int_skip_scaled"},
}
FILES = {
    *READ,
    "config.json",
    "grads.json",
    "keys_full.json",
    "losses.json",
    "losses.npz",
    "outputs_multiref_mvd.npz",
    "outputs_plus.npz",
    "outputs_train_mode.npz",
    "weights.safetensors",
    "weights_plus_extra.safetensors",
}

pytestmark = needs_golden("mvdust3r")


class Golden:
    def __init__(self, folder):
        self.folder = folder
        self.facts = facts_of(folder)
        widths = dict(self.facts["model"])
        sides = widths.pop("img_h"), widths.pop("img_w")
        self.config = MVDust3rConfig(image_size=max(sides), **widths)
        self.patch = self.config.patch_size
        inputs = self.arrays("inputs")
        self.images = (inputs["imgs"].transpose(0, 1) + 1) / 2
        self.weight = inputs["obj_weight"].transpose(0, 1)
        assert self.images.shape == (self.facts["batch"], self.facts["n_views"], 3, *sides)

    def arrays(self, name, *needed):
        """All arrays of a file; a skip where the set does without the file or the needed ones."""
        with np.load(file_of(self.folder, f"{name}.npz")) as data:
            if absent := set(needed) - set(data.files):
                pytest.skip(f"{name}.npz of {self.folder.name} has no {', '.join(sorted(absent))}")
            return {key: torch.from_numpy(data[key]) for key in data.files}

    def model(self, plus=False):
        torch.manual_seed(self.facts["seed"])
        model = MVDust3r(replace(self.config, cross_reference=plus))
        state = load_file(self.folder / "weights.safetensors")
        if plus:
            state |= load_file(file_of(self.folder, "weights_plus_extra.safetensors"))
        model.load_state_dict(state)
        return model.eval()

    @property
    def references(self):
        return self.facts["n_ref_plus"]

    @property
    def grid(self):
        return self.images.shape[-2] // self.patch, self.images.shape[-1] // self.patch


@pytest.fixture(scope="module", params=golden_sets("mvdust3r"), ids=lambda folder: folder.name)
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


def keep_outputs(modules):
    """Hooks that note what the named modules give, call after call."""
    seen = {name: [] for name in modules}
    for name, module in modules.items():
        module.register_forward_hook(lambda _m, _i, out, name=name: seen[name].append(out))
    return seen


def test_golden_encoder_tokens(golden):
    names = ("int_patch_tokens", "int_enc_block0", "int_enc_out")
    recorded, model = golden.arrays("outputs", *names), golden.model()
    seen = keep_outputs(
        {
            "int_patch_tokens": model.patch_embed,
            "int_enc_block0": model.enc_blocks[0],
            "int_enc_out": model.enc_norm,
        }
    )
    with torch.no_grad():
        model(golden.images)
    for name, (tensor,) in seen.items():
        assert_close(tensor.unflatten(0, golden.images.shape[:2]), recorded[name])


def test_golden_token_positions(golden):
    """A head of four numbers turns by the position itself: once by its row, once by its column."""
    y, x = golden.arrays("outputs", "int_patch_pos")["int_patch_pos"].float().unbind(-1)
    cosine, sine = rotary_table(*golden.grid, 4, y.device)
    for place, axis in ((0, y), (2, x)):
        torch.testing.assert_close(cosine[:, place].expand_as(axis), axis.cos())
        torch.testing.assert_close(sine[:, place].expand_as(axis), axis.sin())


def test_golden_decoder_layers(golden):
    depth, model = golden.config.dec_depth, golden.model()
    recorded = golden.arrays("outputs", *(f"int_dec_layer{n + 1}" for n in range(depth)))
    stacks = keep_outputs(
        {(s, n): getattr(model, s)[n] for s in ("dec_blocks", "dec_blocks2") for n in range(depth)}
    )
    last = keep_outputs({"norm": model.dec_norm})["norm"]
    with torch.no_grad():
        model(golden.images)
    for layer in range(depth):
        (reference,), (sources,) = stacks["dec_blocks", layer], stacks["dec_blocks2", layer]
        ours = torch.cat((reference, sources), 1) if layer < depth - 1 else last[0]
        assert_close(ours, recorded[f"int_dec_layer{layer + 1}"])


def test_golden_inside_the_point_head(golden, monkeypatch):
    wanted = ("raw_head", "int_skip_input", "int_skip_scaled")
    recorded, model = golden.arrays("outputs", *wanted), golden.model()
    raw, skip_inputs, skip_outputs = [], [], []
    whole = PointHead.raw

    def noted(head, tokens, images):
        raw.append(whole(head, tokens, images))
        return raw[-1]

    def skipped(_module, inputs, output):
        skip_inputs.append(inputs[0])
        skip_outputs.append(output)

    monkeypatch.setattr(PointHead, "raw", noted)
    for head in (model.downstream_head1, model.downstream_head2):
        head.skip_proj.register_forward_hook(skipped)
    with torch.no_grad():
        model(golden.images)
    batch = len(golden.images)

    def views(calls):
        first, rest = calls
        return torch.cat((first[:, None], rest.unflatten(0, (batch, -1))), 1)

    assert_close(views(raw), recorded["raw_head"])
    assert_close(views(skip_inputs), recorded["int_skip_input"])
    assert_close(SKIP_GAIN * views(skip_outputs), recorded["int_skip_scaled"])


def test_golden_inside_the_gaussian_head(golden):
    names = {"rgb": "mlp_rgb", "opacity": "mlp_opacity", "scale": "mlp_scale2"}
    names["rotation"] = "mlp_rotation"
    recorded, model = golden.arrays("outputs", *(f"raw_tok_{n}" for n in names)), golden.model()
    seen = keep_outputs(
        {
            (name, g): getattr(model.downstream_GS_head[g], module)
            for name, module in names.items()
            for g in (0, 1)
        }
    )
    with torch.no_grad():
        model(golden.images)
    for name in names:
        (first,), (rest,) = seen[name, 0], seen[name, 1]
        ours = torch.cat((first[:, None], rest.unflatten(0, (len(first), -1))), 1)
        assert_close(ours, recorded[f"raw_tok_{name}"])


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
    recorded = json.loads(file_of(golden.folder, "grads.json").read_text())
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
    references = golden.references
    recorded = golden.arrays("outputs_multiref_mvd")
    model = golden.model()
    with torch.no_grad():
        single = model(golden.images).points
        several = model(golden.images, references=references).points
    for name, points in recorded.items():
        row = int(name.removeprefix("pts3d_r"))
        assert_close(several[row::references], points)
    torch.testing.assert_close(several[::references], single)


def test_golden_plus(golden):
    recorded = golden.arrays("outputs_plus")
    with torch.no_grad():
        out = golden.model(plus=True)(golden.images, references=golden.references)
    ours = named_outputs(out)
    assert recorded.keys() <= ours.keys()
    for name, tensor in recorded.items():
        assert_close(ours[name], tensor)


def test_golden_keys_of_the_published_checkpoints(golden):
    keys = json.loads(file_of(golden.folder, "keys_full.json").read_text())

    def shape(entry):
        return list(entry["shape"]) if isinstance(entry, dict) else list(entry)

    for config, expected in (
        (MVDust3rConfig.mvdust3r(), keys["MVD"]),
        (MVDust3rConfig.mvdust3r_plus(), keys["MVD"] | keys["MVDp_extra"]),
    ):
        with torch.device("meta"):
            model = MVDust3r(config)
            ours = {k: list(t.shape) for k, t in model.state_dict().items()}
        assert ours == {name: shape(entry) for name, entry in expected.items()}
        trained = sum(math.prod(ours[name]) for name, _ in model.named_parameters())
        assert trained == (661_429_266 if config.cross_reference else 547_989_522)


def test_golden_sets_hold_nothing_that_no_test_reads(golden):
    known = dict(READ)
    layers = {f"int_dec_layer{n + 1}" for n in range(golden.config.dec_depth)}
    known["outputs.npz"] = known["outputs.npz"] | layers
    unread = {path.name for path in golden.folder.iterdir()} - FILES
    for file, names in known.items():
        if (golden.folder / file).is_file():
            found = golden.arrays(file.removesuffix(".npz")).keys()
            unread |= {f"{file}:{name}" for name in found - names}
    if unread:
        pytest.skip(f"no test reads {', '.join(sorted(unread))} of the set {golden.folder.name}")
