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
from sage_core.report.figures import holds

_RIGHT, _GAP = 420, 26
_LINE = 16


def draw(told: Explanation) -> Image:
    """The picture, uint8 [H, W, 3] RGB, 1,180 pixels wide; the same explanation gives the same bytes."""
    left = WIDTH - 2 * MARGIN - _RIGHT - _GAP if told.timeline or told.evidence else 0
    side = [MARGIN + left + _GAP, _RIGHT] if told.timeline else [MARGIN, WIDTH - 2 * MARGIN]
    strip = strip_height(told.strip)
    body = _body_height(told)
    scene = SCENE_HEIGHT if told.scene else 0
    canvas = Canvas(HEAD + strip + 14 + body + scene + _LINE * len(told.notes) + 12)
    draw_head(canvas, told)
    draw_strip(canvas, HEAD, told.strip)
    top = HEAD + strip + 14
    if told.timeline:
        broken = {name for name, figure in told.figures.items() if holds(figure) is False}
        draw_timeline(canvas, MARGIN, top, left, told.timeline, broken)
        _draw_side(canvas, side[0], top, side[1], told)
    elif told.evidence:
        draw_evidence(canvas, side[0], top, _RIGHT, told.evidence)
        draw_table(canvas, MARGIN + _RIGHT + _GAP, top, left, told.figures_of, told.figures)
    else:
        draw_table(canvas, side[0], top, min(side[1], 620), told.figures_of, told.figures)
    top += body
    if told.scene:
        draw_scene(canvas, top, told.scene)
    for row, note in enumerate(told.notes):
        canvas.text(MARGIN, top + scene + _LINE * row, note, 10.5, color=SOFT, style="italic")
    return canvas.pixels()


def _draw_side(canvas: Canvas, left: float, top: float, width: float, told: Explanation) -> None:
    if told.evidence:
        draw_evidence(canvas, left, top, width, told.evidence)
        top += evidence_height(told.evidence, width) + 10
    draw_table(canvas, left, top, width, told.figures_of, told.figures)


def _body_height(told: Explanation) -> int:
    evidence = evidence_height(told.evidence, _RIGHT) + 10 if told.evidence else 0
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
