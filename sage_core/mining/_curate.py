"""The stage's work on one source: header first, then one decode, then verdicts and two files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sage_core.config.curate import CurateConfig
from sage_core.errors import MediaError
from sage_core.fingerprints import Fingerprint, Recorder
from sage_core.mining._decide import ClipVerdict, Curation, decide, decide_header
from sage_core.mining._measure import duration_s, measure, measured_as
from sage_core.mining._measures import Measures
from sage_core.mining._photos import PhotoMeasures, decide_photos, measure_photos
from sage_core.mining._sheet import write_sheet
from sage_core.mining._thumbnails import Thumbnails
from sage_core.types import Clip, Figure, Judgement, Reason, Verdict
from sage_core.video.frames import open_frames

CURATION_FILE = "curation.json"
CONTACT_FILE = "contact.jpg"
THUMBNAILS_FILE = "thumbnails.zip"
FINGERPRINT_FILE = "fingerprint.npz"
FORMAT = 2


def curate_file(
    path: str, kind: str, config: dict[str, Any], out_dir: str, item: str
) -> dict[str, Any]:
    """Curate one source: write ``curation.json`` and, where frames were decoded, pictures of them.

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
    curation, header, scores, pictures = work(path, section, item)
    stored = {"item": item, "kind": kind, "measured": measured_as(), "header": header}
    return _write(Path(out_dir), {**stored, "scores": scores}, section, curation, pictures)


def redecide_file(folder: str | Path, config: CurateConfig, out_dir: str | Path) -> dict[str, Any]:
    """Do what :func:`curate_file` does from what it once wrote to ``folder``, without the source.

    Files and result are to the byte those of a fresh curation under ``config``, with one exception:
    scores and pictures are kept where the header alone now rejects, so that this can be taken back.

    Raises:
        MediaError: the scores are not there, or not those that would be measured now.
    """
    source = Path(folder)
    record = json.loads((source / CURATION_FILE).read_text())
    curation = decide_again(record, config)
    return _write(Path(out_dir), record, config, curation, _Pictures.read(source))


def decide_again(record: dict[str, Any], config: CurateConfig) -> Curation:
    """Judge anew from the content of a ``curation.json``, without the video.

    Raises:
        MediaError: as :func:`check_scores`.
    """
    check_scores(record, config)
    item, scores = record["item"], record["scores"]
    if record["kind"] == "images":
        return decide_photos(PhotoMeasures.from_json(scores), config, item)
    rejected = decide_header(**record["header"], config=config)
    if rejected is not None:
        return Curation(rejected, [], [])
    return decide(Measures.from_json(scores), config, item)


def check_scores(record: dict[str, Any], config: CurateConfig) -> None:
    """Make sure that a ``curation.json`` holds what ``config`` needs for a verdict.

    Raises:
        MediaError: its format or the way of measuring is another one than this code's, or the header,
            which once rejected the source unmeasured, no longer does.
    """
    problem = None
    if record.get("format") != FORMAT:
        problem = f"are in format {record.get('format')}, this code reads format {FORMAT}"
    elif record["measured"] != measured_as():
        problem = f"were measured as {record['measured']}, this code measures as {measured_as()}"
    elif record["scores"] is None and decide_header(**record["header"], config=config) is None:
        problem = "are missing: its header rejected it, which these settings do not"
    if problem:
        raise MediaError(
            f"{record['item']}: its stored scores {problem}; curate it from its file",
            reason=Reason.MISSING_INPUT,
        )


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


@dataclass(frozen=True)
class _Pictures:
    """What is kept of a source's pictures: some, small, for people, and the hashes of all."""

    thumbnails: Thumbnails
    fingerprint: Fingerprint

    @classmethod
    def read(cls, folder: Path) -> _Pictures | None:
        if not (folder / FINGERPRINT_FILE).exists():
            return None
        return cls(
            Thumbnails.read(folder / THUMBNAILS_FILE), Fingerprint.read(folder / FINGERPRINT_FILE)
        )

    def write(self, folder: Path) -> None:
        self.thumbnails.write(folder / THUMBNAILS_FILE)
        self.fingerprint.write(folder / FINGERPRINT_FILE)


_Worked = tuple[Curation, dict[str, Any] | None, dict[str, Any] | None, _Pictures | None]


def _curate_video(path: str, config: CurateConfig, item: str) -> _Worked:
    info = open_frames(path).info
    header: dict[str, Any] = {
        "width": info.width,
        "height": info.height,
        "duration_s": duration_s(info),
    }
    rejected = decide_header(**header, config=config)
    if rejected is not None:
        return Curation(rejected, [], []), header, None, None
    recorder = Recorder()
    measures, thumbnails = measure(path, recorder)
    pictures = _Pictures(thumbnails, recorder.fingerprint())
    # Judged from what is stored, so that judging again later gives the very same.
    scores = measures.to_json()
    return decide(Measures.from_json(scores), config, item), header, scores, pictures


def _curate_images(path: str, config: CurateConfig, item: str) -> _Worked:
    recorder = Recorder(ordered=False)
    measures, thumbnails = measure_photos(path, recorder)
    pictures = _Pictures(thumbnails, recorder.fingerprint())
    return decide_photos(measures, config, item), None, measures.to_json(), pictures


def _write(
    folder: Path,
    stored: dict[str, Any],
    config: CurateConfig,
    curation: Curation,
    pictures: _Pictures | None,
) -> dict[str, Any]:
    """The files of one curation; ``stored`` is what does not depend on thresholds."""
    verdicts = {"config": config.model_dump(mode="json"), **curation_to_json(curation)}
    scores = {name: stored[name] for name in ("item", "kind", "measured", "header", "scores")}
    record = {"format": FORMAT, **verdicts, **scores}
    (folder / CURATION_FILE).write_text(json.dumps(record))
    files = [CURATION_FILE]
    if pictures is not None and len(pictures.thumbnails):
        pictures.write(folder)
        write_sheet(folder / CONTACT_FILE, curation, pictures.thumbnails, _times_s(stored))
        files += [THUMBNAILS_FILE, CONTACT_FILE, FINGERPRINT_FILE]
    return {**curation_to_json(curation), "files": files}


def _times_s(stored: dict[str, Any]) -> dict[int, float]:
    """Presentation time of each measured frame; photo folders have none."""
    if stored["kind"] == "images":
        return {}
    frames = stored["scores"]["frames"]
    return dict(zip(frames["index"], frames["time_s"], strict=True))


def _judgement(data: dict[str, Any]) -> Judgement:
    reason = Reason(data["reason"]) if data["reason"] else None
    figures = {name: Figure(**figure) for name, figure in data["figures"].items()}
    verdict = Verdict(data["verdict"])
    return Judgement(verdict, reason, data["message"], figures, data["retryable"])
