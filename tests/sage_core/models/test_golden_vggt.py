"""VGGT against tensors recorded from the published code."""

import json
import math

import pytest
import torch
from golden_sets import ROOT, facts_of, golden_sets, needs_golden
from vggt_set import VGGTSet

from sage_core.geometry.batched import (
    invert,
    pointmap,
    quaternion_from_rotation,
    rotation_from_quaternion,
)
from sage_core.models import VGGT, VGGTConfig
from sage_core.models.vggt import decode_cameras, preprocess
from sage_core.models.vggt._pose_code import PIXEL_OFFSET

TOKENS = 1e-5
POSES = 8e-7
DENSE = 5e-6
KEYS = ROOT.parent / "spec" / "vggt_1b_keys.json"
CASES = [
    pytest.param((folder, case), id=f"{folder.name}-{case}")
    for folder in golden_sets("vggt")
    for case in facts_of(folder)["cases"]
]

pytestmark = needs_golden("vggt")


@pytest.fixture(scope="module", params=golden_sets("vggt"), ids=lambda folder: folder.name)
def golden(request):
    return VGGTSet(request.param)


@pytest.fixture(scope="module", params=CASES)
def recorded(request):
    """A case's images, its arrays by their short names, and what our model gives."""
    folder, case = request.param
    return Case(VGGTSet(folder), case)


class Case:
    def __init__(self, golden, case):
        self.golden = golden
        self.images = golden.inputs[f"{case}.images"]
        self.arrays = golden.below(case, golden.outputs)
        self.model, self.seen = golden.model(), {}
        self._watch(self.model)
        with torch.no_grad():
            self.output = self.model(self.images)

    def _watch(self, model):
        watched = {"patch_tokens": model.aggregator.patch_embed}
        for head in ("depth_head", "point_head"):
            if not hasattr(model, head):
                continue
            scratch = getattr(model, head).scratch
            watched |= {
                f"{head}_refinenet4": scratch.refinenet4,
                f"{head}_fused": scratch.output_conv1,
            }
        for name, module in watched.items():
            module.register_forward_hook(
                lambda _m, _i, out, name=name: self.seen.setdefault(name, []).append(out)
            )

    def wanted(self, name):
        if name not in self.arrays:
            pytest.skip(f"{self.golden.folder.name} has no {name} for this case")
        return self.arrays[name]


def assert_near(ours, recorded, tolerance, *, relative=False):
    """Within an absolute tolerance, or one relative to the array's maximum."""
    assert ours.shape == recorded.shape
    assert ours.dtype == recorded.dtype
    limit = tolerance * (recorded.abs().max().item() if relative else 1)
    assert (ours.detach() - recorded).abs().max().item() <= limit


def test_golden_position_embedding(recorded):
    rows, columns = (
        side // recorded.golden.config.patch_size for side in recorded.images.shape[-2:]
    )
    ours = recorded.model.aggregator.patch_embed.position_embedding(rows, columns)
    assert_near(ours, recorded.wanted("pos_embed"), 1e-6)


def test_golden_tokens(recorded):
    wanted = {
        int(name.removeprefix("aggregated_")): value
        for name, value in recorded.arrays.items()
        if name.startswith("aggregated_")
    }
    if not wanted:
        pytest.skip(f"{recorded.golden.folder.name} has no aggregated_* for this case")
    with torch.no_grad():
        ours = recorded.model.aggregator(recorded.images, wanted.keys())
    for layer, value in wanted.items():
        assert_near(ours[layer], value, TOKENS)


def test_golden_patch_tokens(recorded):
    wanted = recorded.wanted("patch_tokens")
    assert_near(recorded.seen["patch_tokens"][0], wanted, TOKENS)


@pytest.mark.parametrize("name", ["depth_head_refinenet4", "depth_head_fused", "point_head_fused"])
def test_golden_dense_features(recorded, name):
    wanted = recorded.wanted(name)
    assert_near(torch.cat(recorded.seen[name]), wanted, DENSE, relative=True)


def test_golden_poses(recorded):
    ours = recorded.output.native["pose_enc_list"].transpose(0, 1)
    assert_near(ours, recorded.wanted("pose_enc_list"), POSES)


@pytest.mark.parametrize("name", ["depth", "depth_conf", "world_points", "world_points_conf"])
def test_golden_dense_maps(recorded, name):
    wanted = recorded.wanted(name)
    ours = recorded.output.native[name]
    assert_near(ours.view_as(wanted) if name == "depth" else ours, wanted, DENSE, relative=True)


def test_golden_cameras_and_points_from_depth(recorded):
    height, width = recorded.images.shape[-2:]
    native = recorded.output.native
    cameras, intrinsics = decode_cameras(native["pose_enc_list"][:, -1], height, width)
    assert_near(cameras, recorded.wanted("extrinsic"), 1e-5)
    wanted = recorded.wanted("intrinsic").clone()
    wanted[..., :2, 2] += PIXEL_OFFSET
    torch.testing.assert_close(intrinsics, wanted, rtol=1e-6, atol=0)
    points = pointmap(native["depth"], intrinsics, invert(cameras))
    assert_near(points, recorded.wanted("points_from_depth"), DENSE, relative=True)


def test_golden_answer_is_in_the_first_camera(recorded):
    """The same cameras and points, moved so that view 0's camera is the world."""
    world, out = recorded.wanted("extrinsic"), recorded.output
    first = world[:, :1]
    homogeneous = torch.nn.functional.pad(recorded.wanted("points_from_depth"), (0, 1), value=1.0)
    moved = torch.einsum("brc,bvhwc->bvhwr", first[:, 0], homogeneous)
    assert_near(out.points, moved, 2 * DENSE, relative=True)
    identity = torch.eye(3, 4).expand_as(out.cam_from_world[:, 0])
    assert_near(out.cam_from_world[:, 0], identity, 1e-6)


def test_golden_camera_head_whose_fields_of_view_reach_zero(golden):
    if "cam.tokens" not in golden.inputs:
        pytest.skip(f"{golden.folder.name} has no cam.tokens")
    model = golden.model()
    with torch.no_grad():
        model.camera_head.pose_branch.fc2.bias.copy_(golden.inputs["cam.fc2_bias_override"])
        ours = model.camera_head(golden.inputs["cam.tokens"][:, :, 0])
    wanted = golden.outputs["cam.pose_enc_list"]
    assert (wanted[..., 7:] == 0).any()
    assert_near(ours.transpose(0, 1), wanted, POSES)


def test_golden_rotations(golden):
    if "rot.matrices" not in golden.inputs:
        pytest.skip(f"{golden.folder.name} has no rot.matrices")
    wxyz = quaternion_from_rotation(golden.inputs["rot.matrices"])
    assert_near(wxyz[..., [1, 2, 3, 0]], golden.outputs["rot.quats_xyzw"], 1e-6)
    matrices = rotation_from_quaternion(golden.inputs["rot.raw_quats"][..., [3, 0, 1, 2]])
    assert_near(matrices, golden.outputs["rot.raw_quats_mats"], 1e-6)


@pytest.mark.parametrize("mode", ["crop", "pad"])
def test_golden_preprocessing(golden, mode):
    pictures = {
        key.removesuffix(".image"): value.numpy()
        for key, value in golden.inputs.items()
        if key.startswith("prep")
    }
    if not pictures:
        pytest.skip(f"{golden.folder.name} has no pictures to preprocess")
    for name, picture in pictures.items():
        wanted = {k: golden.outputs[f"{name}.{mode}.{k}"] for k in ("shape", "sub9", "mean")}
        (image,) = preprocess([picture], mode).images
        assert list(image.shape) == wanted["shape"].tolist()
        assert_near(image[:, ::9, ::9], wanted["sub9"], 1e-7)
        assert image.mean().item() == pytest.approx(wanted["mean"].item(), abs=1e-6)


@pytest.mark.skipif(not KEYS.exists(), reason=f"no list of the published keys at {KEYS}")
def test_golden_keys_of_the_published_checkpoint():
    """All but the tracker's, which is kept beside the model."""
    listed = json.loads(KEYS.read_text())
    published = {
        entry["key"].replace("{i}", str(i)): entry["shape"]
        for entry in listed["entries"]
        for i in range(entry.get("count", 1))
    }
    assert len(published) == listed["tensors"] == 1797
    assert sum(math.prod(shape) for shape in published.values()) == 1_256_537_516
    with torch.device("meta"):
        model = VGGT(VGGTConfig.vggt_1b())
    ours = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    tracker = {name for name in published if name.startswith("track_head.")}
    assert len(tracker) == 394
    assert ours == {name: shape for name, shape in published.items() if name not in tracker}
