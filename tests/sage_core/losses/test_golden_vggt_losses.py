"""VGGT's loss, and the gradients of every tensor of the model under it, against recorded ones."""

import pytest
import torch
from golden_sets import golden_sets, needs_golden
from vggt_set import VGGTSet

from sage_core.losses import LabelledScenes, vggt_loss

GRADIENTS = 1e-3
NORMS = 1e-4
LOSSES = 1e-5

pytestmark = needs_golden("vggt")


@pytest.fixture(scope="module", params=golden_sets("vggt"), ids=lambda folder: folder.name)
def recorded(request):
    """The set, its training case's arrays, truth, and our model after the backward pass."""
    golden = VGGTSet(request.param)
    if golden.facts.get("train_case") is None:
        pytest.skip(f"{golden.folder.name} has no training case")
    return Training(golden)


class Training:
    def __init__(self, golden):
        self.facts, case = golden.facts, golden.facts["train_case"]
        self.arrays = golden.below(case, golden.outputs)
        inputs = golden.below(case, golden.inputs)
        self.truth = LabelledScenes(
            inputs["gt_extrinsics"],
            inputs["gt_intrinsics"],
            inputs["gt_world_points"],
            inputs["gt_depths"],
            inputs["point_masks"],
        )
        model = golden.model()
        model.freeze((), batchnorm=False)
        self.terms = vggt_loss(model(inputs["images"]).native, self.truth)
        self.terms.total.backward()
        self.parameters = dict(model.named_parameters())


def test_golden_normalised_scenes(recorded):
    ours = recorded.truth.normalised()
    for name, value in {
        "norm_extrinsics": ours.cam_from_world,
        "norm_world_points": ours.points,
        "norm_depths": ours.depth,
        "gt_pose_enc": ours.pose_codes(),
    }.items():
        torch.testing.assert_close(value, recorded.arrays[name], rtol=1e-5, atol=2e-6)


def test_golden_loss_terms(recorded):
    terms = recorded.terms
    ours = {
        "loss_camera": terms.camera.total,
        "loss_T": terms.camera.translation,
        "loss_R": terms.camera.rotation,
        "loss_FL": terms.camera.fov,
        "objective": terms.total,
    }
    for name, dense in (("depth", terms.depth), ("point", terms.points)):
        ours |= {f"loss_{kind}_{name}": getattr(dense, kind) for kind in ("conf", "reg", "grad")}
    wanted = {
        key.removeprefix("loss."): value.item()
        for key, value in recorded.arrays.items()
        if key.startswith("loss.")
    }
    assert {k: v.item() for k, v in ours.items()} == pytest.approx(wanted, rel=LOSSES)


def test_golden_gradients(recorded):
    wanted = {
        key.removeprefix("grad."): value
        for key, value in recorded.arrays.items()
        if key.startswith("grad.")
    }
    if not wanted:
        pytest.skip("this set has no gradients of single tensors")
    for name, value in wanted.items():
        ours = recorded.parameters[name].grad
        assert ours.shape == value.shape
        assert (ours - value).abs().max() <= GRADIENTS * value.abs().max(), name


def test_golden_norms_of_all_gradients(recorded):
    names = recorded.facts["grad_norm_names"]
    trained = {name for name, p in recorded.parameters.items() if p.requires_grad}
    assert trained == set(names)
    for name, norm in zip(names, recorded.arrays["grad_norms"].tolist(), strict=True):
        assert recorded.parameters[name].grad.norm().item() == pytest.approx(norm, rel=NORMS), name
