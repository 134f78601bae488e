"""Small shards of procedural rooms, as the tests of training want them."""

import numpy as np
import torch

from sage_core.geometry import camera_centres
from sage_core.world import clips as world

# Small pictures: more threads would only wait for each other.
torch.set_num_threads(1)

_USUAL = world.RoomClip(0)
WIDTH, HEIGHT, FPS, FRAMES, UNIT_M = (
    _USUAL.width,
    _USUAL.height,
    _USUAL.fps,
    _USUAL.frames,
    _USUAL.unit_m,
)


def write_room_shard(folder, clips=2, frames=FRAMES, points=150):
    """A shard ``rooms`` in the folder; returns the paths of its frames file and the clips' ids."""
    return world.write_room_shard(
        folder, [world.RoomClip(seed, frames, points) for seed in range(clips)]
    )


def room_clip(seed, frames, points):
    info, records, cloud = world.RoomClip(seed, frames, points).records()
    assert np.linalg.norm(np.ptp(camera_centres(info.cam_from_world), axis=0)) > 0.3
    return info, records, cloud
