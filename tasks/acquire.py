"""acquire: a source item becomes a checked copy under ``videos/<item>/`` and a verdict.

Fetching runs in parallel; verdicts are recorded one after the other in the order of the sources, so
that which of two equal videos counts as the duplicate depends on that order alone. A copy is published
before its verdict: a run that is killed in between finds it again and fetches nothing twice.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from prefect import task
from prefect.cache_policies import NO_CACHE

from data_catalog import StageEvent, StoreError, Workspace
from sage_core.acquisition.fetch import Entry, list_url
from sage_core.acquisition.hosts import HostGate
from sage_core.acquisition.obtain import (
    Obtained,
    check_again,
    fetch_key,
    obtain,
    refused_content,
    refused_source,
)
from sage_core.acquisition.policy import POLICY_REASONS, policy_hash
from sage_core.acquisition.room import used_bytes
from sage_core.acquisition.sources import SourceItem, SourceKind, expand
from sage_core.config import SageConfig
from sage_core.config.policy import PolicyConfig
from sage_core.types import Artifact, Figure, Judgement, Reason, Stage, Verdict
from tasks._slots import slot
from tasks._unit import Attempt, Outcome, Subject, attempt, brief, record
from tasks.tombstones import Tombstones

_INFO = "info.json"
_NO_RULES = PolicyConfig()
_SITE_CACHE = "scratch/sites"
_SITE_FACTS = (
    *("title", "uploader", "uploader_id", "channel", "channel_id", "license", "upload_date"),
    *("extractor", "format", "webpage_url"),
)


class Contents:
    """Which accepted item holds which content, by checksum."""

    def __init__(self, item_by_content: dict[str, str]) -> None:
        self._item_by_content = item_by_content

    @classmethod
    def of(cls, ws: Workspace) -> Self:
        accepted = ws.catalog.each(Stage.ACQUIRE.value, Verdict.ACCEPTED.value)
        return cls({e.artifacts["video"].sha256: e.item for e in accepted})

    def holder(self, content: str, item: str) -> str | None:
        """The other item that holds this content."""
        found = self._item_by_content.get(content)
        return None if found == item else found

    def add(self, content: str, item: str) -> None:
        self._item_by_content.setdefault(content, item)

    def remove(self, content: str, item: str) -> None:
        """Take back what :meth:`add` was told, if it is this item that holds the content."""
        if self._item_by_content.get(content) == item:
            del self._item_by_content[content]


def find_items(
    workspace: str, sources: Sequence[str], config: SageConfig, gate: HostGate
) -> list[SourceItem]:
    """The items that the user's sources stand for, in order; playlists are asked for over the network."""
    ws = Workspace.open(workspace)

    def listed(url: str) -> list[Entry] | None:
        with ws.store.scratch() as area:
            return list_url(url, area, config.acquire, gate, cache=ws.store.path(_SITE_CACHE))

    return expand(sources, listed)


def known_items(ws: Workspace, chosen: Callable[[StageEvent], bool]) -> list[SourceItem]:
    """The items that were asked for before, as they were asked for; those whose verdict is ``chosen``."""
    found = [
        SourceItem.from_json(e.details["asked"])
        for e in ws.catalog.each(Stage.ACQUIRE.value)
        if chosen(e) and "asked" in e.details  # of what was forgotten nobody knows where it lay
    ]
    return sorted(found, key=lambda source: source.item)


def is_ruled_otherwise(
    last: StageEvent | None, source: SourceItem, config: SageConfig, stones: Tombstones
) -> bool:
    """Whether an item's last verdict is not what policy and tombstones say now: then it is judged anew.

    Cheap: an accepted item is held to the rules by what is known of it; one that was refused is asked for
    again if the rules have changed.
    """
    if last is None:
        return False
    if source.item in stones:
        return last.reason != Reason.FORGOTTEN.value
    policy = config.acquire.policy
    if last.reason in POLICY_REASONS:
        return bool(last.details.get("policy") != policy_hash(policy, stones.uploaders))
    if last.verdict != Verdict.ACCEPTED.value:
        return False
    if policy == _NO_RULES and not stones.uploaders:
        return False
    refusal = refused_source(source, policy)
    refusal = refusal or refused_content(source, last.details, policy, stones.uploaders)
    return refusal is not None


@task(name="acquire", task_run_name="acquire-{source.item}", cache_policy=NO_CACHE)
def fetch_item(
    workspace: str,
    source: SourceItem,
    config: SageConfig,
    gate: HostGate,
    until: datetime | None = None,
) -> Attempt | None:
    """Bring an item's file into the workspace and check it; records nothing and raises nothing.

    ``gate`` is shared by all fetches of a run. None, and nothing was done, if the moment ``until`` has come
    before the fetch could begin: no more than ``acquire.downloads`` run at a time on this machine.
    """
    ws = Workspace.open(workspace)

    def late() -> bool:
        return until is not None and datetime.now(UTC) >= until

    def fetched() -> Attempt:
        return attempt(source.item, Stage.ACQUIRE, lambda: _fetch(ws, source, config, gate))

    if late():
        return None
    if source.kind is not SourceKind.URL:
        return fetched()
    with slot("download", config.acquire.downloads, give_up=late) as there_is_one:
        return fetched() if there_is_one else None


def record_item(
    ws: Workspace,
    source: SourceItem,
    fetched: Attempt,
    contents: Contents,
    config: SageConfig,
    run: str,
) -> dict[str, Any]:
    """:func:`record_items` of one."""
    return record_items(ws, [(source, fetched)], contents, config, run)[0]


def record_items(
    ws: Workspace,
    done: Sequence[tuple[SourceItem, Attempt]],
    contents: Contents,
    config: SageConfig,
    run: str,
) -> list[dict[str, Any]]:
    """Record the verdicts on fetched items in one commit; call it in the order of the sources.

    ``contents`` knows what was accepted before, and learns of these items.
    """
    stones = Tombstones.of(ws)
    verdicts = []
    accepted: list[tuple[str, str]] = []
    for source, fetched in done:
        outcome = _unless_duplicate(ws, source, fetched.outcome, contents)
        asked: dict[str, Any] = {"asked": source.to_json()}
        if outcome.judgement.reason in POLICY_REASONS:
            asked["policy"] = policy_hash(config.acquire.policy, stones.uploaders)
        outcome = replace(outcome, details={**outcome.details, **asked})
        outcome = _unless_forgotten(ws, source, outcome, stones)
        stone = stones.of_item(source.item)
        where = stone.source if stone else source.source
        subject = Subject(source.item, where, None, source.input_hash)
        verdicts.append((subject, replace(fetched, outcome=outcome)))
        if outcome.judgement.verdict is Verdict.ACCEPTED:
            accepted.append((outcome.artifacts["video"].sha256, source.item))
            contents.add(*accepted[-1])
    try:
        events = record(ws, verdicts, stage=Stage.ACQUIRE, config=config, run=run)
    except BaseException:
        for content, item in accepted:
            contents.remove(content, item)
        raise
    return [brief(event) for event in events]


def _fetch(ws: Workspace, source: SourceItem, config: SageConfig, gate: HostGate) -> Outcome:
    stones = Tombstones.of(ws)
    if source.item in stones:
        return Outcome(Judgement.reject(Reason.FORGOTTEN, "it was removed for good"))
    key = fetch_key(source, config.acquire)
    reused = _refused(ws, source, config, stones) or _published(ws, source, key, config)
    if reused is not None:
        return reused
    if gate.room is not None and source.kind in (SourceKind.FILE, SourceKind.IMAGES):
        gate.room.check(_size(source.path), source.source)
    cache = ws.store.path(_SITE_CACHE)
    seed = config.run.seed + zlib.crc32(source.item.encode())
    with ws.store.scratch() as area:
        got = obtain(
            *(source, area, config.acquire, gate),
            seed=seed,
            cache=cache,
            forgotten=stones.uploaders,
        )
        if got.content is None:
            return Outcome(got.judgement, details=_details(source, got.info))
        if gate.room is not None:
            gate.room.take(_size(got.content), source.source)
        return _publish(ws, source, got, key)


def _size(path: Path) -> int:
    """Bytes of a local file or image folder; 0 where there is nothing, which fetching it will say."""
    return used_bytes(path) if path.is_dir() else path.stat().st_size if path.is_file() else 0


def _publish(ws: Workspace, source: SourceItem, got: Obtained, key: str) -> Outcome:
    """Put content and facts into place in one step, so that neither is ever there without the other."""
    assert got.content is not None
    facts = {**got.info, "content": got.content.name, "fetch_key": key, "source": source.source}
    (got.content.parent / _INFO).write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")
    files = ws.store.publish_folder(got.content.parent, _folder(source))
    return _outcome(source, got, files[got.content.name], files[_INFO])


def _refused(
    ws: Workspace, source: SourceItem, config: SageConfig, stones: Tombstones
) -> Outcome | None:
    """What the rules say of an item that is here already; its files stay until it is forgotten."""
    last = ws.catalog.find(source.item, Stage.ACQUIRE.value)
    if last is None or last.verdict != Verdict.ACCEPTED.value:
        return None
    policy = config.acquire.policy
    refusal = refused_source(source, policy)
    refusal = refusal or refused_content(source, last.details, policy, stones.uploaders)
    return Outcome(refusal.judgement(), details=last.details) if refusal else None


def _published(ws: Workspace, source: SourceItem, key: str, config: SageConfig) -> Outcome | None:
    """What an earlier run put into place for the same wish, if it is still good."""
    if not ws.store.exists(f"{_folder(source)}/{_INFO}"):
        return None
    try:
        info = ws.store.read_json(f"{_folder(source)}/{_INFO}")
        if info.get("fetch_key") != key:
            return None
        content = ws.store.fetch(f"{_folder(source)}/{info['content']}")
    except (StoreError, KeyError):
        return None
    if not content.exists():
        return None
    got = check_again(content, info, config.acquire)
    if got.judgement.verdict is not Verdict.ACCEPTED:
        return None
    video, facts = (ws.store.settle(f"{_folder(source)}/{n}") for n in (info["content"], _INFO))
    return _outcome(source, got, video, facts)


def _outcome(source: SourceItem, got: Obtained, video: Artifact, info: Artifact) -> Outcome:
    artifacts = {"video": video, "info": info}
    return Outcome(got.judgement, artifacts, _details(source, got.info))


def _details(source: SourceItem, info: dict[str, Any]) -> dict[str, Any]:
    """What the next stages and the report want to know without opening a file."""
    site = info.get("site", {})
    details = {name: site[name] for name in _SITE_FACTS if name in site}
    details.setdefault("title", source.title or info.get("file_name", ""))
    return {
        **details,
        "kind": info.get("kind", source.kind.value),
        "sections": [list(section) for section in source.sections],
        **({"probe": info["probe"]} if "probe" in info else {}),
    }


def _unless_duplicate(
    ws: Workspace, source: SourceItem, outcome: Outcome, contents: Contents
) -> Outcome:
    """The outcome, or the verdict *duplicate* where an item before it holds the same bytes."""
    if outcome.judgement.verdict is not Verdict.ACCEPTED:
        return outcome
    holder = contents.holder(outcome.artifacts["video"].sha256, source.item)
    if holder is None:
        return outcome
    ws.store.remove(_folder(source))
    figures = {**outcome.judgement.figures, "duplicate_of": Figure(holder)}
    message = f"the same content as {holder}, which came first"
    judgement = Judgement.reject(Reason.DUPLICATE, message, figures)
    return Outcome(judgement, details=outcome.details)


def _unless_forgotten(
    ws: Workspace, source: SourceItem, outcome: Outcome, stones: Tombstones
) -> Outcome:
    """The outcome, or the verdict *forgotten* where a tombstone is of this item or of the bytes that came."""
    stone = stones.of_item(source.item)
    if stone is not None:  # also one that was put up while this was being fetched
        ws.store.remove(_folder(source))
        return Outcome(Judgement.reject(Reason.FORGOTTEN, f"forgotten: {stone.reason}"))
    if outcome.judgement.verdict is not Verdict.ACCEPTED:
        return outcome
    held = stones.of_content(outcome.artifacts["video"].sha256)
    if held is None:
        return outcome
    ws.store.remove(_folder(source))
    message = f"the same content as {held.key}, which was removed for good: {held.reason}"
    figures = {"same_as": Figure(held.key)}
    judgement = Judgement.reject(Reason.FORGOTTEN, message, figures)
    return Outcome(judgement, details=outcome.details)


def _folder(source: SourceItem) -> str:
    return f"videos/{source.item}"
