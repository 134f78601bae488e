"""What a camera sees while its shutter is open: frames from a path of poses."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from sage_core.geometry import camera_centres
from sage_core.world.disturbances import Disturbances, disturbed_frames
from sage_core.world.encoding import Effects, Image
from sage_core.world.render import render_views
from sage_core.world.scenes import Scene

Array = npt.NDArray[np.float64]
_BANDS = 8
_MOMENTS = 4


def exposed_frames(
    scene: Scene,
    path: Array,
    intrinsics: Array,
    size: tuple[int, int],
    fps: float,
    disturbances: Disturbances | None,
    effects: Effects,
) -> Iterator[Image]:
    """A picture for each pose of ``path`` [N, 3, 4]; ``intrinsics`` [3, 3], size (width, height).

    With a shutter or a readout the camera goes on between poses: rows are exposed one after the other, the
    middle one at the pose, each for as long as the shutter is open. Movers stand still meanwhile.
    """
    if disturbances is not None:
        for frame in disturbed_frames(scene, path, intrinsics, size, fps, disturbances):
            yield frame.image
        return
    previous: Image | None = None
    for index, pose in enumerate(path):
        still = index > 0 and np.array_equal(pose, path[index - 1])
        if previous is None or not still:
            previous = _exposed(scene, path, index, intrinsics, size, effects)
        yield previous


def _exposed(
    scene: Scene, path: Array, index: int, K: Array, size: tuple[int, int], effects: Effects
) -> Image:
    width, height = size
    if not effects.shutter and not effects.readout:
        images, _ = render_views(scene, path[index][None], K[None], height, width)
        return np.asarray(images[0])
    bands = _BANDS if effects.readout else 1
    edges = np.linspace(0, height, bands + 1).astype(int)
    moments = (np.arange(_MOMENTS) + 0.5) / _MOMENTS - 0.5 if effects.shutter else np.zeros(1)
    rows = []
    for top, bottom in pairwise(edges):
        late = effects.readout * ((top + bottom) / (2 * height) - 0.5)
        times = index + late + effects.shutter * moments
        lens = K.copy()
        lens[1, 2] -= top
        poses = np.stack([pose_at(path, time) for time in times])
        lenses = np.repeat(lens[None], len(poses), axis=0)
        images, _ = render_views(scene, poses, lenses, int(bottom - top), width)
        rows.append(images.astype(np.float32).mean(0))
    return np.asarray(np.concatenate(rows) + 0.5, np.uint8)


def pose_at(path: Array, time: float) -> Array:
    """``cam_from_world`` [3, 4] between two poses of a path [N, 3, 4]; ``time`` in frames, ends held."""
    time = float(np.clip(time, 0, len(path) - 1))
    before = min(int(time), max(0, len(path) - 2))
    share = time - before
    pair = path[[before, min(before + 1, len(path) - 1)]]
    centre = (1 - share) * camera_centres(pair[:1])[0] + share * camera_centres(pair[1:])[0]
    u, _, v = np.linalg.svd((1 - share) * pair[0, :, :3] + share * pair[1, :, :3])
    rotation = u @ v
    return np.concatenate([rotation, -(rotation @ centre)[:, None]], axis=1)
