"""The page put together: one picture, or an HTML file with it and every figure of every stage."""

from __future__ import annotations

import cv2
import numpy as np

from sage_core.explain._canvas import MARGIN, WIDTH, Canvas
from sage_core.explain._contents import Explanation, Image
from sage_core.explain._panels import (
    HEAD,
    draw_evidence,
    draw_head,
    draw_strip,
    draw_table,
    evidence_height,
    strip_height,
    table_height,
)
from sage_core.explain._scene import SCENE_HEIGHT, draw_scene
from sage_core.explain._style import SOFT
from sage_core.explain._timeline import draw_timeline, timeline_height

_RIGHT, _ALONE, _GAP = 420, 320, 26
_LINE = 16


def draw(told: Explanation) -> Image:
    """The picture, uint8 [H, W, 3] RGB, 1,180 pixels wide; the same explanation gives the same bytes."""
    left = WIDTH - 2 * MARGIN - _RIGHT - _GAP
    strip = strip_height(told.strip)
    body = _body_height(told)
    scene = SCENE_HEIGHT if told.scene else 0
    canvas = Canvas(HEAD + strip + 14 + body + scene + _LINE * len(told.notes) + 12)
    draw_head(canvas, told)
    draw_strip(canvas, HEAD, told.strip)
    top = HEAD + strip + 14
    if told.timeline:
        draw_timeline(canvas, MARGIN, top, (left, body - 16), told.timeline)
        _draw_side(canvas, MARGIN + left + _GAP, top, told)
    else:
        if told.evidence:
            draw_evidence(canvas, MARGIN, top, _ALONE, told.evidence)
        beside = MARGIN + (_ALONE + _GAP if told.evidence else 0)
        draw_table(canvas, beside, top, left, told.figures_of, told.figures)
    top += body
    if told.scene:
        draw_scene(canvas, top, told.scene)
    for row, note in enumerate(told.notes):
        canvas.text(MARGIN, top + scene + _LINE * row, note, 10.5, color=SOFT, style="italic")
    return canvas.pixels()


def _draw_side(canvas: Canvas, left: float, top: float, told: Explanation) -> None:
    if told.evidence:
        draw_evidence(canvas, left, top, _RIGHT, told.evidence)
        top += evidence_height(told.evidence, _RIGHT) + 10
    draw_table(canvas, left, top, _RIGHT, told.figures_of, told.figures)


def _body_height(told: Explanation) -> int:
    width = _RIGHT if told.timeline else _ALONE
    evidence = evidence_height(told.evidence, width) + 10 if told.evidence else 0
    table = table_height(told.figures)
    if told.timeline:
        return max(timeline_height(told.timeline), evidence + table) + 16
    return max(evidence, table) + 16


def to_jpeg(picture: Image, quality: int = 88) -> bytes:
    """As a JPEG without any metadata."""
    settings = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
    done, data = cv2.imencode(".jpg", np.ascontiguousarray(picture[..., ::-1]), settings)
    assert done
    return bytes(data.tobytes())


def to_png(picture: Image) -> bytes:
    """As a PNG."""
    done, data = cv2.imencode(".png", np.ascontiguousarray(picture[..., ::-1]))
    assert done
    return bytes(data.tobytes())
