"""Labelled multi-view samples from rooms, one by one or many at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import torch

from sage_core.evaluation.samples import LabelledViews
from sage_core.world.cameras import overlapping_views, pinhole
from sage_core.world.furniture import build_scene
from sage_core.world.render import render_frames
from sage_core.world.scenes import Family, Scene, family_named

_VIEW_STREAM = 77
_TRAIN = 2**31
SPLITS = {
    "train": range(_TRAIN),
    "validation": range(_TRAIN, _TRAIN + 10**8),
    "test": range(_TRAIN + 10**8, _TRAIN + 2 * 10**8),
    "film": range(_TRAIN + 2 * 10**8, _TRAIN + 3 * 10**8),
}
"""Seeds of the rooms that serve each purpose, in every family; no seed serves two."""


@dataclass(frozen=True)
class RoomBatch:
    """Samples as tensors: images uint8 [B, V, H, W, 3], depth float32 [B, V, H, W] (metres, > 0
    everywhere), intrinsics float64 [B, V, 3, 3], cam_from_world float64 [B, V, 3, 4].
    """

    images: torch.Tensor
    depth: torch.Tensor
    intrinsics: torch.Tensor
    cam_from_world: torch.Tensor

    def to(self, device: torch.device) -> RoomBatch:
        """The samples on a device."""
        return RoomBatch(*(getattr(self, field.name).to(device) for field in fields(self)))


def room_sample(
    seed: int,
    n_views: int,
    size: int | tuple[int, int],
    family: str | Family = "P",
    *,
    smooth_edges: bool = True,
) -> LabelledViews:
    """The labelled views of that seed: one room, ``n_views`` overlapping views of it.

    ``size``: side of square images, or (height, width). View 0 is the reference. The same arguments give
    the same sample, whether alone or in a :func:`room_batch`.
    """
    kind = family_named(family) if isinstance(family, str) else family
    batch = room_batch([seed], n_views, size, kind, smooth_edges=smooth_edges)
    return LabelledViews(
        images=batch.images[0].numpy(),
        depth=batch.depth[0].numpy(),
        intrinsics=batch.intrinsics[0].numpy(),
        cam_from_world=batch.cam_from_world[0].numpy(),
        name=f"rooms-{kind.name}-{seed}",
    )


def room_batch(
    seeds: list[int],
    n_views: int,
    size: int | tuple[int, int],
    family: str | Family | Sequence[Family] = "P",
    *,
    smooth_edges: bool = True,
    device: torch.device | str = "cpu",
) -> RoomBatch:
    """The samples of several seeds, rendered together; of one family, or each of its own but of one look."""
    height, width = (size, size) if isinstance(size, int) else size
    if isinstance(family, str | Family):
        family = [family_named(family) if isinstance(family, str) else family] * len(seeds)
    scenes = [build_scene(seed, kind) for seed, kind in zip(seeds, family, strict=True)]
    views = [_views(scene, n_views, height, width) for scene in scenes]
    poses = torch.from_numpy(np.stack([pose for pose, _ in views]))
    K = torch.from_numpy(np.stack([matrix for _, matrix in views]))
    owner = torch.arange(len(seeds)).repeat_interleave(n_views)
    image, depth = render_frames(
        scenes, owner, poses.flatten(0, 1), K.flatten(0, 1), height, width,
        smooth_edges=smooth_edges, device=device,
    )  # fmt: skip
    grouped = (len(seeds), n_views)
    return RoomBatch(
        image.reshape(*grouped, height, width, 3), depth.reshape(*grouped, height, width), K, poses
    )


def _views(
    scene: Scene, count: int, height: int, width: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    rng = np.random.default_rng([scene.seed, _VIEW_STREAM])
    poses = overlapping_views(scene, count, rng)
    K = pinhole(rng.uniform(*scene.family.layout.fov_deg), height, width)
    return poses, np.broadcast_to(K, (count, 3, 3)).copy()
