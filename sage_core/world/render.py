"""Pictures and depth of rooms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from sage_core.world.raycast import (
    Blocks,
    Cameras,
    Hits,
    PackedScenes,
    bin_tiles,
    nearest,
    pack_scenes,
)
from sage_core.world.scenes import Scene
from sage_core.world.shading import shade, surface_at

Tensor = torch.Tensor
_RAYS_AT_ONCE = 1 << 19
_RAYS_IN_CACHE = 1 << 16
_SUBPIXELS = torch.tensor([[-0.375, -0.125], [0.125, -0.375], [0.375, 0.125], [-0.125, 0.375]])
"""Rotated grid: four rows and four columns are met by four rays."""


def render_views(
    scene: Scene,
    cam_from_world: npt.NDArray[np.float64],
    intrinsics: npt.NDArray[np.float64],
    height: int,
    width: int,
    *,
    smooth_edges: bool = True,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Views of one scene: images uint8 [V, H, W, 3] and exact depth float32 [V, H, W], z in metres.

    ``cam_from_world`` [V, 3, 4] and ``intrinsics`` [V, 3, 3] (pixel centres at +0.5). Depth belongs to
    pixel centres; colours are averaged over four rays where a pixel lies on an edge (``smooth_edges``).
    """
    index = torch.zeros(len(cam_from_world), dtype=torch.long)
    image, depth = render_frames(
        [scene],
        index,
        torch.from_numpy(np.ascontiguousarray(cam_from_world, np.float64)),
        torch.from_numpy(np.ascontiguousarray(intrinsics, np.float64)),
        height,
        width,
        smooth_edges=smooth_edges,
    )
    return image.numpy(), depth.numpy()


@torch.no_grad()
def render_frames(
    scenes: Sequence[Scene],
    scene_of_frame: Tensor,
    cam_from_world: Tensor,
    intrinsics: Tensor,
    height: int,
    width: int,
    *,
    smooth_edges: bool = True,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Tensor]:
    """Frames of several scenes of one look together: uint8 [F, H, W, 3], float32 [F, H, W].

    ``scene_of_frame`` int64 [F]; poses and intrinsics float64 [F, 3, 4] and [F, 3, 3].
    """
    device = torch.device(device)
    packed = pack_scenes(scenes, device)
    cameras = Cameras.of(
        cam_from_world.to(device), intrinsics.to(device), scene_of_frame.to(device)
    )
    at_once = max(1, _RAYS_AT_ONCE // (height * width))
    images, depths = [], []
    for begin in range(0, len(cam_from_world), at_once):
        part = cameras.subset(slice(begin, begin + at_once))
        image, depth = _render(packed, part, height, width, smooth_edges)
        images.append(image)
        depths.append(depth)
    return torch.cat(images), torch.cat(depths)


def _render(
    scenes: PackedScenes, cameras: Cameras, height: int, width: int, smooth_edges: bool
) -> tuple[Tensor, Tensor]:
    tile = 8 if max(height, width) <= 160 else 16
    blocks, order = bin_tiles(scenes, cameras, height, width, tile)
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=order.device)

    def picture(values: Tensor) -> Tensor:
        return _untiled(values[place], len(cameras.scene), height, width, tile)

    colour, depth, key = _cast(scenes, cameras, blocks)
    image = torch.stack([picture(channel) for channel in _bytes(colour)], dim=-1)
    if smooth_edges:
        _smooth(scenes, cameras, blocks, image, picture(key), place, tile)
    return image, picture(depth)


def _bytes(colour: Tensor) -> Tensor:
    return (colour * 255 + 0.5).to(torch.uint8)


def _cast(scenes: PackedScenes, cameras: Cameras, blocks: Blocks) -> tuple[Tensor, Tensor, Tensor]:
    """Colour [3, B, m], depth [B, m] and a number [B, m] that tells surfaces apart.

    Shaded in portions that fit the processor's cache; a GPU takes all at once.
    """
    hits = nearest(scenes, blocks, cameras)
    total, rays = blocks.u.shape
    step = total if blocks.u.is_cuda else max(1, _RAYS_IN_CACHE // rays)
    parts = [
        _shaded(
            scenes, cameras, hits.portion(begin, begin + step), blocks.frame[begin : begin + step]
        )
        for begin in range(0, total, step)
    ]
    colour, depth, key = zip(*parts, strict=True)
    return torch.cat(colour, dim=1), torch.cat(depth), torch.cat(key)


def _shaded(
    scenes: PackedScenes, cameras: Cameras, hits: Hits, frame: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    surface = surface_at(scenes, hits)
    colour = shade(scenes, cameras, hits, frame, surface)
    key = (hits.solid * 6).float() + surface.face.reshape(hits.solid.shape)
    return colour.reshape(3, *key.shape), surface.depth.reshape(key.shape), key


def _untiled(values: Tensor, frames: int, height: int, width: int, tile: int) -> Tensor:
    """[B, m] in order of tiles -> [F, H, W]."""
    ty, tx = -(-height // tile), -(-width // tile)
    whole = values.reshape(frames, ty, tx, tile, tile).transpose(2, 3)
    return whole.reshape(frames, ty * tile, tx * tile)[:, :height, :width].contiguous()


def _smooth(
    scenes: PackedScenes,
    cameras: Cameras,
    tiles: Blocks,
    image: Tensor,
    surfaces: Tensor,
    place: Tensor,
    tile: int,
) -> None:
    """Average four rays, in place, in the pixels that border another surface."""
    frame, row, column = _borders(surfaces).nonzero(as_tuple=True)
    if not len(frame):
        return
    _, height, width = surfaces.shape
    ty, tx = -(-height // tile), -(-width // tile)
    cell = place[(frame * ty + row // tile) * tx + column // tile]
    order = torch.argsort(cell)  # tiles are sorted by the length of their lists, as blocks must be
    frame, row, column, cell = frame[order], row[order], column[order], cell[order]
    offset = _SUBPIXELS.to(image.device)
    u, v = column[:, None] + 0.5 + offset[:, 0], row[:, None] + 0.5 + offset[:, 1]
    colour, _, _ = _cast(scenes, cameras, tiles.subset(cell, u, v))
    image[frame, row, column] = _bytes(colour.mean(dim=2)).t()


def _borders(surfaces: Tensor) -> Tensor:
    edge = torch.zeros_like(surfaces, dtype=torch.bool)
    across, along = surfaces[:, :, 1:] != surfaces[:, :, :-1], surfaces[:, 1:] != surfaces[:, :-1]
    edge[:, :, 1:] |= across
    edge[:, :, :-1] |= across
    edge[:, 1:] |= along
    edge[:, :-1] |= along
    return edge
