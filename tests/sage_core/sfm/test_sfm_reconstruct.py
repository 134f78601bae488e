import json

import box_room
import numpy as np
import pyarrow.parquet as pq
import pycolmap
import pytest

from sage_core.config.reconstruct import ReconstructConfig
from sage_core.errors import MediaError, SageError
from sage_core.geometry import camera_centres, rotation_angle_deg, umeyama
from sage_core.sfm import load_clip_model, model_anchors, reconstruct
from sage_core.types import Reason, Verdict

FRAMES = 25
CONFIG = ReconstructConfig()


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """A walk past the corner of a textured box, reconstructed: (folder, true poses, result)."""
    folder = tmp_path_factory.mktemp("room")
    poses = box_room.walk(FRAMES)
    box_room.photograph(folder / "media", poses)
    clip = box_room.make_clip(FRAMES, key_step=4, pose_step=2)
    result = reconstruct(clip, folder / "media", folder / "out", CONFIG, seed=1)
    return folder, poses, result


def test_room_is_accepted(room):
    _, _, result = room
    assert result.judgement.verdict is Verdict.ACCEPTED, result.judgement.message
    assert result.judgement.figures["registered_share"].value == 1.0
    assert result.judgement.figures["focal_sigma"].value < 0.005
    assert result.recipe == "fast"
    assert [attempt["recipe"] for attempt in result.attempts] == ["fast"]


def test_every_frame_has_the_true_pose(room):
    folder, poses, _ = room
    model = load_clip_model(folder / "out")
    frames = [frame.frame for frame in model.frames]
    assert frames == list(range(0, FRAMES, 2))
    assert [frame.mapped for frame in model.frames] == [f % 4 == 0 for f in frames]
    truth, found = poses[frames], np.stack([f.cam_from_world for f in model.frames])
    metric = umeyama(camera_centres(truth), camera_centres(found))
    aligned = metric.cameras(found)
    miss = np.linalg.norm(camera_centres(aligned) - camera_centres(truth), axis=1)
    turn = rotation_angle_deg(aligned[:, :, :3] @ np.swapaxes(truth[:, :, :3], 1, 2))
    assert miss.max() < 0.01  # metres, on a way of 3.6 m
    # A constant turn, which so short a path and the lens can share; frame to frame it is a tenth of that.
    assert turn.max() < 0.6
    assert np.ptp(turn) < 0.05
    assert abs(model.frames[0].camera.fx / box_room.FOCAL - 1) < 0.01


def test_anchors_lie_on_the_walls(room):
    folder, poses, _ = room
    model = load_clip_model(folder / "out")
    anchors = model_anchors(model)
    frames = [frame.frame for frame in model.frames]
    found = np.stack([frame.cam_from_world for frame in model.frames])
    metric = umeyama(camera_centres(poses[frames]), camera_centres(found))
    for index in frames:
        assert len(anchors[index]) > 100
        xyz = metric.points(model.xyz[anchors[index].row])
        off_the_wall = np.abs(np.abs(xyz) - box_room.HALF).min(1)
        assert np.median(off_the_wall) < 0.01
        assert (anchors[index].depth > 0).all()


def test_folder_is_what_colmap_and_the_next_stage_expect(room):
    folder, _, result = room
    out = folder / "out"
    assert sorted(path.name for path in out.iterdir()) == [
        "frames.parquet",
        "gate.json",
        "images",
        "sparse",
    ]
    colmap = pycolmap.Reconstruction(out / "sparse" / "0")
    names = {image.name for image in colmap.images.values()}
    assert names == {path.name for path in (out / "images").iterdir()}
    assert colmap.num_cameras() == 1
    rows = pq.read_table(out / "frames.parquet").to_pylist()
    assert [row["frame"] for row in rows] == list(range(0, FRAMES, 2))
    assert all(row["registered"] and len(row["cam_from_world"]) == 12 for row in rows)
    assert all(row["inliers"] >= 50 and row["reproj_px"] < 1 for row in rows)
    assert rows[3]["time_s"] == pytest.approx(0.6)
    gate = json.loads((out / "gate.json").read_text())
    assert gate["figures"]["reprojection_px"]["value"] == pytest.approx(
        result.judgement.figures["reprojection_px"].value
    )
    assert gate["pycolmap"] == pycolmap.__version__


def test_second_run_gives_the_same_bytes(room):
    folder, _, _ = room
    clip = box_room.make_clip(FRAMES, key_step=4, pose_step=2)
    reconstruct(clip, folder / "media", folder / "again", CONFIG, seed=1)
    for path in sorted((folder / "out").rglob("*.*")):
        again = folder / "again" / path.relative_to(folder / "out")
        assert again.read_bytes() == path.read_bytes(), path.name


def test_turning_on_the_spot_is_not_mapped(tmp_path):
    box_room.photograph(tmp_path / "media", box_room.turn(6))
    clip = box_room.make_clip(6, key_step=1, pose_step=1)
    result = reconstruct(clip, tmp_path / "media", tmp_path / "out", CONFIG, seed=1)
    assert result.judgement.reason is Reason.NO_PARALLAX
    assert "mapping" not in result.cpu_s


def test_static_camera_yields_no_model(tmp_path):
    box_room.photograph(tmp_path / "media", np.repeat(box_room.walk(5)[2:3], 6, 0))
    clip = box_room.make_clip(6, key_step=1, pose_step=1)
    config = CONFIG.model_copy(
        update={"gate": CONFIG.gate.model_copy(update={"min_rotation_residual_px": 0.0})}
    )
    result = reconstruct(clip, tmp_path / "media", tmp_path / "out", config, seed=1)
    assert result.judgement.reason is Reason.SFM_NOT_CONVERGED
    assert result.cpu_s["mapping"] > 0


def test_frames_without_matches_do_not_converge(tmp_path):
    poses = np.concatenate([box_room.walk(9)[:1]] * 6)
    for index in range(6):  # six boxes, each papered otherwise
        box_room.photograph(tmp_path / f"box{index}", poses[:1], seed=index)
    (tmp_path / "media").mkdir()
    for index in range(6):
        image = tmp_path / f"box{index}" / "0000.png"
        image.rename(tmp_path / "media" / f"{index:04d}.png")
    clip = box_room.make_clip(6, key_step=1, pose_step=1)
    result = reconstruct(clip, tmp_path / "media", tmp_path / "out", CONFIG, seed=1)
    assert result.judgement.reason is Reason.SFM_NOT_CONVERGED
    assert result.judgement.figures["verified_pairs"].value == 0


def test_memory_limit_ends_the_child(room, tmp_path):
    folder, _, _ = room
    clip = box_room.make_clip(FRAMES, key_step=4, pose_step=2)
    config = ReconstructConfig(max_memory_mb=64)
    with pytest.raises(SageError, match="over its limit of 64 MiB") as caught:
        reconstruct(clip, folder / "media", tmp_path / "out", config, seed=1)
    assert caught.value.judgement().verdict is Verdict.FAILED
    assert caught.value.reason is Reason.MEMORY_LIMIT


def test_cpu_limit_ends_the_mapping(room, tmp_path):
    folder, _, _ = room
    clip = box_room.make_clip(FRAMES, key_step=4, pose_step=4)
    config = ReconstructConfig(max_cpu_s=0.1)
    with pytest.raises(SageError, match=r"raise reconstruct\.max_cpu_s") as caught:
        reconstruct(clip, folder / "media", tmp_path / "out", config, seed=1)
    assert caught.value.reason is Reason.TIME_LIMIT
    assert not caught.value.retryable


def test_media_that_is_not_there_is_a_media_error(tmp_path):
    clip = box_room.make_clip(FRAMES, key_step=4, pose_step=2)
    with pytest.raises(MediaError, match="nowhere"):
        reconstruct(clip, tmp_path / "nowhere", tmp_path / "out", CONFIG, seed=1)
