"""Metrics against numbers recorded from the published evaluation code."""

import json

import numpy as np
import pytest
from golden_sets import file_of, golden_sets, needs_golden

from sage_core.errors import ConfigError
from sage_core.evaluation.metrics import (
    align,
    focal_from_pointmap,
    pointmap_scores,
    pose_accuracy,
    pose_errors,
    psnr,
    ssim,
    view_errors,
)
from sage_core.evaluation.published_tuples import cover, cover_score, joins, order_at_test
from sage_core.geometry import (
    intrinsics_matrix,
    intrinsics_vector,
    invert,
    pixel_centres,
    transform,
    unproject,
)

pytestmark = needs_golden("mvdust3r")


@pytest.fixture(scope="module", params=golden_sets("mvdust3r"), ids=lambda folder: folder.name)
def recorded(request):
    with np.load(file_of(request.param, "losses.npz")) as data:
        arrays = {k: data[k] for k in data.files}
    return arrays, json.loads(file_of(request.param, "losses.json").read_text())


def rows(views, references):
    """Row b·R + r with the slots 0 and r swapped, batch first."""
    out = np.repeat(views.swapaxes(0, 1), references, axis=0).copy()
    for row in range(len(out)):
        r = row % references
        out[row, [0, r]] = out[row, [r, 0]]
    return out


def unswapped(rows_of_views, references):
    """Figures [B·R, V] of rows with the slots 0 and r swapped, as [B, R, V] with each view in its place."""
    out = rows_of_views.reshape(-1, references, rows_of_views.shape[-1]).copy()
    for r in range(references):
        out[:, r, [0, r]] = out[:, r, [r, 0]]
    return out


def tuples(arrays, prediction, references=1):
    predicted = arrays[prediction].swapaxes(0, 1)
    views = predicted.shape[1]
    truth = rows(arrays["gt_pts_world"][:views], references)
    poses = rows(arrays["camera_pose_c2w"][:views], references)
    valid = rows(arrays["valid_mask"][:views], references)
    for points, world, pose, mask in zip(predicted, truth, poses, valid, strict=True):
        flat = transform(invert(pose[0][:3].astype(np.float64)), world.reshape(-1, 3))
        yield points, flat.reshape(world.shape), mask


def test_golden_alignment(recorded):
    arrays, _ = recorded
    for item, (points, truth, valid) in enumerate(tuples(arrays, "pred_pts_ref")):
        aligned, centred = align(points, truth, valid)
        expected = arrays["test_aligned_pred"][:, item], arrays["test_aligned_gt"][:, item]
        np.testing.assert_allclose(aligned[valid], expected[0][valid], atol=1e-4)
        np.testing.assert_allclose(centred[valid], expected[1][valid], atol=1e-4)


def test_golden_world_points_follow_from_depth_and_cameras(recorded):
    """The published cameras have whole-numbered pixel centres: half a pixel turns them into ours."""
    arrays, _ = recorded
    for v, i in np.ndindex(arrays["depth"].shape[:2]):
        depth, mask = arrays["depth"][v, i].astype(np.float64), arrays["valid_mask"][v, i]
        fx, fy, cx, cy = intrinsics_vector(arrays["camera_intrinsics"][v, i].astype(np.float64))
        K = intrinsics_matrix([fx, fy, cx + 0.5, cy + 0.5])
        height, width = depth.shape
        camera = unproject(K, pixel_centres(width, height).reshape(-1, 2), depth.ravel())
        pose = arrays["camera_pose_c2w"][v, i, :3].astype(np.float64)
        world = transform(pose, camera).reshape(height, width, 3)
        np.testing.assert_allclose(world[mask], arrays["gt_pts_world"][v, i][mask], atol=1e-4)


@pytest.mark.parametrize(
    ("prediction", "prefix"), [("pred_pts_ref", "test"), ("pred2_pts_ref", "test2")]
)
def test_golden_nd_dac_cd(recorded, prediction, prefix):
    arrays, said = recorded
    scores = [pointmap_scores(*sample) for sample in tuples(arrays, prediction)]
    assert [s.nd for s in scores] == pytest.approx(said[f"{prefix}_pts3d_list"], abs=1e-4)
    assert [s.cd for s in scores] == pytest.approx(said[f"{prefix}_cd_list"], abs=1e-4)
    for threshold in (0.5, 0.3, 0.2, 0.1):
        if key := said.get(f"{prefix}_pts3d_{threshold}_accu_list"):
            assert [float(s.dac[threshold]) for s in scores] == key
    if prefix == "test":
        assert np.mean([s.nd for s in scores]) == pytest.approx(said["test_pts3d_first"], abs=1e-4)
        assert np.mean([s.cd for s in scores]) == pytest.approx(said["test_cd"], abs=1e-4)


@pytest.mark.parametrize(
    ("prediction", "prefix"), [("pred_pts_ref", "test"), ("pred2_pts_ref", "test2")]
)
def test_golden_test_time_loss(recorded, prediction, prefix):
    """Pooled over the batch, not averaged over tuples: pins alignment where view errors cancel."""
    arrays, said = recorded
    errors, counts = [], []
    for points, truth, valid in tuples(arrays, prediction):
        aligned, centred = align(points, truth, valid)
        errors.append((np.linalg.norm(aligned - centred, axis=-1) * valid).sum((1, 2)))
        counts.append(valid.sum((1, 2)))
    total = (np.sum(errors, 0) / np.sum(counts, 0)).sum()
    assert total == pytest.approx(said[f"{prefix}_criterion_value"], abs=1e-4)


def test_golden_several_references(recorded):
    arrays, said = recorded
    references = said["mref_n_ref"]
    scores = [pointmap_scores(*s) for s in tuples(arrays, "mref_pred_pts", references)]
    assert [s.nd for s in scores] == pytest.approx(said["mref_test_pts3d_list"], abs=1e-4)
    assert [s.cd for s in scores] == pytest.approx(said["mref_test_cd_list"], abs=1e-4)
    cd = np.reshape([s.cd for s in scores], (-1, references))
    assert cd[:, 0].mean() == pytest.approx(said["mref_test_cd_first"], abs=1e-4)
    assert cd.min(1).mean() == pytest.approx(said["mref_test_cd_best"], abs=1e-4)
    first = np.mean([s.nd for s in scores[::references]])
    assert first == pytest.approx(said["mref_test_pts3d_first"], abs=1e-4)
    per_view = np.stack(
        [view_errors(*align(p, t, v), v) for p, t, v in tuples(arrays, "mref_pred_pts", references)]
    )
    best = unswapped(per_view, references).min(1).mean()
    assert best == pytest.approx(said["mref_test_pts3d_best"], abs=1e-4)


def test_golden_view_errors(recorded):
    arrays, said = recorded
    per_view = np.stack(
        [view_errors(*align(p, t, v), v) for p, t, v in tuples(arrays, "pred_pts_ref")]
    )
    assert per_view[:, 0].mean() == pytest.approx(said["test_pts3d_1"], abs=1e-4)
    assert per_view[:, 1:].mean() == pytest.approx(said["test_pts3d_2"], abs=1e-4)


def test_golden_poses(recorded):
    arrays, said = recorded
    predicted, true = (
        invert(arrays[f"pose_{kind}_c2w"][:, :3].astype(np.float64)) for kind in ("pred", "gt")
    )
    rotation, translation = pose_errors(predicted, true)
    np.testing.assert_allclose(rotation, arrays["pose_rel_rot_deg"], atol=5e-3)
    np.testing.assert_allclose(translation, arrays["pose_rel_trans_deg"], atol=5e-3)
    accuracy = pose_accuracy(rotation, translation)
    assert accuracy.rra15 == pytest.approx(said["RRA15"], abs=1e-6)
    assert accuracy.rta15 == pytest.approx(said["RTA15"], abs=1e-6)
    assert accuracy.maa30 == pytest.approx(said["mAA30"], abs=1e-6)


def test_golden_focal(recorded):
    arrays, said = recorded
    ours = [
        focal_from_pointmap(points, conf)
        for points, conf in zip(arrays["focal_pts"], arrays["conf"][0], strict=True)
    ]
    assert ours == pytest.approx(said["focal"], rel=1e-4)


def test_golden_photometry(recorded):
    arrays, said = recorded
    truth, render = ((arrays[k].transpose(1, 2, 0) + 1) / 2 for k in ("photo_gt", "photo_render"))
    assert psnr(render, truth) == pytest.approx(said["psnr"], abs=1e-3)
    assert ssim(render, truth) == pytest.approx(said["ssim"], abs=1e-4)


def test_golden_overlap_of_point_clouds(recorded):
    arrays, said = recorded
    a, b = arrays["cover_a"], arrays["cover_b"]
    assert cover(a, b) == pytest.approx(said["cover_b_in_a"], abs=1e-6)
    assert cover(b, a) == pytest.approx(said["cover_a_in_b"], abs=1e-6)
    assert cover_score(a, b) == pytest.approx(said["cover_score"], abs=1e-6)


def test_golden_growth_of_tuples(recorded):
    for scores, low, high, answer in recorded[1]["ok_cases"]:
        assert joins(scores, low, high) is answer, (scores, low, high)


def test_golden_order_at_test(recorded):
    for name, order in recorded[1]["test_view_order_inputs"].items():
        assert order_at_test(*map(int, name.split("_"))) == order


def test_the_published_order_does_not_reach_beyond_the_inputs():
    with pytest.raises(ConfigError, match="3 inputs of 4 views"):
        order_at_test(4, 1)
