"""acquire: sources → checked files in the workspace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from prefect import flow
from prefect.client.schemas.objects import State

from data_catalog import DROPPED, LeaseLost, StageEvent, Workspace
from flows._deadline import Deadline
from flows._polite import refusing
from flows._progress import StageProgress, in_words
from flows._runners import threads
from flows._stage import (
    conclude,
    flow_run_id,
    lease_owner,
    meant_by_retry,
    run_name,
    summarised,
    ui_progress,
)
from flows._summary import StageSummary
from sage_core.acquisition.hosts import HostGate
from sage_core.acquisition.room import Room
from sage_core.acquisition.sources import SourceItem
from sage_core.config import SageConfig
from sage_core.config.policy import PolicyConfig
from sage_core.types import Stage, Verdict
from tasks._plan import Retry, Selection, Selector, wanted
from tasks.acquire import (
    Contents,
    fetch_item,
    find_items,
    is_ruled_otherwise,
    known_items,
    record_item,
)
from tasks.tombstones import Tombstones


@flow(name="acquire", flow_run_name=run_name("acquire"))
@refusing
def acquire(
    workspace: str,
    sources: list[str] | None = None,
    config: SageConfig | None = None,
    retry: Retry = Retry.MISSING,
    items: list[str] | None = None,
    select: Selector | None = None,
    until: datetime | None = None,
) -> State[StageSummary]:
    """Fetch every source that has no verdict yet and check that it is what it says.

    Args:
        workspace: the workspace's folder.
        sources: URLs, playlists, channels, files, folders, source lists; none: with `retry`, the
            sources that the workspace knows.
        config: settings; the defaults are the paper's.
        retry: `missing` does what is missing, `failed` also what failed (as a retry of this run does),
            `all` everything.
        items: only these items (ids).
        select: which of the finished items are done again, by verdict or snapshot; how many.
        until: begin no item after this moment; also the end of `run.time_budget_h` counts.
    """
    config = config or SageConfig()
    deadline = Deadline.of(config, until)
    ws = Workspace.open(workspace)
    with ws.catalog.lease(Stage.ACQUIRE.value, lease_owner()):
        room = Room(ws.root, config.run.min_free_gb, config.run.disk_quota_gb)
        gate = HostGate(config.acquire.block_after, room)
        selection = Selection.of(ws, Stage.ACQUIRE, meant_by_retry(retry), items, select)
        named = find_items(workspace, sources or [], config, gate)
        stones = Tombstones.of(ws)
        known = _with_known(ws, named, selection)
        last = {event.item: event for event in ws.catalog.latest(Stage.ACQUIRE.value)}
        known += _ruled_otherwise(ws, known, last, config, stones)
        chosen = [i for i in known if selection.names(i.item, None)]
        with ws.still():
            missing = [
                i for i in chosen if _is_wanted(ws, i, last.get(i.item), config, selection, stones)
            ]
        done, missing = len(chosen) - len(missing), selection.first(missing)
        summary = _fetch_and_record(ws, missing, config, gate, deadline)
        summary = replace(summary, done_before=done)
    return conclude(ws, summary, config)


def _fetch_and_record(
    ws: Workspace,
    missing: list[SourceItem],
    config: SageConfig,
    gate: HostGate,
    deadline: Deadline,
) -> StageSummary:
    """Fetch in parallel, record in the order of the sources: it decides which of two is the duplicate.

    Always in threads of this process: they share what is known of hosts that block.
    """
    run, contents = flow_run_id(), Contents.of(ws)
    results, broken, left = [], [], 0
    tell = ui_progress(Stage.ACQUIRE, len(missing))
    with (
        StageProgress(Stage.ACQUIRE.value, len(missing)) as bar,
        threads(config.run.workers) as runner,
    ):
        given = {"workspace": ws.address, "config": config, "gate": gate, "until": deadline.at}
        futures = [runner.submit(fetch_item, {**given, "source": i}) for i in missing]
        for source, future in zip(missing, futures, strict=True):
            try:
                fetched = future.result()
                if fetched is None:
                    left += 1
                    continue
                result = record_item(ws, source, fetched, contents, config, run)
            except LeaseLost:
                raise
            except Exception as error:  # noqa: BLE001  (its neighbours still get their verdicts)
                broken.append(f"{source.source}: {in_words(error)}")
                continue
            results.append(result)
            bar.advance(result)
            tell(len(results))
    return replace(summarised(Stage.ACQUIRE, results, broken, 0), left=left)


def _with_known(ws: Workspace, named: list[SourceItem], selection: Selection) -> list[SourceItem]:
    """What was asked for now, and what was asked for before if it may be done again."""
    given = {item.item for item in named}
    return [*named, *(i for i in known_items(ws, selection.repeats) if i.item not in given)]


def _ruled_otherwise(
    ws: Workspace,
    chosen: list[SourceItem],
    last: Mapping[str, StageEvent],
    config: SageConfig,
    stones: Tombstones,
) -> list[SourceItem]:
    """Accepted items, not asked for now, that policy or a tombstone no longer allows."""
    if config.acquire.policy == PolicyConfig() and not len(stones):
        return []
    given = {item.item for item in chosen}
    return [
        item
        for item in known_items(ws, lambda event: event.verdict == Verdict.ACCEPTED.value)
        if item.item not in given and is_ruled_otherwise(last.get(item.item), item, config, stones)
    ]


def _is_wanted(
    ws: Workspace,
    source: SourceItem,
    last: StageEvent | None,
    config: SageConfig,
    selection: Selection,
    stones: Tombstones,
) -> bool:
    """Whether to fetch or rule on it; not what was dropped since, unless it is asked for again."""
    if is_ruled_otherwise(last, source, config, stones):
        return True
    if source.item in stones:
        return False
    if last is not None and last.details.get(DROPPED) and last.input_hash == source.input_hash:
        return selection.repeats(last)
    return wanted(ws, source.item, Stage.ACQUIRE, config, source.input_hash, selection)
