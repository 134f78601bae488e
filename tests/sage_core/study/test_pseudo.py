"""Pseudo depth changes the depth of anchors, and nothing else, by as much as it says."""

import numpy as np
import pytest

from sage_core.shards import ShardReader
from sage_core.study.pseudo import SHARD, DepthErrors, write_pseudo_shard, wrong_depth
from sage_core.world.clips import RoomClip, write_room_shard


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    write_room_shard(folder, [RoomClip(seed) for seed in range(2)])
    return folder


def frames_of(folder, name):
    reader = ShardReader([folder])
    return reader.frames(reader.clip(name), range(reader.clip(name).n_frames))


def test_only_depth_differs_and_the_same_seed_gives_the_same_bytes(shards, tmp_path):
    write_pseudo_shard([str(shards)], tmp_path / "a", seed=3)
    write_pseudo_shard([str(shards)], tmp_path / "b", seed=3)
    file = f"frames-{SHARD}.parquet"
    assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    names = ShardReader([shards]).names
    assert ShardReader([tmp_path / "a"]).names == names
    for ours, theirs in zip(
        frames_of(tmp_path / "a", names[0]), frames_of(shards, names[0]), strict=True
    ):
        assert ours.image == theirs.image
        assert np.array_equal(ours.anchors.xy, theirs.anchors.xy)
        assert np.array_equal(ours.cam_from_world, theirs.cam_from_world)
        assert not np.allclose(ours.anchors.depth, theirs.anchors.depth)


def log_errors(shards, errors):
    name = ShardReader([shards]).names[0]
    frames = list(frames_of(shards, name))
    return [
        [np.log(w.anchors.depth / f.anchors.depth)
         for w, f in zip(wrong_depth(frames, seed, errors), frames, strict=True)]
        for seed in range(60)
    ]  # fmt: skip


def test_errors_are_as_large_as_asked_for(shards):
    drift = np.array(
        [[np.mean(x) for x in run] for run in log_errors(shards, DepthErrors(0.1, 0.9, 0.0))]
    )
    assert drift.std() == pytest.approx(0.1, rel=0.25)
    steps = np.diff(drift, axis=1).std()
    assert steps == pytest.approx(0.1 * np.sqrt(2 * (1 - 0.9)), rel=0.25)
    warp = np.concatenate(
        [np.concatenate(run) for run in log_errors(shards, DepthErrors(0.0, 0.0, 0.08))]
    )
    assert warp.std() == pytest.approx(0.08, rel=0.35)
