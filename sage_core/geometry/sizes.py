"""Which image sizes a model takes, and how a picture of any shape becomes one: aspect kept, no squashing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from sage_core.geometry.pixels import PixelMap

SizeKind = Literal["square", "longest", "width", "pixels"]
"""``square``: both sides are ``length``, whatever the picture's shape (MV-DUSt3R). ``longest``: the longer
side is. ``width``: the width is and the height follows, at most ``length`` (VGGT). ``pixels``: about
``length``² pixels in all, never more (Pi3)."""


@dataclass(frozen=True)
class SizeRule:
    """From a picture's size to the model's.

    Attributes:
        kind: what is bounded.
        length: the bound, in pixels.
        multiple: both sides come out as multiples of this, the model's patch.
    """

    kind: SizeKind
    length: int
    multiple: int = 1

    def __post_init__(self) -> None:
        if self.multiple < 1 or self.length < self.multiple:
            raise ValueError(f"{self}: a side must be one patch or more")

    def size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) for a picture of that size: the nearest shape that the rule allows."""
        if self.kind == "square":
            side = self._snapped(self.length)
            return side, side
        if self.kind == "pixels":
            return self._within_budget(width / height)
        scale = self.length / (width if self.kind == "width" else max(width, height))
        new = self._snapped(width * scale), self._snapped(height * scale)
        most = max(self.multiple, self.length // self.multiple * self.multiple)
        return min(new[0], most), min(new[1], most)

    def map(self, width: int, height: int) -> PixelMap:
        """Resize a picture of that size to cover :meth:`size`, and crop what sticks out, in the middle."""
        return PixelMap.cover((width, height), self.size(width, height))

    def with_length(self, length: int) -> SizeRule:
        """The same rule with another bound."""
        return SizeRule(self.kind, length, self.multiple)

    def _snapped(self, side: float) -> int:
        return max(1, round(side / self.multiple)) * self.multiple

    def _within_budget(self, aspect: float) -> tuple[int, int]:
        budget = (self.length / self.multiple) ** 2  # in patches
        columns = max(1, round(math.sqrt(budget * aspect)))
        rows = max(1, round(math.sqrt(budget / aspect)))
        while columns * rows > budget and max(columns, rows) > 1:
            if rows == 1 or (columns > 1 and columns / rows > aspect):
                columns -= 1
            else:
                rows -= 1
        return columns * self.multiple, rows * self.multiple
