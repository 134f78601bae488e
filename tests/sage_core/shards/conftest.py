"""Two clips of exact geometry, and a shard of them."""

from dataclasses import replace

import pytest
from shard_scene import make_clip

from sage_core.shards import ShardWriter, Trajectory


@pytest.fixture(scope="session")
def clips():
    trajectory = Trajectory([0, 4, 8], [2, 6], "perturbed", 0.5, 0.1, 1.0, 1.3, 0.7)
    first, *rest = make_clip("v0_000000_000200", n=21)
    return [
        (replace(first, trajectories=[trajectory]), *rest),
        make_clip("v1_000000_000090", n=9, seed=1),
    ]


@pytest.fixture
def shard(tmp_path, clips):
    with ShardWriter(tmp_path, "abc", row_group_frames=8) as writer:
        for clip in clips:
            writer.add(*clip)
    return tmp_path
