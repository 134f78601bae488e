"""What was measured of one video, before any threshold is applied."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sage_core.mining._tracks import Chain, Step
from sage_core.types import Entry

Series = NDArray[np.float64]


@dataclass(frozen=True)
class FrameSeries:
    """One value per measured frame, arrays [N]; ``index`` is the source frame index, increasing.

    ``content``: PySceneDetect's change against the frame before (mean HSV difference, 0 to 255);
    ``luma``, ``contrast``: mean and standard deviation of grey; ``sharpness``: variance of the
    Laplacian; ``clipped``: share of pixels below 6 or above 249; ``blend``, ``wipe``: how much the frame
    looks like the middle of a dissolve or a wipe; ``apart``: how unrelated the pictures just before and
    after it are; see :class:`BlendScorer`.
    """

    index: NDArray[np.int64]
    time_s: Series
    content: Series
    luma: Series
    contrast: Series
    sharpness: Series
    clipped: Series
    blend: Series
    wipe: Series
    apart: Series

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True)
class StepSeries:
    """One value per tracked frame, arrays [K]; ``at`` is its position in :class:`FrameSeries`.

    ``survival``, ``flow``, ``corners``, ``rigid``, ``moving``: see :class:`Step`; ``flat``: share of
    pixels without texture; ``palette``, ``ruled``: see :mod:`._footage`; ``overlay``: share under fixed
    edges, ``seam``: strength of the strongest fixed line, while ten steps went by;
    ``bars`` [K, 4]: dark border on the left, top, right and bottom, as shares of width and height.
    """

    at: NDArray[np.int64]
    survival: Series
    flow: Series
    corners: Series
    rigid: Series
    moving: Series
    flat: Series
    palette: Series
    ruled: Series
    overlay: Series
    seam: Series
    bars: Series

    def __len__(self) -> int:
        return len(self.at)


@dataclass(frozen=True)
class Look:
    """What one tracked frame looks like; the fields are those of :class:`StepSeries`."""

    flat: float
    palette: float
    ruled: float
    overlay: float
    seam: float
    bars: tuple[float, float, float, float]


@dataclass(frozen=True)
class Measures:
    """Scores of one video; all that :func:`sage_core.mining.decide` needs to judge it, now or later.

    ``width``, ``height``: upright source pixels; ``n_frames``: source frames; ``size``: width and
    height of the pictures that were measured; ``entries``: where decoding may begin, in order.
    """

    width: int
    height: int
    fps: float
    n_frames: int
    duration_s: float
    size: tuple[int, int]
    entries: list[Entry]
    frames: FrameSeries
    steps: StepSeries
    chains: list[Chain]

    def to_json(self) -> dict[str, Any]:
        """Plain data, floats rounded to four significant digits (times to the microsecond)."""
        return {
            "width": self.width,
            "height": self.height,
            "fps": self.fps,
            "n_frames": self.n_frames,
            "duration_s": self.duration_s,
            "size": list(self.size),
            "entries": [asdict(entry) for entry in self.entries],
            "frames": _columns(self.frames),
            "steps": _columns(self.steps),
            "chains": [{k: _rounded(v) for k, v in asdict(chain).items()} for chain in self.chains],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Measures:
        return cls(
            **{
                **data,
                "size": tuple(data["size"]),
                "entries": [Entry(**entry) for entry in data["entries"]],
                "frames": FrameSeries(**_arrays(data["frames"], ("index",))),
                "steps": StepSeries(**_arrays(data["steps"], ("at",))),
                "chains": [
                    Chain(**{**chain, "way": tuple(chain["way"])}) for chain in data["chains"]
                ],
            }
        )


def step_series(at: list[int], steps: list[Step], looks: list[Look]) -> StepSeries:
    """Columns of the tracker's steps and of what was measured beside them."""
    tracked = {
        name: np.array([getattr(step, name) for step in steps], dtype=np.float64)
        for name in ("survival", "flow", "corners", "rigid", "moving")
    }
    seen = {
        field.name: np.array([getattr(look, field.name) for look in looks], dtype=np.float64)
        for field in fields(Look)
    }
    seen["bars"] = seen["bars"].reshape(len(at), 4)
    return StepSeries(at=np.array(at, dtype=np.int64), **tracked, **seen)


def _columns(series: FrameSeries | StepSeries) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {}
    for field in fields(series):
        values = getattr(series, field.name)
        if field.name == "time_s":
            columns[field.name] = np.round(values, 6).tolist()
        elif values.dtype == np.int64:
            columns[field.name] = values.tolist()
        elif values.ndim == 2:
            columns[field.name] = [[_rounded(x) for x in row] for row in values.tolist()]
        else:
            columns[field.name] = [_rounded(x) for x in values.tolist()]
    return columns


def _arrays(columns: dict[str, Any], integers: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    return {
        name: np.array(values, dtype=np.int64 if name in integers else np.float64)
        for name, values in columns.items()
    }


def _rounded(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_rounded(one) for one in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
