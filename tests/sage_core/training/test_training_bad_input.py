"""Input that cannot be trained on ends in a named error, in ``result.json`` and in the exit status."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from room_shards import room_clip

from sage_core.errors import SageError, ShardError, TrainingError
from sage_core.models import MVDust3rConfig, build_model, save_model
from sage_core.shards import ShardWriter
from sage_core.training import TrainSettings, launch
from sage_core.training import run as training_run
from sage_core.training.run import train
from sage_core.types import Reason


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    path = tmp_path_factory.mktemp("base") / "tiny.safetensors"
    widths = MVDust3rConfig(32, 8, 32, 1, 2, 32, 1, 2, skip_dim=4, gs_mlp_dim=16)
    save_model(build_model(widths, seed=1), path)
    return path


@pytest.fixture(scope="module")
def clip():
    return room_clip(0, 12, 60)


def shard(folder, clip, change=lambda frame: frame, **info):
    """A shard of the clip of which every frame was changed; ``info`` replaces fields of the clip's row."""
    about, frames, cloud = clip
    with ShardWriter(folder, "bad") as writer:
        writer.add(replace(about, **info), [change(frame) for frame in frames], cloud)
    return writer.frames_path


def settings(base, tmp_path, *parts):
    datasets = [{"name": "walks", "parts": [{"path": str(path)} for path in parts]}]
    return TrainSettings.model_validate(
        {
            "adapt": {
                "base": str(base),
                "steps": 2,
                "sampling": {"n_context": 3, "n_targets": 1, "interval_frames": 5},
                "loss": {"perceptual": "none"},
                "regularisation": {"enabled": False},
                "optimizer": {"batch": 1},
                "device": "cpu",
                "threads": 1,
            },
            "datasets": datasets if parts else [],
            "out": str(tmp_path / "run"),
        }
    )


def nowhere(pose):
    return np.full_like(pose, np.nan)


def as_png(frame):
    return replace(frame, image=b"\x89PNG\r\n\x1a\n" + frame.image)


def cut_short(frame):
    return replace(frame, image=b"\xff\xd8\xff")


def lost(frame):
    return replace(frame, cam_from_world=nowhere(frame.cam_from_world))


BAD = {
    "a frame without pose": (
        lost,
        {},
        Reason.NOT_FINITE,
        "frame .* of clip v0000.* not finite: assemble",
    ),
    "no JPEG": (as_png, {}, Reason.UNREADABLE, "frame .* of clip v0000.* is not a JPEG: assemble"),
    "half a JPEG": (cut_short, {}, Reason.UNREADABLE, "frame .* is not a JPEG: assemble"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_frames_are_named_with_what_to_do(base, clip, tmp_path, what):
    change, info, reason, message = BAD[what]
    run = settings(base, tmp_path, shard(tmp_path, clip, change, **info))
    with pytest.raises(ShardError, match=message) as caught:
        train(run)
    assert caught.value.reason is reason
    written = json.loads((run.folder / "result.json").read_text())
    assert (written["status"], written["reason"]) == ("failed", reason.value)
    assert written["message"] == str(caught.value)
    assert "Traceback" not in written["message"]


def test_a_clip_with_a_pose_that_is_not_finite_is_named(base, clip, tmp_path):
    poses = clip[0].cam_from_world.copy()
    poses[3] = np.nan
    run = settings(base, tmp_path, shard(tmp_path, clip, cam_from_world=poses))
    with pytest.raises(ShardError, match=r"clip v0000.* not finite: assemble it again"):
        train(run)
    assert json.loads((run.folder / "result.json").read_text())["reason"] == "not_finite"


def test_nothing_to_train_on_is_named(base, tmp_path):
    with pytest.raises(TrainingError, match=r"no shards were given.*sage assemble"):
        train(settings(base, tmp_path))
    empty = settings(base, tmp_path).model_copy(update={"datasets": ()})
    part = TrainSettings.model_validate(
        {**empty.model_dump(), "datasets": [{"name": "walks", "parts": []}]}
    )
    with pytest.raises(TrainingError, match="data set walks names no shards"):
        train(part)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ShardError, match=r"no shards in .*folder"):
        train(settings(base, tmp_path, tmp_path / "folder"))
    with pytest.raises(ShardError, match="no shard file"):
        train(settings(base, tmp_path, tmp_path / "frames-x.parquet"))


def test_the_run_goes_on_once_the_shard_was_mended(base, clip, tmp_path):
    path = shard(tmp_path, clip, as_png)
    run = settings(base, tmp_path, path)
    with pytest.raises(ShardError):
        train(run)
    shard(tmp_path, clip)
    train(run.model_copy(update={"inputs": "mended"}))
    assert json.loads((run.folder / "result.json").read_text())["status"] == "finished"


def test_an_error_that_nobody_foresaw_has_a_line_too(base, clip, tmp_path, monkeypatch):
    def fail(*_):
        raise KeyError("surprise")

    monkeypatch.setattr(training_run, "build", fail)
    run = settings(base, tmp_path, shard(tmp_path, clip))
    with pytest.raises(KeyError):
        train(run)
    written = json.loads((run.folder / "result.json").read_text())
    assert written["reason"] == "internal_error"
    assert "KeyError: 'surprise'" in written["message"]
    assert "log.txt" in written["message"]


@pytest.mark.slow
@pytest.mark.parametrize("what", [*BAD, "nothing"])
def test_the_command_says_it_in_one_line_and_by_its_status(base, clip, tmp_path, what):
    parts = [] if what == "nothing" else [shard(tmp_path, clip, BAD[what][0])]
    file = tmp_path / "run.json"
    run = settings(base, tmp_path, *parts)
    file.write_text(run.model_dump_json())
    argv = [sys.executable, "-m", "sage_core.training", "--settings", str(file)]
    ran = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "Traceback" not in ran.stderr
    message = json.loads((run.folder / "result.json").read_text())["message"]
    assert ran.stderr.strip().splitlines()[-1] == message


@pytest.mark.slow
def test_who_launched_it_is_told_the_same(base, clip, tmp_path):
    run = settings(base, tmp_path, shard(tmp_path, clip, as_png))
    with pytest.raises(SageError, match="is not a JPEG") as caught:
        launch(run, wall_s=300)
    assert caught.value.reason is Reason.UNREADABLE
    assert not caught.value.retryable
