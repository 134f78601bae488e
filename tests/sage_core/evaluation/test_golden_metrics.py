"""Metrics against numbers recorded from the published evaluation code."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

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
from sage_core.geometry import invert, transform

GOLDEN = Path(os.environ.get("SAGE_GOLDEN", Path(__file__).parents[3].parent / "shared" / "golden"))
FOLDERS = sorted(folder.parent for folder in GOLDEN.glob("mvdust3r*/losses.npz"))

pytestmark = pytest.mark.skipif(
    not FOLDERS, reason=f"no golden metrics mvdust3r*/losses.npz under {GOLDEN} (set SAGE_GOLDEN)"
)


@pytest.fixture(scope="module", params=FOLDERS, ids=lambda folder: folder.name)
def recorded(request):
    with np.load(request.param / "losses.npz") as data:
        arrays = {k: data[k] for k in data.files}
    return arrays, json.loads((request.param / "losses.json").read_text())


def rows(views, references):
    """Row b·R + r with the slots 0 and r swapped, batch first."""
    out = np.repeat(views.swapaxes(0, 1), references, axis=0).copy()
    for row in range(len(out)):
        r = row % references
        out[row, [0, r]] = out[row, [r, 0]]
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


def test_golden_test_time_loss(recorded):
    """Pooled over the batch, not averaged over tuples: pins alignment where view errors cancel."""
    arrays, said = recorded
    errors, counts = [], []
    for points, truth, valid in tuples(arrays, "pred2_pts_ref"):
        aligned, centred = align(points, truth, valid)
        errors.append((np.linalg.norm(aligned - centred, axis=-1) * valid).sum((1, 2)))
        counts.append(valid.sum((1, 2)))
    total = (np.sum(errors, 0) / np.sum(counts, 0)).sum()
    assert total == pytest.approx(said["test2_criterion_value"], abs=1e-4)


def test_golden_several_references(recorded):
    arrays, said = recorded
    references = said["mref_n_ref"]
    scores = [pointmap_scores(*s) for s in tuples(arrays, "mref_pred_pts", references)]
    assert [s.nd for s in scores] == pytest.approx(said["mref_test_pts3d_list"], abs=1e-4)
    assert [s.cd for s in scores] == pytest.approx(said["mref_test_cd_list"], abs=1e-4)
    first = np.mean([s.nd for s in scores[::references]])
    assert first == pytest.approx(said["mref_test_pts3d_first"], abs=1e-4)


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
