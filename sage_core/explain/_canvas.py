"""A page of fixed width that panels are placed on in pixels, from the top left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sage_core.explain._contents import Image
from sage_core.explain._style import GROUND, INK, TYPE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, MARGIN = 1180, 22
_DPI = 100.0


class Canvas:
    """``height`` in pixels; draws with matplotlib's own renderer, whatever display there is."""

    def __init__(self, height: int) -> None:
        from matplotlib import rc_context
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.height = height
        with rc_context(TYPE):
            self._figure = Figure((WIDTH / _DPI, height / _DPI), dpi=_DPI, facecolor=GROUND)
        self._canvas = FigureCanvasAgg(self._figure)

    def axes(self, left: float, top: float, width: float, height: float, **more: Any) -> Axes:
        """Axes in that rectangle, without a frame unless asked for."""
        box = (left / WIDTH, 1 - (top + height) / self.height, width / WIDTH, height / self.height)
        from matplotlib import rc_context

        with rc_context(TYPE):
            return self._figure.add_axes(box, **more)

    def blank(self, left: float, top: float, width: float, height: float) -> Axes:
        """Axes that count pixels from the rectangle's top left corner, and show nothing themselves."""
        axes = self.axes(left, top, width, height, frameon=False)
        axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
        return axes

    def image(self, left: float, top: float, width: float, height: float, image: Image) -> Axes:
        """A picture [H, W, 3] stretched over the rectangle; the axes count its pixels."""
        axes = self.axes(left, top, width, height, frameon=False)
        tall, wide = image.shape[:2]
        axes.imshow(image, extent=(0, wide, tall, 0), aspect="auto", interpolation="antialiased")
        axes.set(xlim=(0, wide), ylim=(tall, 0), xticks=[], yticks=[])
        return axes

    def text(self, left: float, top: float, text: str, size_px: float = 11, **more: Any) -> None:
        """Text whose upper edge is at ``top``."""
        style = {"color": INK, "va": "top", **more}
        at = (left / WIDTH, 1 - top / self.height)
        self._figure.text(*at, clean(text), fontsize=points(size_px), **style)

    def pixels(self) -> Image:
        """The page, uint8 [H, W, 3] RGB."""
        from matplotlib import rc_context

        with rc_context(TYPE):
            self._canvas.draw()  # type: ignore[no-untyped-call]
        drawn = self._canvas.buffer_rgba()  # type: ignore[no-untyped-call]
        return np.asarray(drawn, np.uint8)[..., :3].copy()


def clean(text: str) -> str:
    """On one line, without what no font shows."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def points(size_px: float) -> float:
    """Pixels as matplotlib counts sizes of type and lines."""
    return size_px * 72 / _DPI


def fitted(image: Image, width: float, height: float) -> tuple[float, float]:
    """Width and height of the largest rectangle of the picture's shape in that space."""
    tall, wide = image.shape[:2]
    scale = min(width / wide, height / tall)
    return wide * scale, tall * scale
