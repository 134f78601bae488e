"""One sequential low-resolution decode that all measures share, in memory that length does not change."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sage_core.fingerprints import Recorder
from sage_core.mining._blends import BlendScorer
from sage_core.mining._footage import palette_share, ruled_share, seam_strength
from sage_core.mining._measures import FrameSeries, Look, Measures, step_series
from sage_core.mining._thumbnails import Thumbnails
from sage_core.mining._tracks import ChainTracker
from sage_core.types import Entry
from sage_core.video.decoder import digest, find_entries
from sage_core.video.frames import Frame, FrameInfo, open_frames

VERSION = 6
"""Raised when the same file would get other scores: stored ones are not judged again then."""
LONG_SIDE = 320
STEP_S = 0.2
_MEASURED_FPS = 30.0
_OVERLAY_STEPS = 10
_OVERLAY_FLOW = 0.03
_BAR_LUMA, _BAR_SPECKS = 24, 0.02

Grey = NDArray[np.uint8]


def measure(path: str | Path, recorder: Recorder | None = None) -> tuple[Measures, Thumbnails]:
    """Decode a video once, at 320 px and at most 30 frames a second, and score it.

    Shots, blur, light and stillness come from every measured frame; motion, parallax, letterbox,
    overlays, and what the ``recorder`` of its fingerprint is given, from a frame every 0.2 s.

    Raises:
        MediaError: the decoder gave up, or the file ends early.
    """
    reader = open_frames(path, LONG_SIDE)
    stride = max(1, round(reader.info.fps / _MEASURED_FPS))
    scores = _Scores(recorder)
    for frame in reader.read(range(0, len(reader.info), stride)):
        scores.add(frame)
    entries = find_entries(Path(path), scores.size, reader.info.times_s, scores.digests)
    return scores.measures(reader.info, entries), scores.thumbnails


def measured_as() -> dict[str, float]:
    """What decides, besides the file, what is measured; stored with the scores. Thresholds do not."""
    return {"version": VERSION, "long_side": LONG_SIDE, "step_s": STEP_S, "fps": _MEASURED_FPS}


def duration_s(info: FrameInfo) -> float:
    """Seconds from the first frame's start to the last frame's end."""
    times = info.times_s
    last = float(times[-1] - times[-2]) if len(times) > 1 else 0.0
    return float(times[-1] - times[0]) + (1 / info.fps if info.fps > 0 else last)


class _Scores:
    def __init__(self, recorder: Recorder | None) -> None:
        self.thumbnails = Thumbnails()
        self._recorder = recorder
        self.digests: dict[int, int] = {}
        self.size = (0, 0)
        self._content = ContentScorer()
        self._blends = BlendScorer()
        self._rows: list[tuple[float, ...]] = []
        self._tracker = ChainTracker()
        self._at: list[int] = []
        self._looks: list[Look] = []
        self._recent: deque[Grey] = deque(maxlen=_OVERLAY_STEPS)
        self._next_step_s = -np.inf

    def add(self, frame: Frame) -> None:
        grey = np.asarray(cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
        self.size = (grey.shape[1], grey.shape[0])
        self.digests[frame.index] = digest(frame.image)
        seen = light(grey)
        self._rows.append((frame.index, frame.time_s, self._content(frame.image), *seen))
        self._blends.add(frame.time_s, frame.image, sharpness=seen[2])
        if frame.time_s >= self._next_step_s:
            # A little early is on time: frame times are rounded in the container.
            self._next_step_s = frame.time_s + STEP_S - 2e-3
            self._step(frame, grey)

    def _step(self, frame: Frame, grey: Grey) -> None:
        self._tracker.step(grey)
        self._at.append(len(self._rows) - 1)
        self._recent.append(grey)
        bars = _bars(grey)
        if self._recorder is not None:
            self._recorder.add(frame.time_s, grey, bars)
        overlay, seam = self._fixed_now()
        self._looks.append(
            Look(
                flat=flat_share(grey),
                palette=palette_share(frame.image),
                ruled=ruled_share(grey),
                overlay=overlay,
                seam=seam,
                bars=bars,
            )
        )
        self.thumbnails.add(frame)

    def _fixed_now(self) -> tuple[float, float]:
        """Overlay and seam, anew every ten steps in which the picture moved: else everything is fixed."""
        count = len(self._at)
        moved = sum(step.flow for step in self._tracker.steps[-_OVERLAY_STEPS:])
        if count % _OVERLAY_STEPS == 0 and moved >= _OVERLAY_FLOW:
            return _overlay_share(self._recent), seam_strength(self._recent, self._tracker.moved)
        last = self._looks[-1] if self._looks else None
        return (last.overlay, last.seam) if last else (0.0, 0.0)

    def measures(self, info: FrameInfo, entries: list[Entry]) -> Measures:
        self._tracker.finish()
        index, *columns = np.array(self._rows, dtype=np.float64).T
        return Measures(
            width=info.width,
            height=info.height,
            fps=info.fps,
            n_frames=len(info),
            duration_s=duration_s(info),
            size=self.size,
            entries=entries,
            frames=FrameSeries(index.astype(np.int64), *[*columns, *self._blends.series()]),
            steps=step_series(self._at, self._tracker.steps, self._looks),
            chains=self._tracker.chains,
        )


class ContentScorer:
    """Mean difference of hue, saturation and value from the frame before, 0 to 255: PySceneDetect's content
    score (its ``ContentDetector``, default weights), at a third of the time. 0 for the first frame.
    """

    def __init__(self) -> None:
        self._before: NDArray[np.uint8] | None = None

    def __call__(self, image: NDArray[np.uint8]) -> float:
        """The score of the next frame, uint8 [H, W, 3] RGB."""
        hsv = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), np.uint8)
        before, self._before = self._before, hsv
        return 0.0 if before is None else cv2.norm(hsv, before, cv2.NORM_L1) / hsv.size


def light(grey: Grey) -> tuple[float, float, float, float]:
    """Mean, contrast, sharpness, clipped share."""
    mean, deviation = cv2.meanStdDev(grey)
    _, edges = cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S))
    histogram = cv2.calcHist([grey], [0], None, [256], [0, 256]).ravel()
    clipped = (histogram[:6].sum() + histogram[250:].sum()) / grey.size
    return float(mean[0, 0]), float(deviation[0, 0]), float(edges[0, 0] ** 2), float(clipped)


def _local_range(grey: Grey) -> NDArray[np.uint8]:
    kernel = np.ones((3, 3), np.uint8)
    return np.asarray(cv2.subtract(cv2.dilate(grey, kernel), cv2.erode(grey, kernel)), np.uint8)


def flat_share(grey: Grey) -> float:
    """Share of pixels whose eight neighbours are the same to one grey level."""
    return float((_local_range(grey) <= 1).mean())


def _overlay_share(recent: deque[Grey]) -> float:
    """Share of the picture on or next to edges that stay where they are through all recent steps."""
    stack = np.stack(recent)
    still = stack.max(axis=0).astype(np.int16) - stack.min(axis=0) <= 16
    edge = _local_range(np.asarray(stack.mean(axis=0), np.uint8)) >= 30
    covered = cv2.dilate((still & edge).astype(np.uint8), np.ones((5, 5), np.uint8))
    return float(covered.mean())


def _bars(grey: Grey) -> tuple[float, float, float, float]:
    """Dark, even borders on the left, top, right and bottom, as shares of width and height."""
    lit = (grey > _BAR_LUMA).view(np.uint8)
    left, right = _dark_ends(cv2.reduce(lit, 0, cv2.REDUCE_SUM, dtype=cv2.CV_32S), grey.shape[0])
    top, bottom = _dark_ends(cv2.reduce(lit, 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S), grey.shape[1])
    return left, top, right, bottom


def _dark_ends(lit: NDArray[Any], length: int) -> tuple[float, float]:
    """Lines at either end of which at most one in fifty of ``length`` pixels is lit, as a share of all."""
    bright = np.flatnonzero(lit.ravel() > _BAR_SPECKS * length)
    if len(bright) == 0:
        return 1.0, 1.0
    count = lit.size
    return float(bright[0] / count), float((count - 1 - bright[-1]) / count)
