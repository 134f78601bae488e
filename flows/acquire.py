"""acquire: sources → checked files in the workspace."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner

from data_catalog import DROPPED, LeaseLost, StageEvent, Workspace
from flows._deadline import Deadline
from flows._polite import refusing
from flows._progress import StageProgress
from flows._runners import threads
from flows._stage import (
    TOGETHER,
    Counts,
    Job,
    batch_size,
    conclude,
    flow_run_id,
    lease_owner,
    meant_by_retry,
    outcomes,
    run_name,
    submit,
    ui_progress,
)
from flows._summary import StageSummary
from sage_core.acquisition.hosts import HostGate
from sage_core.acquisition.policy import policy_hash
from sage_core.acquisition.room import Room
from sage_core.acquisition.sources import SourceItem
from sage_core.config import SageConfig
from sage_core.config.policy import PolicyConfig
from sage_core.types import Stage, Verdict
from tasks._plan import Retry, Selection, Selector, wanted
from tasks._rest import keep_rest, noted, rest_of
from tasks._unit import Attempt
from tasks.acquire import (
    Contents,
    fetch_item,
    find_items,
    is_ruled_otherwise,
    known_items,
    record_items,
)
from tasks.tombstones import Tombstones

_AHEAD = 1000
"""About how many sources are fetched, or wait for it, before the verdict on the first is recorded."""


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
        missing, done = _plan(ws, named, config, selection)
        summary = _fetch_and_record(ws, missing, config, gate, deadline)
        summary = replace(summary, done_before=done)
    return conclude(ws, summary, config)


def _plan(
    ws: Workspace, named: list[SourceItem], config: SageConfig, selection: Selection
) -> tuple[list[SourceItem], int]:
    """The sources to fetch, in order, and how many others are done."""
    stones, current = Tombstones.of(ws), config.stage_hash(Stage.ACQUIRE)
    asked = [(i.item, i.input_hash) for i in named]
    given = [
        asked,
        current,
        policy_hash(config.acquire.policy, stones.uploaders),
        list(stones.videos),
    ]
    note = noted(ws, "plan-acquire", Stage.ACQUIRE, given)
    if selection.is_plain and (rest := rest_of(ws, note)):
        return [], rest[0]
    with ws.still():
        known = _with_known(ws, named, selection)
        known += _ruled_otherwise(ws, known, config, stones)
        chosen = [i for i in known if selection.names(i.item, None)]
        missing = [
            i
            for i in chosen
            if is_ruled_otherwise(_last(ws, i), i, config, stones)
            or (i.item not in stones and _is_wanted(ws, i, current, selection))
        ]
    if selection.is_plain and not missing:
        keep_rest(ws, note, Stage.ACQUIRE, [i.item for i in chosen], [])
    return selection.first(missing), len(chosen) - len(missing)


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
    run, counts = flow_run_id(), Counts()
    contents = Contents.of(ws) if missing else Contents({})
    tell = ui_progress(Stage.ACQUIRE, len(missing))
    with (
        StageProgress(Stage.ACQUIRE.value, len(missing)) as bar,
        threads(config.run.workers) as runner,
    ):
        for batch in _fetched(ws, missing, config, gate, deadline, runner):
            for source, result in _recorded(ws, batch, contents, config, run):
                counts.add(result, bar, what=f"{source.source}: ")
            tell(counts.judged)
    return counts.summary(Stage.ACQUIRE, 0)


def _fetched(
    ws: Workspace,
    missing: list[SourceItem],
    config: SageConfig,
    gate: HostGate,
    deadline: Deadline,
    runner: TaskRunner[Any],
) -> Iterator[list[tuple[SourceItem, Any]]]:
    """Sources in order, batch by batch, each with its attempt, its error, or None if the time was up.

    A source that takes long holds up the verdicts of those after it, and their fetching when many wait.
    """
    given = {"workspace": ws.address, "config": config, "gate": gate, "until": deadline.at}
    size = batch_size(len(missing), config.run.workers, TOGETHER)
    most = max(_AHEAD // size, 2 * config.run.workers)
    under_way: deque[tuple[list[SourceItem], PrefectFuture[Any] | None]] = deque()
    for batch in (missing[start : start + size] for start in range(0, len(missing), size)):
        calls = [Job(fetch_item, {**given, "source": i}) for i in batch]
        begun = None if deadline.has_passed else submit(runner, calls, deadline)
        under_way.append((batch, begun))
        if len(under_way) >= most:
            yield _ended(*under_way.popleft())
    while under_way:
        yield _ended(*under_way.popleft())


def _ended(
    batch: list[SourceItem], future: PrefectFuture[Any] | None
) -> list[tuple[SourceItem, Any]]:
    results = outcomes(future, len(batch)) if future else [None] * len(batch)
    return list(zip(batch, results, strict=True))


def _recorded(
    ws: Workspace,
    batch: list[tuple[SourceItem, Any]],
    contents: Contents,
    config: SageConfig,
    run: str,
) -> list[tuple[SourceItem, Any]]:
    """The batch with brief results in place of attempts, recorded in one commit, or with its error."""
    done = [(source, one) for source, one in batch if isinstance(one, Attempt)]
    results: dict[str, Any] = {}
    try:
        told = record_items(ws, done, contents, config, run) if done else []
        results = {source.item: brief for (source, _), brief in zip(done, told, strict=True)}
    except LeaseLost:
        raise
    except Exception as error:  # noqa: BLE001  (their neighbours still get their verdicts)
        results = {source.item: error for source, _ in done}
    return [(source, results.get(source.item, one)) for source, one in batch]


def _with_known(ws: Workspace, named: list[SourceItem], selection: Selection) -> list[SourceItem]:
    """What was asked for now, and what was asked for before if it may be done again."""
    given = {item.item for item in named}
    return [*named, *(i for i in known_items(ws, selection.repeats) if i.item not in given)]


def _ruled_otherwise(
    ws: Workspace,
    chosen: list[SourceItem],
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
        if item.item not in given and is_ruled_otherwise(_last(ws, item), item, config, stones)
    ]


def _last(ws: Workspace, source: SourceItem) -> StageEvent | None:
    return ws.catalog.find(source.item, Stage.ACQUIRE.value)


def _is_wanted(
    ws: Workspace,
    source: SourceItem,
    config_hash: str,
    selection: Selection,
) -> bool:
    """Whether to fetch it; not what was dropped since, unless it is asked for again."""
    input_hash = source.input_hash
    if not wanted(ws, source.item, Stage.ACQUIRE, config_hash, input_hash, selection):
        return False
    last = _last(ws, source)
    if last is not None and last.input_hash == input_hash and last.details.get(DROPPED):
        return selection.repeats(last)
    return True
