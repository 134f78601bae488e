"""A small sheet of many videos' contact sheets, for a glance in the morning."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from data_catalog import StageEvent, Workspace

_MOST, _COLUMNS = 12, 2
_WIDTH, _HEIGHT, _LINE = 480, 150, 18
_WHITE = (230, 230, 230)


def night_sheet(ws: Workspace, events: Sequence[StageEvent]) -> bytes:
    """A JPEG with the tops of up to twelve videos' contact sheets, each under its id and reason.

    Raises:
        OSError: a contact sheet is not there any more.
    """
    tiles = [_tile(ws, event) for event in events[:_MOST]]
    blank = np.zeros_like(tiles[0])
    tiles += [blank] * (-len(tiles) % _COLUMNS)
    rows = [np.hstack(tiles[at : at + _COLUMNS]) for at in range(0, len(tiles), _COLUMNS)]
    done, jpeg = cv2.imencode(".jpg", np.vstack(rows), [cv2.IMWRITE_JPEG_QUALITY, 75])
    assert done
    return jpeg.tobytes()


def _tile(ws: Workspace, event: StageEvent) -> NDArray[np.uint8]:
    data = ws.store.fetch(event.artifacts["contact"]).read_bytes()
    sheet = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if sheet is None:
        raise OSError(f"{event.artifacts['contact'].path} is no picture any more")
    scale = _WIDTH / sheet.shape[1]
    small = cv2.resize(sheet, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)[:_HEIGHT]
    tile = np.zeros((_LINE + _HEIGHT, _WIDTH, 3), np.uint8)
    tile[_LINE : _LINE + len(small)] = small[:, :_WIDTH]
    label = f"{event.item}  {event.reason or event.verdict}"
    cv2.putText(tile, label, (4, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.4, _WHITE, 1, cv2.LINE_AA)
    return tile
