"""A look at the key frames alone, before everything is decoded: the plainest offenders end there.

Only what no clip could escape is decided: every key frame is blank, or drawn, or shows what the one
before it showed, with no gap between them in which a clip could hide. The rest is measured in full.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sage_core.config.curate import CurateConfig
from sage_core.errors import MediaError
from sage_core.mining._footage import drawn_kind, palette_share, ruled_share
from sage_core.mining._measure import LONG_SIDE, flat_share, light
from sage_core.mining._thumbnails import Thumbnails
from sage_core.mining._tracks import find_corners, follow
from sage_core.types import Figure, Judgement, Reason
from sage_core.video.decoder import Decoder
from sage_core.video.frames import Frame, FrameInfo, scaled_size

GLANCE_STEP_S = 4.0
_FEWEST = 3
_FEWEST_TRACKS, _FEWEST_KEPT = 24, 0.5
_SURE = 0.5
"""Key frames travel less than this share of the threshold: a rule that looks at few pictures is strict."""

Grey = NDArray[np.uint8]


@dataclass(frozen=True)
class Glances:
    """One value per key frame looked at, lists [G].

    ``index``: number of its packet, near the frame's index; ``time_s``; ``contrast``: standard deviation
    of grey; ``flat``, ``palette``, ``ruled``: as of :class:`StepSeries`; ``moved``: median displacement
    of the corners since the glance before, in long sides; None where too few of them were found again.
    """

    index: list[int]
    time_s: list[float]
    contrast: list[float]
    flat: list[float]
    palette: list[float]
    ruled: list[float]
    moved: list[float | None]

    def __len__(self) -> int:
        return len(self.index)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Glances:
        return cls(**{field.name: data[field.name] for field in fields(cls)})


def glance(path: str | Path, info: FrameInfo) -> tuple[Glances, Thumbnails]:
    """Decode key frames at least 4 s apart, at 320 px.

    Where seeking lies the pictures may be some frames off, which does not matter here. Where it fails
    there are no glances: the full decode has to say what is wrong.
    """
    try:
        return _glanced(Path(path), info)
    except MediaError:
        return _none(), Thumbnails()


def _glanced(path: Path, info: FrameInfo) -> tuple[Glances, Thumbnails]:
    glances, thumbnails = _none(), Thumbnails()
    before: Grey | None = None
    decoder = Decoder(path, scaled_size(info.width, info.height, LONG_SIDE))
    for packet in _spaced(decoder.key_packets, info.times_s):
        frame = Frame(packet, float(info.times_s[packet]), decoder.key_frame(packet))
        grey = np.asarray(cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
        glances.index.append(packet)
        glances.time_s.append(round(frame.time_s, 6))
        glances.contrast.append(round(light(grey)[1], 3))
        glances.flat.append(round(flat_share(grey), 4))
        glances.palette.append(round(palette_share(frame.image), 4))
        glances.ruled.append(round(ruled_share(grey), 4))
        glances.moved.append(0.0 if before is None else _moved(before, grey))
        thumbnails.add(frame)
        before = grey
    return glances, thumbnails


def _none() -> Glances:
    return Glances([], [], [], [], [], [], [])


def decide_glance(glances: Glances, duration_s: float, config: CurateConfig) -> Judgement | None:
    """The verdict that the key frames alone give: a rejection, or None to look further."""
    if len(glances) < _FEWEST:
        return None
    return _blank(glances, config) or _drawn(glances, config) or _still(glances, duration_s, config)


def _blank(glances: Glances, config: CurateConfig) -> Judgement | None:
    contrast = max(glances.contrast)
    if contrast >= config.blank_contrast:
        return None
    figures = {"highest_contrast": Figure(contrast, config.blank_contrast, ">=")}
    return Judgement.reject(Reason.NOT_FOOTAGE, "nothing but blank pictures", figures)


def _drawn(glances: Glances, config: CurateConfig) -> Judgement | None:
    flat = min(glances.flat)
    if flat <= config.max_flat_share:
        return None
    kind = drawn_kind(float(np.median(glances.palette)), float(np.median(glances.ruled)))
    figures = {
        "kind": Figure(kind.value, "footage", "=="),
        "textureless_share": Figure(flat, config.max_flat_share, "<="),
    }
    name = kind.value.replace("_", " ")
    return Judgement.reject(Reason.NOT_FOOTAGE, f"every key frame is no footage: {name}", figures)


def _still(glances: Glances, duration_s: float, config: CurateConfig) -> Judgement | None:
    """Nothing travels from any key frame to the next, and no clip fits between them."""
    gaps = np.diff([*glances.time_s, duration_s + glances.time_s[0]])
    if None in glances.moved or gaps.max() > config.min_clip_s:
        return None
    travel = max(float(m) for m in glances.moved if m is not None) / GLANCE_STEP_S * 10
    if travel >= _SURE * config.min_travel:
        return None
    figures = {"travel_per_10s": Figure(round(travel, 5), config.min_travel, ">=")}
    message = f"from key frame to key frame nothing travels: {travel:.2%} of the long side in 10 s"
    return Judgement.reject(Reason.STATIC_CAMERA, message, figures)


def _spaced(packets: list[int], times_s: NDArray[np.float64]) -> list[int]:
    chosen: list[int] = []
    for packet in packets:
        if packet >= len(times_s):
            break
        if not chosen or times_s[packet] - times_s[chosen[-1]] >= GLANCE_STEP_S:
            chosen.append(packet)
    return chosen


def _moved(before: Grey, after: Grey) -> float | None:
    corners = find_corners(before)
    found, kept = follow(before, after, corners)
    if kept.sum() < _FEWEST_TRACKS or kept.mean() < _FEWEST_KEPT:
        return None
    distance = float(np.median(np.linalg.norm(found[kept] - corners[kept], axis=1)))
    return float(round(distance / max(after.shape), 6))
