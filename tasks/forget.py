"""forget: a video, or all of an uploader's, goes for good, with all that came of it.

First a tombstone and a verdict, at once: from then on no stage takes it and no source brings it back. What is
on disk goes when nothing runs: :func:`remove_forgotten`, before the next assemble and with ``sage compact``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq

from data_catalog import CatalogError, StageEvent, Workspace
from sage_core import __version__
from sage_core.acquisition.policy import uploaders
from sage_core.acquisition.sources import canonical_url, item_id
from sage_core.assembly import shard_name
from sage_core.errors import SageError
from sage_core.mining import FINGERPRINT_FILE
from sage_core.shards import join_shards
from sage_core.shards.write import clips_name, frames_name
from sage_core.types import Reason, Stage, Verdict
from tasks import tombstones
from tasks.tombstones import Tombstone, Tombstones, fingerprint_path

_SHARDS, _EVALUATIONS, _REPORTS = "shards", "evaluations", "reports"
_LINKS = "clips/duplicates.json"
_CLIPS_FILE = re.compile(re.escape(clips_name("SHARD")).replace("SHARD", "(.+)"))
_CLIP_MARK = "_"
"""A clip's id is its video's, this mark, and its frames."""


@dataclass(frozen=True)
class Forgotten:
    """What a removal is of: tombstones put up, and the runs and checkpoints that have seen any of it."""

    stones: list[Tombstone]
    runs: dict[str, str]


@dataclass
class Removed:
    """What :func:`remove_forgotten` took away: items, folders and files, shards written anew."""

    items: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    shards: dict[str, str | None] = field(default_factory=dict)
    """Old frames file to the one without the clips, None where no clip was left."""


def forget_videos(ws: Workspace, named: Sequence[str], reason: str) -> Forgotten:
    """Put up tombstones for items named by id, URL or path, known here or not.

    Raises:
        SageError: an id that no item here has (its URL is needed then).
    """
    stones = [_stone(ws, name, reason) for name in named]
    return _forgotten(ws, stones)


def forget_uploader(ws: Workspace, name: str, reason: str) -> Forgotten:
    """Put up a tombstone for an uploader, and one for each video here that is theirs."""
    wanted = name.strip().casefold()
    found = [
        e.item
        for e in ws.catalog.latest(Stage.ACQUIRE.value)
        if wanted in {known.casefold() for known in uploaders(e.details)}
    ]
    stones = [Tombstone.of_uploader(name, reason, _now()), *(_stone(ws, i, reason) for i in found)]
    return _forgotten(ws, stones)


def forget_listed(ws: Workspace, stones: Iterable[Tombstone]) -> Forgotten:
    """Put up the tombstones of a shared list."""
    return _forgotten(ws, [_with_contents(ws, stone) for stone in stones])


def runs_that_saw(ws: Workspace, items: Iterable[str]) -> dict[str, str]:
    """Training runs, each with its checkpoint's path, whose snapshot holds a clip of these videos."""
    wanted = set(items)
    found = {}
    for event in ws.catalog.latest(Stage.ADAPT.value):
        name = event.details.get("snapshot")
        if not name:
            continue
        try:
            parts = ws.catalog.load_snapshot(name).query.get("clips", {})
        except CatalogError:
            continue
        if wanted & {_video_of(clip) for clips in parts.values() for clip in clips}:
            checkpoint = event.artifacts.get("checkpoint")
            found[event.item] = checkpoint.path if checkpoint else ""
    return found


def forgotten_event(stone: Tombstone) -> StageEvent:
    """The verdict that stands for a removed item: its id, the hash of where it lay, and why it went."""
    return StageEvent(
        item=stone.key,
        stage=Stage.ACQUIRE.value,
        verdict=Verdict.REJECTED.value,
        reason=Reason.FORGOTTEN.value,
        source=stone.source,
        message=f"forgotten: {stone.reason}",
        code_version=__version__,
        time=stone.time,
    )


def remove_forgotten(ws: Workspace, owner: str) -> Removed:
    """Take away all that came of what has a tombstone: files, shard rows, events, pictures.

    Runs only while no stage does. What is gone already costs a look into the shards' lists of clips.

    Raises:
        LeaseHeld: a stage of this workspace is running; nothing is done.
    """
    videos = set(Tombstones.of(ws).videos)
    removed = Removed()
    if not videos:
        return removed
    with ExitStack() as leases:
        for stage in Stage:
            leases.enter_context(ws.catalog.lease(stage.value, owner))
        _bury(ws, videos)
        _keep_fingerprints(ws, videos)
        for shard in _shards_with(ws, videos):
            _rewrite(ws, shard, videos, removed)
        _remove_folders(ws, videos, removed)
        _remove_pages(ws, videos, removed)
        ws.store.drop_copies()
        removed.items = ws.catalog.expunge(videos)
    return removed


def _stone(ws: Workspace, name: str, reason: str) -> Tombstone:
    event = ws.catalog.find(name, Stage.ACQUIRE.value)
    if event is not None:
        location = event.details.get("asked", {}).get("location")
        if location is None and (known := Tombstones.of(ws).of_item(name)):
            return known
        stone = Tombstone.of_video(location or event.source, reason, _now())
        return _with_contents(ws, replace(stone, key=name))
    if "://" in name:
        return _with_contents(ws, Tombstone.of_video(canonical_url(name), reason, _now()))
    path = Path(name).expanduser().resolve()
    if not path.exists() and ws.catalog.find(item_id(str(path)), Stage.ACQUIRE.value) is None:
        raise SageError(
            f"{name!r} is no item of this workspace, no URL and no file: `sage items` lists the ids; for "
            "what was never fetched here, give its URL",
            reason=Reason.NOT_FOUND,
        )
    return _with_contents(ws, Tombstone.of_video(str(path), reason, _now()))


def _with_contents(ws: Workspace, stone: Tombstone) -> Tombstone:
    event = ws.catalog.find(stone.key, Stage.ACQUIRE.value)
    if event is None or "video" not in event.artifacts:
        return stone
    contents = {*stone.contents, event.artifacts["video"].sha256}
    return replace(stone, contents=tuple(sorted(contents)))


def _forgotten(ws: Workspace, stones: Sequence[Tombstone]) -> Forgotten:
    put_up = [tombstones.add(ws, stone) for stone in dict.fromkeys(stones)]
    videos = {stone.key for stone in put_up if stone.kind is tombstones.Kind.VIDEO}
    _bury(ws, videos)
    return Forgotten(put_up, runs_that_saw(ws, videos))


def _bury(ws: Workspace, videos: set[str]) -> None:
    """A verdict on each, where the last one is another."""
    stones = Tombstones.of(ws)
    events = []
    for video in sorted(videos):
        last, stone = ws.catalog.find(video, Stage.ACQUIRE.value), stones.of_item(video)
        if stone is None or (last is not None and last.reason == Reason.FORGOTTEN.value):
            continue
        attempt = ws.catalog.next_attempt(video, Stage.ACQUIRE.value)
        events.append(replace(forgotten_event(stone), attempt=attempt))
    if events:
        ws.catalog.append(events)


def _keep_fingerprints(ws: Workspace, videos: set[str]) -> None:
    """Hashes of its pictures stay beside the tombstone: another upload of the footage is known by them."""
    for video in sorted(videos):
        there = f"clips/{video}/{FINGERPRINT_FILE}"
        if ws.store.exists(there):
            ws.store.write_bytes(fingerprint_path(video), ws.store.read_bytes(there))


def _shards_with(ws: Workspace, videos: set[str]) -> list[str]:
    """Shards that hold a clip of these videos, whether the catalog still names them or not."""
    names = (m[1] for file in ws.store.names(_SHARDS) if (m := _CLIPS_FILE.fullmatch(file)))
    return [name for name in names if videos & _videos_in(ws, f"{_SHARDS}/{clips_name(name)}")]


def _videos_in(ws: Workspace, clips: str) -> set[str]:
    return set(pq.read_table(ws.store.fetch(clips), columns=["video"])["video"].to_pylist())


def _rewrite(ws: Workspace, shard: str, videos: set[str], removed: Removed) -> None:
    """Put what else is in a shard into one of its own, and remove it."""
    frames, clips = f"{_SHARDS}/{frames_name(shard)}", f"{_SHARDS}/{clips_name(shard)}"
    kept = [
        e
        for e in ws.catalog.latest(Stage.ASSEMBLE.value, verdict=Verdict.ACCEPTED.value)
        if e.artifacts["frames"].path == frames and (e.parent or e.item) not in videos
    ]
    removed.shards[frames] = None
    if kept:
        new = shard_name({e.item: e.input_hash for e in kept}, kept[0].config_hash)
        whole = ws.store.fetch(kept[0].artifacts["frames"], kept[0].artifacts["clips"]).parent
        with ws.store.scratch() as area:
            join_shards([(whole, shard)], area, new, clips={e.item for e in kept})
            artifacts = {
                kind: ws.store.publish(area / file, f"{_SHARDS}/{file}")
                for kind, file in (("frames", frames_name(new)), ("clips", clips_name(new)))
            }
        moved = [replace(e, attempt=e.attempt + 1, artifacts=artifacts, time=_now()) for e in kept]
        ws.catalog.append(moved)
        removed.shards[frames] = artifacts["frames"].path
    _remove(ws, [clips, frames], removed)


def _remove_folders(ws: Workspace, videos: set[str], removed: Removed) -> None:
    clips = {e.item for e in ws.catalog.latest() if e.parent in videos}
    clips |= {name for name in ws.store.names("sfm") if _video_of(name) in videos}
    paths = [f"{folder}/{video}" for video in sorted(videos) for folder in ("videos", "clips")]
    _remove(ws, [*paths, *(f"sfm/{clip}" for clip in sorted(clips)), _LINKS], removed)


def _remove_pages(ws: Workspace, videos: set[str], removed: Removed) -> None:
    """Evaluations, reports and training runs' pictures of it; the former are made anew when asked for."""
    folders = [f"{_EVALUATIONS}/{name}" for name in ws.store.names(_EVALUATIONS)]
    pages = [folder for folder in folders if _names_any(ws, ws.store.files(folder), videos)]
    files = [f"{_SHARDS}/{name}" for name in ws.store.names(_SHARDS)]
    measured = [file for file in files if _names_any(ws, [file], videos)]
    seen = [
        f"runs/{run}/{folder}"
        for run in runs_that_saw(ws, videos)
        for folder in ("renders", "tensorboard")
    ]
    _remove(ws, [*pages, *measured, *seen, _REPORTS], removed)


def _remove(ws: Workspace, paths: Iterable[str], removed: Removed) -> None:
    for path in paths:
        if ws.store.exists(path) or ws.store.files(path):  # half of a folder at a URL is not there
            ws.store.remove(path)
            removed.paths.append(path)


def _names_any(ws: Workspace, files: Iterable[str], videos: set[str]) -> bool:
    """Whether a JSON file among these speaks of one of the videos."""
    texts = (ws.store.read_bytes(f).decode(errors="replace") for f in files if f.endswith(".json"))
    return any(json.dumps(video)[1:-1] in text for text in texts for video in videos)


def _video_of(clip: str) -> str:
    return clip.partition(_CLIP_MARK)[0]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
