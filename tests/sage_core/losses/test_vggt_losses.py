"""What the recorded losses of VGGT do not pin: several scenes, filters, clamps, values not finite."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sage_core.geometry.batched import invert, pointmap
from sage_core.losses import LabelledScenes, _vggt_dense, camera_loss, dense_loss, vggt_loss
from sage_core.losses._vggt_dense import normal_error, step_error, without_worst
from sage_core.models.vggt import encode_cameras

SIZE = 24


def scenes(batch=2, views=2, seed=0):
    """Bumpy surfaces in front of cameras that moved a little."""
    generator = torch.Generator().manual_seed(seed)
    depth = 2 + torch.rand(batch, views, SIZE, SIZE, generator=generator)
    cameras = torch.eye(3, 4).repeat(batch, views, 1, 1)
    cameras[..., 3] = 0.3 * torch.rand(batch, views, 3, generator=generator)
    K = torch.tensor([[20.0, 0, 12], [0, 22.0, 12], [0, 0, 1]]).expand(batch, views, 3, 3)
    points = pointmap(depth, K, invert(cameras))
    return LabelledScenes(cameras, K, points, depth, torch.ones_like(depth, dtype=torch.bool))


def perfect(truth, rounds=4):
    """What a model without any error would say, at confidence 1."""
    scenes = truth.normalised()
    code = encode_cameras(scenes.cam_from_world, scenes.intrinsics, SIZE, SIZE)
    return {
        "pose_enc_list": code[:, None].repeat(1, rounds, 1, 1),
        "depth": scenes.depth.clone(),
        "depth_conf": torch.ones_like(scenes.depth),
        "world_points": scenes.points.clone(),
        "world_points_conf": torch.ones_like(scenes.depth),
    }


def test_the_truth_costs_nothing():
    truth = scenes()
    terms = vggt_loss(perfect(truth), truth)
    assert terms.total.item() == pytest.approx(0, abs=1e-5)


@settings(max_examples=25)
@given(st.floats(0.1, 10), st.floats(-1, 1), st.floats(-1, 1))
def test_unit_and_world_of_the_truth_do_not_matter(unit, x, angle):
    truth = scenes()
    moved = torch.eye(3, 4)
    moved[0, 0] = moved[1, 1] = torch.tensor(angle).cos()
    moved[0, 1], moved[1, 0] = -torch.tensor(angle).sin(), torch.tensor(angle).sin()
    moved[0, 3] = x
    back = torch.cat((invert(moved), torch.tensor([[0, 0, 0, 1.0]])))
    points = (truth.points @ moved[:, :3].T + moved[:, 3]) * unit
    cameras = truth.cam_from_world @ back
    cameras = torch.cat((cameras[..., :3], unit * cameras[..., 3:]), -1)
    other = LabelledScenes(cameras, truth.intrinsics, points, unit * truth.depth, truth.valid)
    a, b = truth.normalised(), other.normalised()
    torch.testing.assert_close(b.points, a.points, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(b.depth, a.depth, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(b.cam_from_world, a.cam_from_world, rtol=1e-4, atol=1e-4)


def test_each_scene_has_its_own_scale():
    truth = scenes().normalised()
    for item in range(2):
        assert truth.points[item].norm(dim=-1).mean().item() == pytest.approx(1, abs=1e-4)
        torch.testing.assert_close(truth.cam_from_world[item, 0], torch.eye(3, 4))


def test_what_lies_under_the_mask_does_not_matter():
    truth = scenes()
    valid = truth.valid.clone()
    valid[:, 1, :, :5] = False
    points, depth = truth.points.clone(), truth.depth.clone()
    points[~valid], depth[~valid] = float("nan"), float("inf")
    a = LabelledScenes(truth.cam_from_world, truth.intrinsics, truth.points, truth.depth, valid)
    b = LabelledScenes(truth.cam_from_world, truth.intrinsics, points, depth, valid)
    wrong = {k: (1.1 * v).requires_grad_() for k, v in perfect(a).items()}
    ours, theirs = vggt_loss(wrong, a), vggt_loss(wrong, b)
    assert ours.total.item() == pytest.approx(theirs.total.item(), rel=1e-5)
    theirs.total.backward()
    assert all(v.grad.isfinite().all() for v in wrong.values())


def test_rounds_count_less_the_earlier_they_are():
    truth = scenes(batch=1)
    costs = []
    for number in range(4):
        native = perfect(truth)
        native["pose_enc_list"][:, number, :, 0] += 1.0
        costs.append(vggt_loss(native, truth).camera.translation.item())
    assert costs == pytest.approx([0.6 ** (3 - i) / 3 / 4 for i in range(4)], rel=1e-4)


def test_scenes_with_an_empty_view_0_say_nothing_of_cameras():
    """More than 100 pixels are needed, in view 0; without any such scene the loss is 0 and no NaN."""
    rounds = torch.zeros(2, 4, 3, 9, requires_grad=True)
    codes = torch.zeros(2, 3, 9)
    codes[0] += 1.0
    valid = torch.ones(2, 3, SIZE, SIZE, dtype=torch.bool)
    both = camera_loss(rounds, codes, valid)
    valid[0, 0].flatten()[:] = False
    valid[0, 0].view(-1)[:100] = True
    assert camera_loss(rounds, codes, valid).total.item() == 0
    valid[0, 0].view(-1)[:101] = True
    assert camera_loss(rounds, codes, valid).total.item() == both.total.item() > 0
    valid[:, 0] = False
    nothing = camera_loss(rounds, codes, valid)
    nothing.total.backward()
    assert nothing.total.item() == 0
    assert not rounds.grad.any()


def test_a_wild_translation_is_clamped_and_a_wild_angle_is_not():
    codes, rounds = torch.zeros(1, 2, 9), torch.zeros(1, 4, 2, 9)
    rounds[..., 0], rounds[..., 7] = 1e6, 1e6
    terms = camera_loss(rounds, codes, torch.ones(1, 2, SIZE, SIZE, dtype=torch.bool))
    weights = sum(0.6**i for i in range(4)) / 4
    assert terms.translation.item() == pytest.approx(weights * 100 / 3)
    assert terms.fov.item() == pytest.approx(weights * 1e6 / 2)
    assert terms.total.item() == pytest.approx(terms.translation.item() + terms.fov.item() / 2)


def dense(error, conf, valid=None, shape="steps"):
    predicted = error[..., None].clone()
    mask = torch.ones_like(error, dtype=torch.bool) if valid is None else valid
    return dense_loss(predicted, conf, torch.zeros_like(predicted), mask, shape)


def test_confidence_weighs_errors():
    error = torch.full((1, 1, SIZE, SIZE), 0.5)
    conf = torch.full_like(error, 3.0)
    terms = dense(error, conf)
    assert terms.reg.item() == pytest.approx(0.5)
    assert terms.conf.item() == pytest.approx(1.5 - 0.2 * torch.tensor(3.0).log().item())
    assert terms.grad.item() == 0
    assert dense(0 * error, conf).total < 0


def test_errors_are_clamped_and_what_is_not_finite_counts_nothing():
    error = torch.zeros(1, 1, SIZE, SIZE)
    error[0, 0, 0, :4] = torch.tensor([1e4, float("nan"), float("inf"), 1e30])
    predicted = error[..., None].clone().requires_grad_()
    conf = torch.ones_like(error)
    conf[0, 0, 1, :2] = torch.tensor([float("inf"), float("nan")])
    conf.requires_grad_()
    mask = torch.ones_like(error, dtype=torch.bool)
    terms = dense_loss(predicted, conf, torch.zeros_like(predicted), mask, "steps")
    # 1e30 squared is no float32: as a length it is infinite, and counts nothing like it.
    assert terms.reg.item() == pytest.approx(100 / SIZE**2)
    assert terms.conf.item() == pytest.approx(100 / SIZE**2)
    terms.total.backward()
    assert predicted.grad.isfinite().all()
    assert conf.grad.isfinite().all()


@pytest.mark.parametrize(("count", "silent"), [(99, True), (100, False)])
def test_a_hundred_valid_pixels_are_needed(count, silent):
    error = torch.ones(1, 1, SIZE, SIZE)
    valid = torch.zeros(1, 1, SIZE, SIZE, dtype=torch.bool)
    valid.view(-1)[:count] = True
    predicted = error[..., None].clone().requires_grad_()
    terms = dense_loss(predicted, 2 * error, torch.zeros_like(predicted), valid, "steps")
    assert (terms.total.item() == 0) is silent
    terms.total.backward()
    assert predicted.grad is not None
    assert predicted.grad.any().item() is not silent


@given(st.integers(1, 4000), st.sampled_from([0.5, 0.9, 0.98]))
def test_the_worst_are_left_out(count, share):
    """Against numpy's rank: those strictly below the value of that rank, where more than 1,000 remain."""
    generator = torch.Generator().manual_seed(count)
    values = 120 * torch.rand(count, generator=generator)
    kept = without_worst(values, share)
    if count <= 1000:
        assert torch.equal(kept, values)
        return
    clamped = values.clamp(max=100)
    threshold = clamped.sort().values[round(share * (count - 1))]
    below = clamped[clamped < threshold]
    assert torch.equal(kept, below if len(below) > 1000 else clamped)


def test_of_very_many_a_draw_is_looked_at(monkeypatch):
    """The same one for the same seed; what it leaves out is about what all of them would leave out."""
    monkeypatch.setattr(_vggt_dense, "MOST_RANKED", 20_000)
    monkeypatch.setattr(_vggt_dense, "DRAWN", 5_000)
    values = torch.linspace(0, 50, 30_000)
    torch.manual_seed(1)
    kept = without_worst(values, 0.9)
    torch.manual_seed(1)
    assert torch.equal(kept, without_worst(values, 0.9))
    assert len(kept) == pytest.approx(4_500, abs=5)
    assert kept.mean().item() == pytest.approx(22.5, rel=0.05)
    assert kept.max().item() == pytest.approx(45, rel=0.02)


def test_steps_are_counted_where_both_pixels_are_valid():
    error = torch.zeros(1, 4, 4, 1)
    error[0, 1, 1] = 3.0
    mask = torch.ones(1, 4, 4, dtype=torch.bool)
    zero = torch.zeros_like(error)
    assert step_error(error, zero, mask).item() == pytest.approx(4 * 3 / 16)
    mask[0, 1, 2] = False
    assert step_error(error, zero, mask).item() == pytest.approx(3 * 3 / 15)
    assert step_error(1e4 * error, zero, mask).item() == pytest.approx(3 * 100 / 15)
    assert step_error(error, zero, torch.zeros_like(mask)).item() == 0


def plane(slope):
    y, x = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    return torch.stack((x, y, slope * x), -1)[None]


def test_normals_are_compared_by_angle():
    mask = torch.ones(1, 8, 8, dtype=torch.bool)
    assert normal_error(plane(0.5), plane(0.5), mask).item() == pytest.approx(0, abs=1e-6)
    assert normal_error(plane(0.0), plane(1.0), mask).item() == pytest.approx(1 - 0.5**0.5)
    assert normal_error(7 * plane(0.0), plane(0.0), mask).item() == pytest.approx(0, abs=1e-6)


def test_ten_normals_are_needed():
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[0, :2, :2] = True  # four corners of two neighbours each: 4 normals
    points = plane(0.0).requires_grad_()
    assert normal_error(points, plane(1.0), mask).item() == 0
    mask[0, :3, :3] = True
    error = normal_error(points, plane(1.0), mask)
    assert error.item() == pytest.approx(1 - 0.5**0.5)
    error.backward()
    assert points.grad.isfinite().all()
    assert not points.grad[0, 4:].any()


def test_without_the_point_head_there_is_no_point_loss():
    truth = scenes()
    native = {k: 1.1 * v for k, v in perfect(truth).items()}
    depth_only = {k: v for k, v in native.items() if not k.startswith("world_points")}
    with_points, without = vggt_loss(native, truth), vggt_loss(depth_only, truth)
    assert without.points is None
    assert with_points.total.item() == pytest.approx(
        without.total.item() + with_points.points.total.item()
    )
    expected = 5 * without.camera.total + without.depth.total
    assert without.total.item() == pytest.approx(expected.item())
