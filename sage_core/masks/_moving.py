"""What moves by itself: pixels that no point at rest explains, seen from known cameras.

Epipolar lines alone do not do: whoever walks level past a camera that is carried level stays on them. With
the cameras known, a static point must lie at one depth for all frames, so each pixel is followed into
frames before and after it, triangulated, and judged by the residual of its reprojections.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from sage_core.config.masks import MaskConfig
from sage_core.geometry import Camera, PixelMap, pixel_centres
from sage_core.masks._flow import Floats, FlowChains, Grey, Mask, Match, sample
from sage_core.masks._regions import grown

Array = NDArray[np.float64]
_FAR_OFF_PX = 10.0
_TRIM = 2.5
_CORRECTIONS = 2
_NOISE = 4.0
_CORE_SHARE = 0.3
_CORE = 1.5


def moving_masks(
    frames: Sequence[Grey],
    cam_from_world: Array,
    camera: Camera,
    config: MaskConfig,
    blocked: Mask | None = None,
) -> Mask:
    """Masks bool [N, H, W] of grey frames (uint8 [H, W]) in order, about 0.2 s apart.

    Args:
        cam_from_world: [N, 3, 4]; errors of a tenth of a degree are made up for.
        camera: of pictures of any size of the same shape.
        blocked: bool [N, H, W], pixels of no use, such as overlays.
    """
    height, width = frames[0].shape
    lens = camera.mapped(PixelMap.resize((camera.width, camera.height), (width, height)))
    rays = lens.rays(pixel_centres(width, height)).astype(np.float32)
    chains = FlowChains(frames, config.max_flow_miss_px, blocked)
    residuals: list[Floats] = []
    lasting: list[Floats] = []
    for frame in range(len(frames)):
        residuals.append(_residual(chains, frame, cam_from_world, rays, lens.fx, config))
        if frame:  # soon after its neighbours, while their flow is at hand
            lasting.append(_lasting(chains, residuals, frame - 1))
    lasting.append(_lasting(chains, residuals, len(frames) - 1))
    return np.stack([_regions(field, (width, height), config) for field in lasting])


def _residual(
    chains: FlowChains, frame: int, poses: Array, rays: Floats, focal_px: float, config: MaskConfig
) -> Floats:
    """Root mean square residual in pixels at the grid; the smaller one of past and future.

    What is hidden before or after jumps to another surface there, but seldom in both.
    """
    reach_px = config.reach * max(rays.shape[:2])
    sides = []
    for direction in (-1, 1):
        matches = list(chains.chain(frame, direction, config.max_steps, reach_px))
        if len(matches) > 1:
            sides.append(_one_side(chains.grid, frame, matches, poses, rays, focal_px))
    if not sides:
        return np.zeros(chains.grid.shape[:2], np.float32)
    known = np.fmin.reduce(sides)
    return np.asarray(np.nan_to_num(known), np.float32)


def _one_side(
    grid: Floats, frame: int, matches: Sequence[Match], poses: Array, rays: Floats, focal_px: float
) -> Floats:
    """NaN where fewer than two matches are sound."""
    sound = np.stack([match.sound for match in matches])
    seen = np.stack([_look_up(rays, match.xy) for match in matches])
    ahead, shift = _relative(poses[frame], poses[[m.frame for m in matches]], _look_up(rays, grid))
    for _ in range(2):
        miss = _reprojection(ahead, shift, seen, sound)
        seen = seen + _camera_errors(miss, sound, grid)
    off = np.linalg.norm(_reprojection(ahead, shift, seen, sound), axis=-1) * focal_px
    count = sound.sum(0)
    squares = np.where(sound, np.minimum(off, _FAR_OFF_PX) ** 2, 0).sum(0)
    # A point has one unknown, each match gives two numbers.
    mean = np.sqrt(squares / np.maximum(count - 0.5, 1))
    return np.where(count >= 2, mean, np.nan).astype(np.float32)


def _look_up(rays: Floats, xy: Floats) -> Floats:
    """Normalised coordinates [h, w, 2] at pixels [h, w, 2]."""
    found = cv2.remap(rays, xy - 0.5, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found, np.float32)


def _relative(pose: Array, others: Array, rays: Floats) -> tuple[Floats, Floats]:
    """A point at inverse depth r lies at ``ahead + r * shift`` in the other cameras: [M, h, w, 3], [M, 3]."""
    turn = others[:, :, :3] @ pose[:, :3].T
    shift = others[:, :, 3] - turn @ pose[:, 3]
    homogeneous = np.concatenate([rays, np.ones_like(rays[..., :1])], -1)
    ahead = np.einsum("hwc,mdc->mhwd", homogeneous, turn.astype(np.float32), optimize=True)
    return ahead, shift.astype(np.float32)


def _reprojection(ahead: Floats, shift: Floats, seen: Floats, sound: Mask) -> Floats:
    """Seen minus projected [M, h, w, 2], normalised, at each pixel's best inverse depth (not below 0)."""
    along = shift[:, None, None, :2] - seen * shift[:, None, None, 2:]
    apart = seen * ahead[..., 2:] - ahead[..., :2]
    weight = sound[..., None].astype(np.float32)
    over = (weight * apart * along).sum((0, -1))
    inverse_depth = np.maximum(over / np.maximum((weight * along**2).sum((0, -1)), 1e-12), 0)
    place = ahead + inverse_depth[..., None] * shift[:, None, None]
    return np.asarray(seen - place[..., :2] / np.maximum(place[..., 2:], 0.05), np.float32)


def _camera_errors(miss: Floats, sound: Mask, grid: Floats) -> Floats:
    """What takes the smooth part of the residuals away, [M, h, w, 2]: an affine field for each match.

    Slightly wrong poses and focal lengths shift the whole picture; things that move are trimmed off.
    """
    coarse = np.s_[1::3, 1::3]
    centred = grid / np.array(grid.shape[1::-1], np.float32) - 1
    terms = np.concatenate([centred, np.ones_like(centred[..., :1])], -1)
    fields = np.zeros_like(miss)
    for field, one, use in zip(fields, miss, sound, strict=True):
        chosen = use[coarse]
        rows, values = terms[coarse][chosen], one[coarse][chosen]
        field[:] = terms @ _trimmed_fit(rows, values)
    return -fields


def _trimmed_fit(rows: Floats, values: Floats) -> Floats:
    """Least squares [3, 2] over what is left after taking out what is far off; zero for too few."""
    solution = np.zeros((3, 2))
    for _ in range(_CORRECTIONS):
        off = np.linalg.norm(values - rows @ solution, axis=1)
        near = off <= _TRIM * np.median(off) if len(off) else np.zeros(0, bool)
        if near.sum() < 50:
            return solution.astype(np.float32)
        kept = rows[near]
        solution = np.linalg.solve(kept.T @ kept + 1e-6 * np.eye(3), kept.T @ values[near])
    return solution.astype(np.float32)


def _lasting(chains: FlowChains, residuals: Sequence[Floats], frame: int) -> Floats:
    """The median of a frame's residual and its neighbours', moved along; the smaller of two at an end."""
    around = [residuals[frame]]
    for direction in (-1, 1):
        other = frame + direction
        if 0 <= other < len(residuals):
            flow = chains.step(frame, direction).flow
            around.append(sample(residuals[other], chains.grid + flow))
    middle = np.sort(np.stack(around), axis=0)[(len(around) - 1) // 2]
    return np.asarray(cv2.medianBlur(middle, 3), np.float32)


def _regions(residual: Floats, size: tuple[int, int], config: MaskConfig) -> Mask:
    """Regions of large residuals, with their holes, of ``size`` (width, height)."""
    limit = max(config.max_residual_px, _NOISE * float(np.median(residual)))
    whole = cv2.resize(residual, size, interpolation=cv2.INTER_LINEAR)
    odd = (whole > limit).astype(np.uint8)
    odd = cv2.morphologyEx(odd, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    count, label, stats, _ = cv2.connectedComponentsWithStats(odd)
    core = np.bincount(label.ravel(), (whole > _CORE * limit).ravel(), minlength=count)
    area = stats[:, cv2.CC_STAT_AREA]
    kept = (area >= config.min_region * odd.size) & (core >= _CORE_SHARE * area)
    kept[0] = False
    return grown(kept[label], config.margin_px)
