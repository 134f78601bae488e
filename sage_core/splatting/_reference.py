"""The rasteriser in plain torch, tile by tile, differentiated by autograd: what the kernels must equal.

Slow, but with nothing in it that was derived by hand. Tests compare with it, and the benchmark measures
the kernels against it, so it does no needless work either: splats are sorted once per camera and gathered
once for all tiles, and a tile is a handful of operations on [pixels, splats]. (Going through a tile's
splats in portions, so as to stop when all its pixels have ended, was slower at every size of portion.)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sage_core.splatting._constants import RasterConstants
from sage_core.splatting._projection import Splats, project

_ALPHA_FLOOR = 1e-10


def render(
    means: Tensor,
    scales: Tensor,
    quats: Tensor,
    opacities: Tensor,
    colours: Tensor,
    cam_from_world: Tensor,
    intrinsics: Tensor,
    width: int,
    height: int,
    constants: RasterConstants,
    tile: int = 16,
) -> tuple[Tensor, Tensor, Tensor]:
    """See :func:`sage_core.splatting.render`; ``tile`` is the tiles' side in pixels and changes no result."""
    splats = project(
        means, scales, quats, opacities, cam_from_world, intrinsics, (width, height), constants
    )
    grid = _Grid(width, height, tile)
    drawn = [
        _draw(splats, camera, opacities, colours, grid, constants)
        for camera in range(len(cam_from_world))
    ]
    sums, remaining = (torch.stack(part) for part in zip(*drawn, strict=True))
    alpha = 1 - remaining
    image = sums[..., :-1] + remaining[..., None] * constants.background
    return image, alpha, sums[..., -1] / alpha.clamp(min=_ALPHA_FLOOR)


@dataclass(frozen=True)
class _Grid:
    """An image cut into square tiles."""

    width: int
    height: int
    tile: int

    @property
    def columns(self) -> int:
        return -(-self.width // self.tile)

    @property
    def rows(self) -> int:
        return -(-self.height // self.tile)

    def pixels(self, place: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Pixel centres of a tile: x [w] and y [h]."""
        left, top = place % self.columns * self.tile, place // self.columns * self.tile
        x = torch.arange(left, min(left + self.tile, self.width)).to(like) + 0.5
        y = torch.arange(top, min(top + self.tile, self.height)).to(like) + 0.5
        return x, y


def _draw(
    splats: Splats,
    camera: int,
    opacities: Tensor,
    colours: Tensor,
    grid: _Grid,
    constants: RasterConstants,
) -> tuple[Tensor, Tensor]:
    """Sums by weight of colours and z [H, W, D + 1], and the transmittance that remains [H, W]."""
    members, counts = _members(splats, camera, grid)
    xy, depth = splats.xy[camera], splats.depth[camera]
    table = (xy, splats.conic[camera], opacities[:, None], colours, depth[:, None])
    tiles = torch.split(torch.cat(table, dim=1)[members], counts)
    rows = []
    for row in range(grid.rows):
        places = range(row * grid.columns, (row + 1) * grid.columns)
        drawn = [_draw_tile(tiles[p], *grid.pixels(p, xy), constants) for p in places]
        rows.append(torch.cat(drawn, dim=1))
    image = torch.cat(rows)
    return image[..., :-1], image[..., -1]


@torch.no_grad()
def _members(splats: Splats, camera: int, grid: _Grid) -> tuple[Tensor, list[int]]:
    """Splats of all tiles, tile by tile and near to far, and how many there are in each tile."""
    xy, extent = splats.xy[camera], splats.extent[camera]
    order = torch.argsort(splats.depth[camera], stable=True)
    order = order[(extent[order] > 0).all(dim=1)]
    size = xy.new_tensor((grid.width, grid.height))
    low = (xy[order] - extent[order] - 0.5).ceil().clamp(min=0)
    high = torch.minimum((xy[order] + extent[order] - 0.5).floor(), size - 1)
    inside = (low <= high).all(dim=1)
    order, low, high = order[inside], low[inside].long(), high[inside].long()
    low, high = low // grid.tile, high // grid.tile
    across, down = (high - low + 1).unbind(dim=1)
    owner = torch.repeat_interleave(torch.arange(len(order)), across * down)
    first = (across * down).cumsum(0) - across * down
    nth = torch.arange(len(owner)) - first[owner]
    column = low[owner, 0] + nth % across[owner]
    row = low[owner, 1] + nth // across[owner]
    places = row * grid.columns + column
    counts = torch.bincount(places, minlength=grid.columns * grid.rows)
    return order[owner[torch.argsort(places, stable=True)]], counts.tolist()


def _draw_tile(table: Tensor, x: Tensor, y: Tensor, constants: RasterConstants) -> Tensor:
    """Sums by weight of a tile's features, then what light remains: [h, w, F + 1].

    Args:
        table: [M, 6 + F] centre, inverse covariance, opacity and features, near to far.
    """
    alpha = _alphas(table, x, y, constants)
    after = (1 - alpha).cumprod(dim=1)
    before = torch.cat((torch.ones_like(after[:, :1]), after[:, :-1]), dim=1)
    # Transmittance only falls, so this drops a pixel's first splat that would end it, and all behind it.
    weight = alpha * before * (after.detach() > constants.transmittance_min)
    light = 1 - weight.sum(dim=1, keepdim=True)
    return torch.cat((weight @ table[:, 6:], light), dim=1).view(len(y), len(x), -1)


def _alphas(table: Tensor, x: Tensor, y: Tensor, constants: RasterConstants) -> Tensor:
    """Alpha [pixels, M] of splats at pixels; 0 where it is too faint to be drawn."""
    centre_x, centre_y, xx, xy, yy, opacity = table[:, :6].unbind(dim=1)
    dx = centre_x - x[:, None]
    dy = (centre_y - y[:, None])[:, None]
    exponent = 0.5 * xx * dx * dx + xy * dx * dy + 0.5 * yy * dy * dy
    alpha = (opacity * (-exponent).exp()).clamp(max=constants.alpha_cap).flatten(0, 1)
    drawn = (alpha >= constants.alpha_min) & (exponent.flatten(0, 1) >= 0)
    return torch.where(drawn, alpha, 0.0)
