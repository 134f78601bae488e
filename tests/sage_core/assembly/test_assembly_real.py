"""A real video through COLMAP into a shard."""

import os
from pathlib import Path

import numpy as np
import pytest

from sage_core.assembly import ClipInputs, assemble_clip
from sage_core.config import SageConfig
from sage_core.config.sampling import SamplingConfig
from sage_core.sfm import reconstruct
from sage_core.shards import ShardReader, draw_trajectory
from sage_core.shards.validate import validate
from sage_core.types import Clip, Verdict
from sage_core.video.frames import open_frames

SHARED = Path(os.environ.get("SAGE_SHARED", Path(__file__).parents[4] / "shared"))
VIDEO = SHARED / "data" / "videos" / "7scenes_redkitchen_30fps.mp4"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.shared,
    pytest.mark.skipif(not VIDEO.is_file(), reason=f"needs {VIDEO} (set SAGE_SHARED)"),
]


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kitchen")
    times = open_frames(VIDEO).info.times_s
    poses = list(range(0, 300, 5))
    clip = Clip(
        item="v0000000000000000_000000_000300",
        video="v0000000000000000",
        start_frame=0,
        end_frame=300,
        start_s=0.0,
        end_s=10.0,
        fps=30.0,
        width=640,
        height=480,
        key_frames=poses[::2],
        pose_frames=poses,
        times_s=[float(times[frame]) for frame in poses],
    )
    config = SageConfig()
    done = reconstruct(clip, VIDEO, folder / "sfm", config.reconstruct, 1)
    assert done.judgement.verdict is Verdict.ACCEPTED
    (folder / "shard").mkdir()
    inputs = ClipInputs(clip, VIDEO, folder / "sfm", str(VIDEO))
    judgement = assemble_clip(inputs, folder / "shard", config.assemble, 1)
    assert judgement.verdict is Verdict.ACCEPTED, judgement
    return folder / "shard"


def test_perturbed_and_linear_draw_different_sets_from_a_real_clip(kitchen):
    reader = ShardReader([kitchen])
    clip = reader.clip(reader.names[0])
    linear, perturbed = (
        {
            tuple(draw_trajectory(clip, config, np.random.default_rng(seed)).context)
            for seed in range(60)
        }
        for config in (SamplingConfig(mode="linear"), SamplingConfig())
    )
    steps = {tuple(np.diff(clip.frames[list(context)])) for context in linear}
    assert steps == {(20,) * 7}
    assert len(perturbed) > 2 * len(linear)
    jittered = np.concatenate([np.diff(clip.frames[list(context)]) for context in perturbed])
    assert {10, 15, 20, 25, 30} <= set(jittered.tolist())


def test_a_real_clip_keeps_every_promise(kitchen):
    assert validate([kitchen]) == []
    reader = ShardReader([kitchen])
    clip = reader.clip(reader.names[0])
    anchors = [len(frame.anchors) for frame in reader.frames(clip, range(clip.n_frames))]
    assert np.median(anchors) > 60
    assert {t.mode for t in clip.trajectories} == {"perturbed", "covisibility"}
    assert all(0 <= t.score <= 1 for t in clip.trajectories)
