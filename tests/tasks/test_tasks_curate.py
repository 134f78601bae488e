"""The task: a verdict on the video and its clips in one commit, files in place, nothing half done."""

import subprocess

import imageio_ffmpeg
import pytest

from data_catalog import Workspace
from sage_core.config import SageConfig
from sage_core.types import Judgement, Reason, Stage
from tasks._inputs import reconstruct_inputs
from tasks._plan import Selection, accepted_clips, plan_curate
from tasks._unit import Outcome, judge
from tasks.curate import curate_video

ITEM = "v0123456789abcdef"


@pytest.fixture
def config() -> SageConfig:
    curate = {"min_duration_s": 2, "min_clip_s": 2, "min_short_side_px": 100}
    return SageConfig.model_validate({"curate": curate})


def acquired(root, config, source: str) -> Workspace:
    """A workspace with one accepted video, drawn by ffmpeg's own source of that name."""
    ws = Workspace.open(root / "ws")
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    with ws.store.scratch() as area:
        path = area / "source.mp4"
        command = [ffmpeg, "-loglevel", "error", "-f", "lavfi", "-i", source, "-pix_fmt", "yuv420p"]
        subprocess.run([*command, str(path)], check=True)
        video = ws.store.publish(path, f"videos/{ITEM}/source.mp4")
    judge(
        ws,
        item=ITEM,
        stage=Stage.ACQUIRE,
        source=source,
        parent=None,
        config=config,
        input_hash="x",
        run="r1",
        work=lambda: Outcome(Judgement.accept(), {"video": video}),
    )
    return ws


def test_a_still_video_is_judged_with_its_clip(tmp_path, config):
    ws = acquired(tmp_path, config, "testsrc2=size=320x240:rate=30:duration=3")
    answer = curate_video.fn(str(ws.root), ITEM, config, "r1")
    assert answer["verdict"] == "rejected"
    event = ws.catalog.find(ITEM, "curate")
    assert ws.store.verify(event.artifacts["curation"], deep=True)
    assert ws.store.verify(event.artifacts["contact"], deep=True)
    clips = ws.catalog.latest("curate", parent=ITEM)
    assert [clip.item for clip in clips] == event.details["children"]
    for clip in clips:
        assert clip.reason
        assert clip.figures["travel_per_10s"]["threshold"] == config.curate.min_travel
        assert clip.details["clip"]["video"] == ITEM
    assert accepted_clips(ws) == []
    assert plan_curate(ws, config, Selection()).missing == []


def test_thresholds_change_the_verdict_and_the_plan(tmp_path, config):
    ws = acquired(tmp_path, config, "testsrc2=size=320x240:rate=30:duration=3")
    curate_video.fn(str(ws.root), ITEM, config, "r1")
    loose = {
        "max_frozen_share": 1, "max_flat_share": 1, "max_clipped_share": 1, "min_sharpness": 0,
        "min_travel": 0, "min_rigid_share": 0, "max_moving_share": 1, "min_parallax_share": 0,
        "max_lost_share": 1, "max_overlay_share": 1,
    }  # fmt: skip
    config = config.model_copy(update={"curate": config.curate.model_copy(update=loose)})
    assert len(plan_curate(ws, config, Selection()).missing) == 1
    assert curate_video.fn(str(ws.root), ITEM, config, "r2")["verdict"] == "accepted"
    clip = accepted_clips(ws)[0]
    assert reconstruct_inputs(ws, clip).details["clip"]["item"] == clip


def test_a_damaged_video_fails_and_says_why(tmp_path, config):
    ws = acquired(tmp_path, config, "testsrc2=size=320x240:rate=30:duration=3")
    path = ws.store.path(f"videos/{ITEM}/source.mp4")
    data = bytearray(path.read_bytes())
    data[2_000:-4_000] = b"\xa5" * (len(data) - 6_000)
    path.write_bytes(bytes(data))
    answer = curate_video.fn(str(ws.root), ITEM, config, "r1")
    event = ws.catalog.find(ITEM, "curate")
    assert answer["verdict"] == "failed"
    assert event.reason in (Reason.DECODE_ERROR, Reason.TRUNCATED, Reason.UNREADABLE)
    assert not event.retryable
    assert not event.artifacts
