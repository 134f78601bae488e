"""The fingerprint of a video or photo folder: hashes over time, taken while it is measured."""

from __future__ import annotations

import zipfile
from collections import deque
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sage_core.errors import MediaError
from sage_core.fingerprints._hashes import Grey, Hashes, crop_hashes, picture_hash, small
from sage_core.types import Reason

VERSION = 1
_VIEW_S = 1.0
_STEADY, _STEADY_SHARE = 5, 0.01
_LEAST_BAR, _MOST_BAR, _UNEVEN = 0.02, 0.4, 0.03

Bars = tuple[float, float, float, float]


@dataclass(frozen=True)
class Fingerprint:
    """Hashes of a source's telling pictures (not dark, not blank), in order.

    Attributes:
        ordered: False for photo folders, whose times are the images' indices.
        times_s: float64 [N], presentation times, increasing.
        hashes: uint64 [N], of the whole picture inside its letterbox.
        view: int32 [M], about one picture a second (each photo), as positions in ``times_s``.
        crops: uint64 [M, 81], hashes of the views' :data:`CROPS`; column 0 is the whole.
    """

    ordered: bool
    times_s: NDArray[np.float64]
    hashes: Hashes
    view: NDArray[np.int32]
    crops: Hashes

    def __len__(self) -> int:
        return len(self.times_s)

    def between(self, start_s: float, end_s: float) -> Fingerprint:
        """The part of a clip: its pictures from ``start_s`` up to ``end_s``."""
        first, last = np.searchsorted(self.times_s, (start_s - 1e-6, end_s - 1e-6))
        inside = (self.view >= first) & (self.view < last)
        return Fingerprint(
            self.ordered,
            self.times_s[first:last],
            self.hashes[first:last],
            (self.view[inside] - first).astype(np.int32),
            self.crops[inside],
        )

    def write(self, path: Path) -> None:
        """As an ``.npz``; equal fingerprints give equal bytes."""
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        np.savez(path, version=VERSION, **columns)

    @classmethod
    def read(cls, path: str | Path) -> Fingerprint:
        """What :meth:`write` wrote.

        Raises:
            MediaError: no such file, or not one of this version.
        """
        try:
            with np.load(path, allow_pickle=False) as data:
                if int(data["version"]) != VERSION:
                    raise ValueError(f"version {int(data['version'])}, not {VERSION}")
                columns: dict[str, Any] = {f.name: data[f.name] for f in fields(cls)}
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise MediaError(
                f"{path} is no fingerprint that can be read ({error}): curate its video again",
                reason=Reason.MISSING_INPUT,
            ) from error
        return cls(**{**columns, "ordered": bool(columns["ordered"])})


class Recorder:
    """Takes pictures in order of time as they are decoded, and keeps only their hashes."""

    def __init__(self, *, ordered: bool = True) -> None:
        self._ordered = ordered
        self._rows: list[tuple[float, np.uint64]] = []
        self._views: list[int] = []
        self._crops: list[Hashes] = []
        self._bars: deque[Bars] = deque(maxlen=_STEADY)
        self._next_view_s = -np.inf

    def add(self, time_s: float, grey: Grey, bars: Bars = (0.0, 0.0, 0.0, 0.0)) -> None:
        """Take a picture, uint8 [H, W], and its dark borders: left, top, right, bottom as shares."""
        picture = small(self._inside_bars(grey, bars))
        found, telling = picture_hash(picture)
        if not telling:
            return
        if time_s >= self._next_view_s:
            self._next_view_s = time_s + (_VIEW_S - 1e-3 if self._ordered else 0)
            self._views.append(len(self._rows))
            self._crops.append(crop_hashes(picture))
        self._rows.append((time_s, found))

    def fingerprint(self) -> Fingerprint:
        """What was seen so far."""
        return Fingerprint(
            self._ordered,
            np.array([time_s for time_s, _ in self._rows], np.float64),
            np.array([found for _, found in self._rows], np.uint64),
            np.array(self._views, np.int32),
            np.stack(self._crops) if self._crops else np.empty((0, 81), np.uint64),
        )

    def _inside_bars(self, grey: Grey, bars: Bars) -> Grey:
        """Without a letterbox that has stayed where it is for a second; dark scenes have passing ones."""
        self._bars.append(bars)
        steady = len(self._bars) == _STEADY and np.ptp(self._bars, axis=0).max() <= _STEADY_SHARE
        if not steady:
            return grey
        height, width = grey.shape
        left, top, right, bottom = bars
        x, y = _bar(left, right), _bar(top, bottom)
        inner = grey[round(y * height) : height - round(y * height) or None]
        return inner[:, round(x * width) : width - round(x * width) or None]


def _bar(one: float, other: float) -> float:
    """Share that a pair of like borders takes on each side, or 0."""
    if min(one, other) < _LEAST_BAR or max(one, other) > _MOST_BAR or abs(one - other) > _UNEVEN:
        return 0.0
    return max(one, other)
