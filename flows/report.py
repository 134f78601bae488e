"""report: everything that a workspace has to tell, as one HTML file."""

from __future__ import annotations

import os
import platform
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from heapq import nsmallest
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
from tasks._rest import noted

LATEST = "reports/latest/index.html"
MOST_ITEMS = 1000
_URGENCY = {Verdict.FAILED.value: 0, Verdict.REJECTED.value: 1, Verdict.ACCEPTED.value: 2}


def write_report(workspace: str | Path, out: Path | None = None) -> Path:
    """Write the report of a workspace and return where it is.

    Without ``out`` it goes to ``reports/latest/index.html`` in the workspace (of one at a URL, in
    this machine's folder for it, too); in a folder it is ``index.html``. It appears whole: who has the
    old one open keeps it until they load it again.
    """
    ws = Workspace.open(workspace, create=False)
    with ws.still():
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


def fresh_report(ws: Workspace) -> Path:
    """The report in the workspace: the one that is there, if nothing was recorded since it was written."""
    note, page = noted(ws, "report", Stage.EVALUATE), ws.root / LATEST
    if note.value and page.is_file() and page.stat().st_size == note.value:
        return page
    page = write_report(ws.address)
    note.keep(page.stat().st_size)
    return page


def collect(ws: Workspace) -> Report:
    """Read the catalog and the artifacts that it names."""
    notes: list[str] = []

    def name(item: str) -> str:
        return title_of(ws, item) or item

    items, left_out = _items(ws)
    scenes, scenes_left_out = _exhibits.scenes(ws, name)
    runs, runs_left_out = _exhibits.runs(ws)
    evaluations, evaluations_left_out = _exhibits.evaluations(ws, notes)
    return Report(
        workspace=ws.root.name,
        made=f"{datetime.now(UTC):%-d %B %Y, %H:%M} UTC",
        versions=_versions(),
        headline=_headline(ws, len(scenes) + scenes_left_out, runs, evaluations),
        stages=_stages(ws),
        settings=_settings(ws),
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


def title_of(ws: Workspace, item: str) -> str | None:
    """What people call an item: a video's title, a clip's video and time span; None of a training run."""
    curated = ws.catalog.find(item, Stage.CURATE.value)
    if curated is not None and curated.parent and (clip := curated.details.get("clip")):
        video = title_of(ws, curated.parent) or curated.parent
        span = f"{clip['start_s']:.1f}–{clip['end_s']:.1f} s" if clip["ordered"] else "photos"
        return f"{video}, {span}"
    acquired = ws.catalog.find(item, Stage.ACQUIRE.value)
    if acquired is None:
        return None
    return str(acquired.details.get("title") or acquired.source.rpartition("/")[2] or item)


def _stages(ws: Workspace) -> list[StageRow]:
    # A part judged together with its whole, such as a clip by curate, carries the whole's time.
    seconds: dict[tuple[str, str], float] = defaultdict(float)
    for event in ws.catalog.each():
        whole = ws.catalog.find(event.parent, event.stage) if event.parent else None
        if whole is None or event.item not in whole.details.get("children", []):
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


def _settings(ws: Workspace) -> list[Settings]:
    used: dict[str, tuple[set[str], set[str]]] = {}  # in the order of the stages
    for event in ws.catalog.each():
        hashes, versions = used.setdefault(event.stage, (set(), set()))
        hashes.add(event.config_hash)
        versions.add(event.code_version)
    return [
        Settings(stage, sorted(hashes), sorted(versions))
        for stage, (hashes, versions) in used.items()
    ]


def _items(ws: Workspace) -> tuple[list[Item], int]:
    """Items by title, each followed by its parts; if there are too many, the troubled ones are kept."""
    last = {e.item: e.verdict for e in ws.catalog.each()}  # the furthest stage's: it comes last
    kept = nsmallest(MOST_ITEMS, last, key=lambda item: (_URGENCY[last[item]], item))
    found = {item: [ws.catalog.find(item, stage.value) for stage in Stage] for item in kept}
    steps = {item: [event for event in events if event] for item, events in found.items()}
    titles = {item: title_of(ws, item) for item in kept}
    items = [_item(ws, item, steps[item], titles[item]) for item in kept]
    order = {"video": 0, "clip": 1, "run": 2}
    items.sort(key=lambda i: (order[i.kind], (titles[i.item] or "").casefold(), i.item))
    return items, len(last) - len(kept)


def _item(ws: Workspace, item: str, events: Sequence[StageEvent], title: str | None) -> Item:
    first = events[0]
    kind = _kind(first.stage, first.parent)
    # A clip stands below its video: its time span is title enough.
    whole = title_of(ws, first.parent) or first.parent if first.parent else None
    title = title or ("training run" if kind == "run" else "")
    title = title.removeprefix(f"{whole}, ")
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
    videos = sum(1 for _ in ws.catalog.each(Stage.ACQUIRE.value))
    curated = ws.catalog.each(Stage.CURATE.value, "accepted")
    accepted = sum(1 for e in curated if e.parent is None)
    facts = [Fact("sources", shown(videos))] if videos else []
    if accepted:
        facts.append(Fact("videos accepted", shown(accepted)))
    if reconstructed:
        facts.append(Fact("clips reconstructed", shown(reconstructed)))
    assembled = ws.catalog.each(Stage.ASSEMBLE.value, "accepted")
    frames = sum(e.figures.get("frames", {}).get("value", 0) for e in assembled)
    if frames:
        facts.append(Fact("frames in shards", shown(int(frames))))
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
