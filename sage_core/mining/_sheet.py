"""The contact sheet: what the clips show, with their verdicts, as one picture for the report."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sage_core.mining._decide import ClipVerdict, Curation
from sage_core.mining._thumbnails import Thumbnails
from sage_core.types import Judgement, Verdict

_COLUMNS = 6
_TILE = 200
_ROWS_PER_CLIP = 2
_MOST_CLIPS = 12
_LINE = 18
_BACKGROUND = 24
_GREEN, _RED, _GREY = (96, 176, 64), (72, 72, 208), (200, 200, 200)
_SHOWN = ("parallax_share", "moving_share", "rigid_share", "travel_per_10s", "sharpness")

Picture = NDArray[np.uint8]


def write_sheet(
    path: Path, curation: Curation, thumbnails: Thumbnails, times_s: dict[int, float]
) -> None:
    """Write a JPEG: a block per clip with its key frames, or frames of the whole video if it has none.

    ``times_s`` gives the presentation time of each source frame that may be shown.
    """
    blocks = [_clip_block(c, thumbnails, times_s) for c in curation.clips[:_MOST_CLIPS]]
    if not blocks:
        shown = _spread(sorted(times_s))
        blocks = [_block(_caption("", curation.judgement), _RED, shown, thumbnails, times_s)]
    done, jpeg = cv2.imencode(".jpg", np.vstack(blocks), [cv2.IMWRITE_JPEG_QUALITY, 85])
    assert done
    path.write_bytes(jpeg.tobytes())  # says when the disk is full, which imwrite would not


def _clip_block(clip: ClipVerdict, thumbnails: Thumbnails, times_s: dict[int, float]) -> Picture:
    colour = _GREEN if clip.judgement.verdict is Verdict.ACCEPTED else _RED
    span = f"{clip.clip.start_s:.1f} to {clip.clip.end_s:.1f} s" if clip.clip.ordered else "photos"
    caption = _caption(span, clip.judgement)
    caption[0] += f", {len(clip.clip.key_frames)} key frames"
    return _block(caption, colour, _spread(clip.clip.key_frames), thumbnails, times_s)


def _caption(head: str, judgement: Judgement) -> list[str]:
    reason = f" ({judgement.reason.value})" if judgement.reason else ""
    first = f"{head}  {judgement.verdict.value}{reason}".strip()
    figures = [
        f"{name} {judgement.figures[name].value:g}"
        for name in _SHOWN
        if name in judgement.figures and isinstance(judgement.figures[name].value, int | float)
    ]
    return [first, "   ".join(figures) or judgement.message]


def _spread(frames: list[int]) -> list[int]:
    most = _COLUMNS * _ROWS_PER_CLIP
    if len(frames) <= most:
        return frames
    return [frames[i] for i in np.linspace(0, len(frames) - 1, most).round().astype(int)]


def _block(
    caption: list[str],
    colour: tuple[int, int, int],
    frames: list[int],
    thumbnails: Thumbnails,
    times_s: dict[int, float],
) -> Picture:
    tiles = [_tile(thumbnails, frame, times_s.get(frame)) for frame in frames]
    rows = [_row(tiles[i : i + _COLUMNS]) for i in range(0, len(tiles), _COLUMNS)]
    header = np.full((_LINE * len(caption) + 8, _COLUMNS * _TILE, 3), _BACKGROUND, np.uint8)
    header[:, :6] = colour
    for number, line in enumerate(caption):
        _write(header, line, (14, _LINE * (number + 1)), _GREY)
    return np.vstack([header, *rows])


def _row(tiles: list[Picture]) -> Picture:
    height = max(tile.shape[0] for tile in tiles)
    row = np.full((height, _COLUMNS * _TILE, 3), _BACKGROUND, np.uint8)
    for column, tile in enumerate(tiles):
        row[: tile.shape[0], column * _TILE : column * _TILE + tile.shape[1]] = tile
    return row


def _tile(thumbnails: Thumbnails, frame: int, time_s: float | None) -> Picture:
    image = thumbnails.nearest(frame)
    if image is None:
        return np.full((_TILE // 2, _TILE - 2, 3), _BACKGROUND, np.uint8)
    height, width = image.shape[:2]
    scale = (_TILE - 2) / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    tile = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    _write(tile, str(frame) if time_s is None else f"{time_s:.1f} s", (4, size[1] - 5), _GREY)
    return tile


def _write(image: Picture, text: str, at: tuple[int, int], colour: tuple[int, int, int]) -> None:
    # A shadow of the same weight: a heavier one would run wider than the text.
    below = (at[0] + 1, at[1] + 1)
    cv2.putText(image, text, below, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, 1, cv2.LINE_AA)
