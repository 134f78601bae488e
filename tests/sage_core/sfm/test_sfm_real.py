"""Real clips: those that must pass, those that must not, and the kitchen against its ground truth."""

import os
from pathlib import Path

import numpy as np
import pytest

from sage_core.config.reconstruct import ReconstructConfig
from sage_core.geometry import camera_centres, invert, umeyama
from sage_core.sfm import load_clip_model, reconstruct
from sage_core.types import Clip, Reason, Verdict

SHARED = Path(os.environ.get("SAGE_SHARED", Path(__file__).parents[4] / "shared"))
DATA = SHARED / "data"
KITCHEN = DATA / "rgbd" / "7scenes" / "redkitchen" / "seq-01"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.shared,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"needs {DATA} (set SAGE_SHARED)"),
]


def _video_clip(start, end, key_step):
    keys = list(range(start, end, key_step))
    pose = sorted({*keys, *range(start, keys[-1] + 1, 5)})
    return Clip(
        item="clip", video="video", start_frame=start, end_frame=end, start_s=start / 30,
        end_s=end / 30, fps=30.0, width=0, height=0, key_frames=keys, pose_frames=pose,
        times_s=[frame / 30 for frame in pose],
    )  # fmt: skip


def _photo_clip(count):
    frames = list(range(count))
    return Clip(
        item="photos", video="photos", start_frame=0, end_frame=count, start_s=0, end_s=count,
        fps=1.0, width=0, height=0, key_frames=frames, pose_frames=frames,
        times_s=[float(frame) for frame in frames], ordered=False,
    )  # fmt: skip


def _run(media, clip, out):
    return reconstruct(clip, DATA / media, out, ReconstructConfig(), seed=7)


def test_kitchen_against_its_ground_truth(tmp_path):
    clip = _video_clip(0, 600, 15)
    result = _run("videos/7scenes_redkitchen_30fps.mp4", clip, tmp_path / "out")
    assert result.judgement.verdict is Verdict.ACCEPTED
    model = load_clip_model(tmp_path / "out")
    between = set(clip.pose_frames) - set(clip.key_frames)
    posed = {frame.frame for frame in model.frames if not frame.mapped}
    assert len(posed) / len(between) >= 0.95
    frames = [f for f in model.frames if (KITCHEN / f"frame-{f.frame:06d}.pose.txt").exists()]
    truth = np.stack([np.loadtxt(KITCHEN / f"frame-{f.frame:06d}.pose.txt")[:3, 3] for f in frames])
    centres = camera_centres(np.stack([f.cam_from_world for f in frames]))
    metric = umeyama(truth, centres)
    miss_m = np.linalg.norm(metric.points(centres) - truth, axis=1)
    # Of which about 3 cm is the offset of the depth camera, whose poses the truth holds.
    assert np.sqrt((miss_m**2).mean()) < 0.045
    assert len(frames) == 59


@pytest.mark.parametrize(
    ("video", "start", "end", "key_step"),
    [
        ("clinic_walkthrough.mp4", 25, 545, 10),
        ("clinic_waiting_to_treatment.mp4", 25, 510, 10),
        ("drone_cafe_pullback.mp4", 0, 305, 10),
    ],
)
def test_good_videos_pass(tmp_path, video, start, end, key_step):
    clip = _video_clip(start, end, key_step)
    result = _run(f"videos/{video}", clip, tmp_path / "out")
    assert result.judgement.verdict is Verdict.ACCEPTED, result.judgement.message
    assert result.judgement.figures["posed_share"].value >= 0.95


@pytest.mark.parametrize(
    ("video", "end", "key_step"),
    [
        ("cockatoo_closeup_seekhostile.mp4", 280, 7),
        ("tokyo_walk_generated.mp4", 195, 5),
        ("slideshow_sofa.mp4", 376, 8),
    ],
)
def test_bad_videos_do_not(tmp_path, video, end, key_step):
    """Not the cartoon: its first shot is a rendered scene, rigid, that a camera travels past."""
    clip = _video_clip(0, end, key_step)
    result = _run(f"negatives/{video}", clip, tmp_path / "out")
    assert result.judgement.verdict is Verdict.REJECTED
    wanted = {Reason.SFM_NOT_CONVERGED, Reason.QUALITY_GATE, Reason.NO_PARALLAX}
    assert result.judgement.reason in wanted


@pytest.mark.parametrize(("photos", "count"), [("sceaux_castle", 11), ("fox/images", 25)])
def test_all_photos_register(tmp_path, photos, count):
    result = _run(f"images/{photos}", _photo_clip(count), tmp_path / "out")
    assert result.judgement.verdict is Verdict.ACCEPTED, result.judgement.message
    assert len(load_clip_model(tmp_path / "out").frames) == count


def test_fox_agrees_with_the_published_poses(tmp_path):
    import json

    folder = DATA / "images" / "fox"
    published = json.loads((folder / "transforms.json").read_text())["frames"]
    world_from_cam = {Path(f["file_path"]).name: np.array(f["transform_matrix"]) for f in published}
    names = sorted(path.name for path in (folder / "images").iterdir())
    _run("images/fox/images", _photo_clip(len(names)), tmp_path / "out")
    model = load_clip_model(tmp_path / "out")
    truth = np.stack([world_from_cam[names[f.frame]][:3, 3] for f in model.frames])
    centres = camera_centres(np.stack([f.cam_from_world for f in model.frames]))
    aligned = umeyama(truth, centres).points(centres)
    miss = np.linalg.norm(aligned - truth, axis=1) / np.linalg.norm(np.ptp(truth, axis=0))
    assert np.sqrt((miss**2).mean()) < 0.005
    assert np.isfinite(invert(np.stack([f.cam_from_world for f in model.frames]))).all()
