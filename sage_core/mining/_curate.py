"""The stage's work on one source: header first, then one decode, then verdicts and two files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sage_core.config.curate import CurateConfig
from sage_core.errors import MediaError
from sage_core.mining._decide import ClipVerdict, Curation, decide, decide_header
from sage_core.mining._measure import duration_s, measure
from sage_core.mining._measures import Measures
from sage_core.mining._photos import PhotoMeasures, decide_photos, measure_photos
from sage_core.mining._sheet import write_sheet
from sage_core.mining._thumbnails import Thumbnails
from sage_core.types import Clip, Figure, Judgement, Reason, Verdict
from sage_core.video.frames import open_frames

CURATION_FILE = "curation.json"
CONTACT_FILE = "contact.jpg"
FORMAT = 1


def curate_file(
    path: str, kind: str, config: dict[str, Any], out_dir: str, item: str
) -> dict[str, Any]:
    """Curate one source and write ``curation.json`` and, where frames were decoded, ``contact.jpg``.

    Decodes hostile files with native code: meant to be called through :mod:`sage_core.sandbox`, hence
    the plain arguments and result.

    Args:
        path: a video file, or a folder of images.
        kind: ``video`` or ``images``.
        config: the curate section as plain data.
        out_dir: an existing folder.
        item: the source's id.

    Returns:
        ``judgement``, ``clips`` (each ``clip`` and ``judgement``) and ``files`` (names in ``out_dir``);
        :func:`read_curation` turns it into a :class:`Curation`.

    Raises:
        MediaError: the file cannot be opened or decoded to its end.
    """
    section = CurateConfig.model_validate(config)
    work = _curate_images if kind == "images" else _curate_video
    curation, scores, thumbnails, times_s = work(path, section, item)
    folder = Path(out_dir)
    result = {**curation_to_json(curation), "files": [CURATION_FILE]}
    record = {"format": FORMAT, "item": item, "kind": kind, "config": config, **result}
    (folder / CURATION_FILE).write_text(json.dumps({**record, "scores": scores}))
    if thumbnails is not None and len(thumbnails):
        write_sheet(folder / CONTACT_FILE, curation, thumbnails, times_s)
        result["files"].append(CONTACT_FILE)
    return result


def decide_again(record: dict[str, Any], config: CurateConfig) -> Curation:
    """Judge anew from the content of a ``curation.json``, without the video.

    Raises:
        MediaError: the file was rejected by its header then and holds no scores.
    """
    item, scores = record["item"], record["scores"]
    if scores is None:
        raise MediaError(
            f"{item} was rejected by its header and has no scores: curate it again",
            reason=Reason.MISSING_INPUT,
        )
    if record["kind"] == "images":
        return decide_photos(PhotoMeasures.from_json(scores), config, item)
    return decide(Measures.from_json(scores), config, item)


def curation_to_json(curation: Curation) -> dict[str, Any]:
    """As plain data."""
    return {
        "judgement": curation.judgement.to_json(),
        "clips": [
            {"clip": c.clip.to_json(), "judgement": c.judgement.to_json()} for c in curation.clips
        ],
        "shots": curation.shots,
    }


def read_curation(data: dict[str, Any]) -> Curation:
    """The inverse of :func:`curation_to_json`."""
    clips = [
        ClipVerdict(Clip.from_json(c["clip"]), _judgement(c["judgement"])) for c in data["clips"]
    ]
    return Curation(_judgement(data["judgement"]), clips, data["shots"])


_Worked = tuple[Curation, dict[str, Any] | None, Thumbnails | None, dict[int, float]]


def _curate_video(path: str, config: CurateConfig, item: str) -> _Worked:
    info = open_frames(path).info
    header = decide_header(info.width, info.height, duration_s(info), config)
    if header is not None:
        return Curation(header, [], []), None, None, {}
    measures, thumbnails = measure(path)
    frames = measures.frames
    times_s = dict(zip(frames.index.tolist(), frames.time_s.tolist(), strict=True))
    # Judged from what is stored, so that judging again later gives the very same.
    scores = measures.to_json()
    return decide(Measures.from_json(scores), config, item), scores, thumbnails, times_s


def _curate_images(path: str, config: CurateConfig, item: str) -> _Worked:
    measures, thumbnails = measure_photos(path)
    return decide_photos(measures, config, item), measures.to_json(), thumbnails, {}


def _judgement(data: dict[str, Any]) -> Judgement:
    reason = Reason(data["reason"]) if data["reason"] else None
    figures = {name: Figure(**figure) for name, figure in data["figures"].items()}
    verdict = Verdict(data["verdict"])
    return Judgement(verdict, reason, data["message"], figures, data["retryable"])
