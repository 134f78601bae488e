"""Copies among the accepted clips: of those that show the same footage one is kept, the others rejected.

What is decided follows from the set of the workspace's fingerprints alone, not from the order in which
videos came, ran, or were judged again: whoever settles it last finds the same. Only what changes is recorded.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, overload

from data_catalog import StageEvent, Workspace
from sage_core.config.duplicates import DuplicatesConfig
from sage_core.errors import SageError
from sage_core.fingerprints import Duplicate, Fingerprint, Footage, Link, duplicates, find_links
from sage_core.types import Artifact, Clip, Figure, Reason, Stage, Verdict
from tasks._plan import accepted_videos
from tasks._rest import noted
from tasks.forget import forgotten_event
from tasks.tombstones import Tombstones, fingerprint_path

LINKS_FILE = "clips/duplicates.json"
FORMAT = 1
_FIGURES = (
    *("duplicate_of", "duplicate_share", "duplicate_offset_s", "duplicate_rate"),
    *("duplicate_mirrored", "duplicate_bits"),
)
_KEPT_OPEN = 64
_MOST_PIXELS = 1 << 60


@dataclass(frozen=True, slots=True)
class Candidate:
    """A clip that its own pictures recommend: its latest event, its footage, its video's fingerprint."""

    event: StageEvent
    footage: Footage
    fingerprint: Artifact


def settle_duplicates(ws: Workspace, config: DuplicatesConfig, run: str) -> list[StageEvent]:
    """Decide anew which clips are duplicates; append and return the events of those for which that changes.

    A clip whose fingerprint is not there (it was curated before there were any) is compared with none.
    The links found are kept in ``clips/duplicates.json`` and found again there if nothing has changed.
    """
    changed = _changed_since(ws, config, _removed_footage(ws))
    now = datetime.now(UTC).isoformat(timespec="seconds")
    events = [replace(event, attempt=event.attempt + 1, run=run, time=now) for event in changed]
    return ws.catalog.append(events) if events else []


def _changed_since(
    ws: Workspace, config: DuplicatesConfig, removed: Sequence[Candidate]
) -> list[StageEvent]:
    """As :func:`_changed`; once if nothing changes, as long as the file of links is there."""
    given = [config.model_dump(), [(c.event.item, c.fingerprint.sha256) for c in removed]]
    note = noted(ws, "copies", Stage.CURATE, given)
    if note.value == 0 and (ws.store.exists(LINKS_FILE) or not config.enabled):
        return []
    changed = _changed(ws, config, removed)
    if not changed:
        note.keep(0)
    return changed


def _changed(
    ws: Workspace, config: DuplicatesConfig, removed: Sequence[Candidate]
) -> list[StageEvent]:
    """The events of clips as they ought to be, of those that are otherwise."""
    with ws.still():
        candidates = [*_candidates(ws), *removed]
    dropped: dict[int, Duplicate] = {}
    if config.enabled:
        links = _links(ws, candidates, config)
        dropped = duplicates([c.footage for c in candidates], links, config.max_share)
    wanted = [
        _judged(candidate, dropped.get(at), candidates, config)
        for at, candidate in enumerate(candidates)
    ]
    return [
        event
        for event, candidate in zip(wanted, candidates, strict=True)
        if event is not candidate.event and event != candidate.event and not _is_removed(candidate)
    ]


def _candidates(ws: Workspace) -> list[Candidate]:
    """Clips of current curations that are accepted, or would be if they were no duplicates; by id."""
    found = []
    for video in accepted_videos(ws):
        curated = ws.catalog.find(video, Stage.CURATE.value)
        acquired = ws.catalog.find(video, Stage.ACQUIRE.value)
        if curated is None or acquired is None or "fingerprint" not in curated.artifacts:
            continue
        for name in curated.details.get("children", []):
            event = ws.catalog.find(name, Stage.CURATE.value)
            if event is not None and _is_candidate(event):
                clip = Clip.from_json(event.details["clip"])
                footage = _footage(clip, acquired)
                found.append(Candidate(event, footage, curated.artifacts["fingerprint"]))
    return sorted(found, key=lambda candidate: candidate.event.item)


def _is_candidate(event: StageEvent) -> bool:
    by_others = (Reason.DUPLICATE.value, Reason.FORGOTTEN.value)
    return event.verdict == Verdict.ACCEPTED.value or event.reason in by_others


def _removed_footage(ws: Workspace) -> list[Candidate]:
    """What was removed for good, as far as its pictures' hashes were kept: it stands before all others."""
    found = []
    for stone in Tombstones.of(ws):
        path = fingerprint_path(stone.key)
        if not ws.store.exists(path):
            continue
        data = ws.store.read_bytes(path)
        artifact = Artifact(path, hashlib.sha256(data).hexdigest(), len(data))
        times = Fingerprint.read(ws.store.fetch(path)).times_s
        start, end = (float(times[0]), float(times[-1]) + 1.0) if len(times) else (0.0, 0.0)
        footage = Footage(stone.key, start, end, _MOST_PIXELS, 0.0)
        found.append(Candidate(forgotten_event(stone), footage, artifact))
    return found


def _is_removed(candidate: Candidate) -> bool:
    return candidate.footage.pixels == _MOST_PIXELS


def _footage(clip: Clip, acquired: StageEvent) -> Footage:
    """Of a video its size on disk over its duration stands for the bit rate."""
    _, _, width, height = clip.crop or (0, 0, clip.width, clip.height)
    seconds = acquired.figures.get("duration_s", {}).get("value")
    whole = float(seconds) if isinstance(seconds, int | float) and seconds > 0 else 1.0
    rate = acquired.artifacts["video"].bytes / whole
    return Footage(clip.item, clip.start_s, clip.end_s, width * height, rate)


def _judged(
    candidate: Candidate,
    duplicate: Duplicate | None,
    candidates: Sequence[Candidate],
    config: DuplicatesConfig,
) -> StageEvent:
    """The clip's event as it ought to be; its own figures stay."""
    event = candidate.event
    if duplicate is None:
        return as_curated(event)
    figures = as_curated(event).figures
    link = duplicate.links[0]
    original = candidates[link.second].event.item
    removed = any(_is_removed(candidates[link.second]) for link in duplicate.links)
    more = f", and {len(duplicate.links) - 1} more" if len(duplicate.links) > 1 else ""
    how = ", mirrored" if link.mirrored else ""
    return replace(
        event,
        verdict=Verdict.REJECTED.value,
        reason=(Reason.FORGOTTEN if removed else Reason.DUPLICATE).value,
        message=f"{original}{more} shows {duplicate.share:.0%} of it too{how}",
        figures={**figures, **_figures(original, duplicate.share, link, config)},
    )


def as_curated(event: StageEvent) -> StageEvent:
    """A clip's verdict as its own pictures gave it, before copies were looked for; maybe the event itself."""
    known = event.figures
    figures = {name: value for name, value in known.items() if name not in _FIGURES}
    if event.verdict == Verdict.ACCEPTED.value:
        return event if len(figures) == len(known) else replace(event, figures=figures)
    if event.reason != Reason.DUPLICATE.value:
        return event
    return replace(event, verdict=Verdict.ACCEPTED.value, reason=None, message="", figures=figures)


def _figures(
    original: str, share: float, link: Link, config: DuplicatesConfig
) -> dict[str, dict[str, Any]]:
    values = (
        Figure(original),
        Figure(round(share, 4), config.max_share, "<="),
        Figure(round(link.offset_s, 2)),
        Figure(round(link.rate, 3)),
        Figure(link.mirrored),
        Figure(round(link.distance, 1)),
    )
    return {name: asdict(figure) for name, figure in zip(_FIGURES, values, strict=True)}


def _links(ws: Workspace, candidates: Sequence[Candidate], config: DuplicatesConfig) -> list[Link]:
    """All links between the candidates, from the file if it was written for these very ones."""
    key = _key(candidates, config)
    if ws.store.exists(LINKS_FILE):
        stored = ws.store.read_json(LINKS_FILE)
        if stored.get("key") == key:
            return [_link(entry, stored["clips"]) for entry in stored["links"]]
    names = [candidate.event.item for candidate in candidates]
    links = find_links(_Stored(ws, candidates), config)
    found = {
        "format": FORMAT,
        "key": key,
        "clips": names,
        "links": [
            {**asdict(link), "first": names[link.first], "second": names[link.second]}
            for link in links
        ],
    }
    ws.store.write_json(LINKS_FILE, found)
    return links


def _link(entry: dict[str, Any], names: Sequence[str]) -> Link:
    place = {name: at for at, name in enumerate(names)}
    spans = {
        side: tuple((float(a), float(b)) for a, b in entry[side])
        for side in ("spans_first", "spans_second")
    }
    ends = {side: place[entry[side]] for side in ("first", "second")}
    return Link(**{**entry, **ends, **spans, "crop": tuple(entry["crop"])})


def _key(candidates: Sequence[Candidate], config: DuplicatesConfig) -> str:
    """Changes with whatever the links depend on."""
    parts = [
        (c.event.item, c.footage.start_s, c.footage.end_s, c.fingerprint.sha256) for c in candidates
    ]
    text = json.dumps([FORMAT, config.model_dump(exclude={"max_share"}), parts])
    return hashlib.sha256(text.encode()).hexdigest()


class _Stored(Sequence[Fingerprint]):
    """The candidates' fingerprints, read when they are asked for; the last few are kept."""

    def __init__(self, ws: Workspace, candidates: Sequence[Candidate]) -> None:
        self._ws, self._candidates = ws, candidates
        self._whole: OrderedDict[str, Fingerprint] = OrderedDict()

    def __len__(self) -> int:
        return len(self._candidates)

    @overload
    def __getitem__(self, at: int) -> Fingerprint: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Fingerprint]: ...
    def __getitem__(self, at: int | slice) -> Fingerprint | Sequence[Fingerprint]:
        if isinstance(at, slice):
            return [self[place] for place in range(*at.indices(len(self)))]
        candidate = self._candidates[at]
        footage = candidate.footage
        whole = self._read(candidate.fingerprint)
        return whole.between(footage.start_s, footage.end_s)

    def _read(self, artifact: Artifact) -> Fingerprint:
        found = self._whole.get(artifact.path)
        if found is None:
            if not self._ws.store.verify(artifact):
                raise SageError(
                    f"{artifact.path} is missing or not as recorded: curate its video again "
                    "(--retry all --item), or set curate.duplicates.enabled=false",
                    reason=Reason.MISSING_INPUT,
                )
            found = Fingerprint.read(self._ws.store.fetch(artifact))
            self._whole[artifact.path] = found
            if len(self._whole) > _KEPT_OPEN:
                self._whole.popitem(last=False)
        return found
