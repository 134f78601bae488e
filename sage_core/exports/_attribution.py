"""Who made what was mined, under which licence: a table beside every export."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from sage_core.acquisition.credentials import redacted
from sage_core.acquisition.licences import short_licence
from sage_core.exports._scene import Scene

ATTRIBUTION = "ATTRIBUTION.csv"
COLUMNS = (
    *("clip", "video", "title", "uploader", "uploader_id", "licence", "licence_as_told", "url"),
    *("upload_date", "start_s", "end_s"),
)


def attribution(scene: Scene) -> dict[str, str]:
    """One clip's row, by column; what the site did not tell is empty, a licence ``unknown``."""
    info, told = scene.info, scene.info.provenance
    licence = str(told.get("license") or "")
    row = {
        "clip": info.clip,
        "video": info.video,
        "title": told.get("title"),
        "uploader": told.get("uploader") or told.get("channel"),
        "uploader_id": told.get("uploader_id") or told.get("channel_id"),
        "licence": short_licence(licence),
        "licence_as_told": licence,
        "url": redacted(scene.url),
        "upload_date": told.get("upload_date"),
        "start_s": told.get("start_s", float(info.times_s[0])),
        "end_s": told.get("end_s", float(info.times_s[-1])),
    }
    return {name: "" if value is None else str(value) for name, value in row.items()}


def attribution_table(scenes: Iterable[Scene]) -> bytes:
    """The whole table as CSV in UTF-8."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(attribution(scene) for scene in scenes)
    return text.getvalue().encode("utf-8", "backslashreplace")
