"""report: everything that a workspace has to tell, as one HTML file."""

from __future__ import annotations

import os
import platform
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from data_catalog import StageEvent, Workspace, views
from flows import _exhibits
from sage_core import __version__
from sage_core.report import (
    Evaluation,
    Fact,
    Item,
    Report,
    Run,
    Settings,
    StageRow,
    Step,
    render_html,
)
from sage_core.report.figures import shown
from sage_core.types import Stage, Verdict

LATEST = "reports/latest/index.html"
MOST_ITEMS = 1000
_URGENCY = {Verdict.FAILED.value: 0, Verdict.REJECTED.value: 1, Verdict.ACCEPTED.value: 2}
_STAGES = list(Stage)


def write_report(workspace: str | Path, out: Path | None = None) -> Path:
    """Write the report of a workspace and return where it is.

    Without ``out`` it goes to ``reports/latest/index.html`` in the workspace (of one at a URL, in
    this machine's folder for it, too); in a folder it is ``index.html``. It appears whole: who has the
    old one open keeps it until they load it again.
    """
    ws = Workspace.open(workspace, create=False)
    page = render_html(collect(ws)).encode(errors="backslashreplace")
    if out is None:
        ws.store.write_bytes(LATEST, page)
        if not ws.url:
            return ws.store.path(LATEST)
        out = ws.root / LATEST
    out = out / "index.html" if out.is_dir() else out
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.{os.getpid()}")
    partial.write_bytes(page)
    partial.replace(out)
    return out


def collect(ws: Workspace) -> Report:
    """Read the catalog and the artifacts that it names."""
    events = ws.catalog.latest()
    titles = _titles(events)
    notes: list[str] = []

    def name(item: str) -> str:
        return titles.get(item, item)

    items, left_out = _items(events, titles)
    scenes, scenes_left_out = _exhibits.scenes(ws, name)
    runs, runs_left_out = _exhibits.runs(ws)
    evaluations, evaluations_left_out = _exhibits.evaluations(ws, notes)
    return Report(
        workspace=ws.root.name,
        made=f"{datetime.now(UTC):%-d %B %Y, %H:%M} UTC",
        versions=_versions(),
        headline=_headline(ws, len(scenes) + scenes_left_out, runs, evaluations),
        stages=_stages(ws, events),
        settings=_settings(events),
        items=items,
        items_left_out=left_out,
        sheets=_exhibits.sheets(ws, name, notes),
        scenes=scenes,
        scenes_left_out=scenes_left_out,
        runs=runs,
        runs_left_out=runs_left_out,
        evaluations=evaluations,
        evaluations_left_out=evaluations_left_out,
        notes=notes,
    )


def titles_of(ws: Workspace) -> dict[str, str]:
    """Item -> what people call it."""
    return _titles(ws.catalog.latest())


def _titles(events: Sequence[StageEvent]) -> dict[str, str]:
    """Item -> what people call it: a video's title, a clip's video and time span."""
    titles = {
        e.item: str(e.details.get("title") or e.source.rpartition("/")[2] or e.item)
        for e in events
        if e.stage == Stage.ACQUIRE.value
    }
    for event in events:
        clip = event.details.get("clip")
        if event.stage == Stage.CURATE.value and event.parent and clip:
            video = titles.get(event.parent, event.parent)
            span = f"{clip['start_s']:.1f}–{clip['end_s']:.1f} s" if clip["ordered"] else "photos"
            titles[event.item] = f"{video}, {span}"
    return titles


def _stages(ws: Workspace, events: Sequence[StageEvent]) -> list[StageRow]:
    # A part judged together with its whole, such as a clip by curate, carries the whole's time.
    parts = {(e.stage, part) for e in events for part in e.details.get("children", [])}
    seconds: dict[tuple[str, str], float] = defaultdict(float)
    for event in events:
        if (event.stage, event.item) not in parts:
            seconds[event.stage, _kind(event.stage, event.parent)] += event.seconds
    rows = []
    for row in views.funnel(ws):
        verdicts = {verdict.value: int(row[verdict.value]) for verdict in Verdict}
        stage, kind = row["stage"], row["kind"]
        time = seconds.get((stage, kind))
        rows.append(StageRow(stage, kind, verdicts, row["reasons"], time))
    return rows


def _kind(stage: str, parent: str | None) -> str:
    if stage in (Stage.ADAPT.value, Stage.EVALUATE.value):
        return "run"
    return "clip" if parent else "video"


def _settings(events: Sequence[StageEvent]) -> list[Settings]:
    stages = [stage.value for stage in Stage if any(e.stage == stage.value for e in events)]
    return [
        Settings(
            stage,
            sorted({e.config_hash for e in events if e.stage == stage}),
            sorted({e.code_version for e in events if e.stage == stage}),
        )
        for stage in stages
    ]


def _items(events: Sequence[StageEvent], titles: Mapping[str, str]) -> tuple[list[Item], int]:
    """Items by title, each followed by its parts; if there are too many, the troubled ones are kept."""
    by_item: dict[str, list[StageEvent]] = {}
    for event in sorted(events, key=lambda e: _STAGES.index(Stage(e.stage))):
        by_item.setdefault(event.item, []).append(event)
    items = [_item(item, steps, titles) for item, steps in by_item.items()]
    kept = sorted(items, key=lambda item: _URGENCY[item.last.verdict])[:MOST_ITEMS]
    order = {"video": 0, "clip": 1, "run": 2}
    kept.sort(key=lambda item: (order[item.kind], titles.get(item.item, "").casefold(), item.item))
    return kept, len(items) - len(kept)


def _item(item: str, events: Sequence[StageEvent], titles: Mapping[str, str]) -> Item:
    first = events[0]
    kind = _kind(first.stage, first.parent)
    # A clip stands below its video: its time span is title enough.
    whole = titles.get(first.parent or "", first.parent)
    title = titles.get(item, "training run" if kind == "run" else "").removeprefix(f"{whole}, ")
    steps = [
        Step(
            e.stage,
            e.verdict,
            e.reason,
            e.message,
            _exhibits.event_figures(e),
            e.attempt,
            e.seconds,
            e.retryable,
        )
        for e in events
    ]
    return Item(item, title, first.source, kind, steps, first.parent)


def _headline(
    ws: Workspace, reconstructed: int, runs: Sequence[Run], evaluations: Sequence[Evaluation]
) -> list[Fact]:
    """The few numbers that people ask for first; those that there are."""
    videos = ws.catalog.latest(Stage.ACQUIRE.value)
    curated = ws.catalog.latest(Stage.CURATE.value, verdict="accepted")
    wanted = [e for e in curated if e.parent is None]
    facts = [Fact("sources", shown(len(videos)))] if videos else []
    if wanted:
        facts.append(Fact("videos accepted", shown(len(wanted))))
    if reconstructed:
        facts.append(Fact("clips reconstructed", shown(reconstructed)))
    frames = [
        e.figures["frames"]["value"]
        for e in ws.catalog.latest(Stage.ASSEMBLE.value, verdict="accepted")
        if "frames" in e.figures
    ]
    if frames:
        facts.append(Fact("frames in shards", shown(int(sum(frames)))))
    steps = [fact.value for run in runs[:1] for fact in run.facts if fact.name == "steps"]
    facts += [Fact("training steps", value) for value in steps]
    return facts + _before_and_after(evaluations)


def _before_and_after(evaluations: Sequence[Evaluation]) -> list[Fact]:
    parts = [part for evaluation in evaluations[:1] for part in evaluation.sets if part.cells]
    facts = []
    for part in parts[:2]:
        cell = part.cells[0]
        change = " → ".join(shown(value) for value in cell.values)
        unit = f", {cell.unit}" if cell.unit else ""
        facts.append(Fact(f"{cell.label} on {part.name}{unit}", change, cell.direction))
    return facts


def _versions() -> dict[str, str]:
    """What ran, as far as it is installed here."""
    found = {"SAGE": __version__, "Python": platform.python_version()}
    for package in ("torch", "pycolmap"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
