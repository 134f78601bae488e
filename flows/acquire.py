"""acquire: sources → checked files in the workspace."""

from __future__ import annotations

from prefect import flow
from prefect.states import State
from prefect.task_runners import ThreadPoolTaskRunner

from data_catalog import Workspace
from flows._progress import StageProgress
from flows._stage import (
    StageSummary,
    conclude,
    flow_run_id,
    lease_owner,
    run_name,
    summarised,
    ui_progress,
)
from sage_core.acquisition.hosts import HostGate
from sage_core.acquisition.sources import SourceItem
from sage_core.config import SageConfig
from sage_core.types import Stage, Verdict
from tasks._plan import Retry, Selection, wanted
from tasks.acquire import Contents, fetch_item, find_items, record_item


@flow(name="acquire", flow_run_name=run_name("acquire"))
def acquire(
    workspace: str,
    sources: list[str] | None = None,
    config: SageConfig | None = None,
    retry: Retry = Retry.NONE,
    items: list[str] | None = None,
) -> State[StageSummary]:
    """Fetch every source that has no verdict yet and check that it is what it says.

    Args:
        workspace: the workspace's folder.
        sources: URLs, playlists, channels, files, folders, source lists; none: with `retry`, the
            sources that the workspace knows.
        config: settings; the defaults are the paper's.
        retry: `none` does what is missing, `failed` also what failed, `all` everything.
        items: only these items (ids).
    """
    config = config or SageConfig()
    ws = Workspace.open(workspace)
    with ws.catalog.lease(Stage.ACQUIRE.value, lease_owner()):
        gate = HostGate()
        selection = Selection.of(retry, items)
        known = find_items(workspace, _sources(ws, sources or [], selection), config, gate)
        chosen = [i for i in known if selection.names(i.item, None)]
        missing = [i for i in chosen if _is_wanted(ws, i, config, selection)]
        summary = _fetch_and_record(ws, missing, config, gate, len(chosen) - len(missing))
    return conclude(ws, summary, config.run.max_failed_share)


def _fetch_and_record(
    ws: Workspace, missing: list[SourceItem], config: SageConfig, gate: HostGate, done: int
) -> StageSummary:
    """Fetch in parallel, record in the order of the sources: it decides which of two is the duplicate."""
    run, contents = flow_run_id(), Contents.of(ws)
    results, broken = [], []
    tell = ui_progress(Stage.ACQUIRE, len(missing))
    with (
        StageProgress(Stage.ACQUIRE.value, len(missing)) as bar,
        ThreadPoolTaskRunner(max_workers=config.run.workers) as runner,
    ):
        arguments = {"workspace": str(ws.root), "config": config, "gate": gate}
        futures = [runner.submit(fetch_item, {**arguments, "source": i}) for i in missing]
        for source, future in zip(missing, futures, strict=True):
            try:
                result = record_item(ws, future.result(), contents, config, run)
            except Exception as error:  # noqa: BLE001  (its neighbours still get their verdicts)
                broken.append(f"{source.source}: {type(error).__name__}: {error}")
                continue
            results.append(result)
            bar.advance(result)
            tell(len(results))
    return summarised(Stage.ACQUIRE, results, broken, done)


def _sources(ws: Workspace, sources: list[str], selection: Selection) -> list[str]:
    """What was asked for, and with ``retry`` what the workspace knows and may have to do again."""
    if selection.retry is Retry.NONE:
        return sources
    verdict = Verdict.FAILED.value if selection.retry is Retry.FAILED else None
    known = [e.source for e in ws.catalog.latest(Stage.ACQUIRE.value, verdict=verdict)]
    return list(dict.fromkeys([*sources, *known]))


def _is_wanted(ws: Workspace, source: SourceItem, config: SageConfig, selection: Selection) -> bool:
    return wanted(ws, source.item, Stage.ACQUIRE, config, source.input_hash, selection.retry)
