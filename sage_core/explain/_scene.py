"""A reconstruction from above and from the side, and one of its frames with anchors by depth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sage_core.explain._canvas import MARGIN, WIDTH, Canvas, fitted
from sage_core.explain._contents import Floats, Scene
from sage_core.explain._panels import draw_entries, shade
from sage_core.explain._style import ACCENT, FAILED, LINE, MASKED, SOFT
from sage_core.report import depth_colours, depth_range, with_anchors

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCENE_HEIGHT = 344
_GAP, _TALL = 20, 286
_MOST_FRUSTA = 14


def draw_scene(canvas: Canvas, top: float, scene: Scene) -> None:
    """Three panels in a row."""
    width = (WIDTH - 2 * MARGIN - 2 * _GAP) / 3
    _draw_anchors(canvas, MARGIN, top, width, scene)
    for column, (name, axis) in enumerate((("from above", 1), ("from the side", 2)), 1):
        left = MARGIN + column * (width + _GAP)
        canvas.text(left, top, name, 11, weight="bold")
        seen = f"{len(scene.points):,} points, {len(scene.centres)} cameras"
        canvas.text(left + width, top + 1, seen, 10, color=SOFT, ha="right")
        axes = canvas.axes(left, top + 20, width, _TALL, facecolor="#f8f9fa")
        _draw_view(axes, scene, axis, width / _TALL)
    below = canvas.blank(MARGIN + width + _GAP, top + 24 + _TALL, width, 16)
    draw_entries(below, [(ACCENT, "camera path" if scene.ordered else "cameras"),
                         (FAILED, "where the frame on the left is")])  # fmt: skip


def _draw_anchors(canvas: Canvas, left: float, top: float, width: float, scene: Scene) -> None:
    near, far = depth_range(scene.depth)
    picture = with_anchors(scene.image, scene.xy, scene.depth, near, far)
    wide, tall = fitted(picture, width, _TALL)
    canvas.text(left, top, f"{len(scene.depth)} anchors by depth", 11, weight="bold")
    canvas.text(left + width, top + 1, scene.label, 10, color=SOFT, ha="right")
    axes = canvas.image(left + (width - wide) / 2, top + 20, wide, tall, picture)
    _draw_depths(canvas, left, top + 27 + tall, near, far)
    if scene.masked is not None and scene.masked.any():
        shade(axes, scene.masked)
        below = canvas.blank(left + 0.68 * width, top + 24 + tall, 0.32 * width, 16)
        draw_entries(below, [(MASKED, f"masked {scene.masked.mean():.0%}")])


def _draw_depths(canvas: Canvas, left: float, top: float, near: float, far: float) -> None:
    """The colours from near to far, as :func:`with_anchors` draws them."""
    depth = np.geomspace(max(near, 1e-9), max(far, near, 2e-9), 120)
    colours = depth_colours(depth, near, far)
    canvas.text(left, top, f"{near:.3g}", 10, color=SOFT)
    canvas.image(left + 40, top + 2, 120, 9, colours[None])
    canvas.text(left + 168, top, f"{far:.3g} (units of the model)", 10, color=SOFT)


def _draw_view(axes: Axes, scene: Scene, axis: int, shape: float) -> None:
    """Points and cameras without one axis: along y the view is from the side, along z from above."""
    turn = _facing(scene.axes)
    points, centres = scene.points @ turn.T, scene.centres @ turn.T
    looks = scene.axes @ turn.T
    keep = [0, 1] if axis == 1 else [1, 2]
    xy = points[:, keep]
    colours = np.clip(scene.colours / 255 * 0.85, 0, 1)
    axes.scatter(xy[:, 0], xy[:, 1], s=2.2, c=colours, linewidths=0)
    path = centres[:, keep]
    if scene.ordered:
        axes.plot(*path.T, color=ACCENT, linewidth=1.6)
    _frame(axes, np.concatenate([xy, path]), path, shape)
    size = 0.07 * np.diff(axes.get_xlim())[0]
    chosen = np.unique(np.linspace(0, len(path) - 1, _MOST_FRUSTA).round().astype(int))
    for row in chosen:
        _draw_camera(axes, path[row], looks[row][:, keep], size, ACCENT, 0.9)
    middle = len(path) // 2
    _draw_camera(axes, path[middle], looks[middle][:, keep], 1.6 * size, FAILED, 1.5)
    axes.set(xticks=[], yticks=[])
    for side in axes.spines.values():
        side.set_color(LINE)


def _facing(axes: Floats) -> Floats:
    """The turn about z [3, 3] after which the cameras look along +y in the mean."""
    ahead = axes[:, 2].mean(0)
    angle = np.pi / 2 - np.arctan2(ahead[1], ahead[0])
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def _frame(axes: Axes, everything: Floats, path: Floats, shape: float) -> None:
    """Show the bulk of the points and all cameras, in one scale for both directions."""
    low, high = np.percentile(everything, [2, 98], axis=0)
    low, high = np.minimum(low, path.min(0)), np.maximum(high, path.max(0))
    middle, half = (low + high) / 2, np.maximum((high - low) / 2 * 1.1, 1e-3)
    tall = max(half[1], half[0] / shape)
    axes.set(
        xlim=(middle[0] - tall * shape, middle[0] + tall * shape),
        ylim=(middle[1] - tall, middle[1] + tall),
    )


def _draw_camera(
    axes: Axes, at: Floats, look: Floats, size: float, colour: str, width: float
) -> None:
    """A small pyramid's outline: apex and the two far corners of its wider side."""
    right, down, ahead = look
    aside = right if np.linalg.norm(right) > np.linalg.norm(down) else down
    corners = np.stack([at, at + size * (ahead + 0.55 * aside), at + size * (ahead - 0.55 * aside)])
    axes.plot(*corners[[0, 1, 2, 0]].T, color=colour, linewidth=width, solid_joinstyle="round")
