"""The demo: films of procedural rooms, served over HTTP on loopback, through all six stages for real."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rich.progress import Progress

from data_catalog import Workspace, views
from flows._http import LOOPBACK, served
from flows._progress import console
from flows._run import run_in_workspace
from sage_core.config import load_config
from sage_core.errors import ConfigError
from sage_core.sandbox import Limits, run
from sage_core.types import Stage
from tasks._plan import Retry

_FILM_LIMITS = Limits(wall_s=900, memory_mb=2048)


def run_demo(workspace: Path) -> int:
    """Make the films, mine them, adapt, evaluate; write ``summary.json`` and the report; 0 if all is well."""
    site = workspace / "site"
    names = _make_site(site)
    config = load_config(preset="demo", overrides=[f"run.workers={os.cpu_count() or 2}"])
    with _served(site) as base:
        sources = [f"{base}/{name}" for name in names]
        good = run_in_workspace(workspace, sources, list(Stage), config, Retry.MISSING, None)
    report = workspace / "reports/latest/index.html"
    summary = workspace / "summary.json"
    summary.write_text(json.dumps(summarise(workspace, report), indent=2) + "\n")
    console.print(f"[bold]summary[/] {summary}", soft_wrap=True)
    return 0 if good else 1


def summarise(workspace: Path, report: Path) -> dict[str, Any]:
    """Items per stage and verdict, reasons, shard rows, metrics before and after, where the report is."""
    import pyarrow.parquet as pq

    ws = Workspace.open(workspace)
    funnel = views.funnel(ws)
    shards = {a.path for e in ws.catalog.latest(Stage.ASSEMBLE.value) for a in e.artifacts.values()}
    rows = {"frames": 0, "clips": 0}
    for path in shards:
        rows[Path(path).name.split("-")[0]] += pq.read_metadata(ws.store.path(path)).num_rows
    evaluated = ws.catalog.latest(Stage.EVALUATE.value)
    metrics = {name: f["value"] for e in evaluated for name, f in e.figures.items()}
    return {"items": funnel, "shard_rows": rows, "metrics": metrics, "report": str(report)}


def _make_site(site: Path) -> list[str]:
    """Films, and what else a night of fetching meets; the names to ask for, in order."""
    from sage_core.world.videos import DEMO_FILMS

    site.mkdir(parents=True, exist_ok=True)
    films = [film.name for film in DEMO_FILMS]
    _film_all(site, [name for name in films if not (site / f"{name}.mp4").exists()])
    whole = (site / f"{films[0]}.mp4").read_bytes()
    extras = {
        "cut_off.mp4": whole[: len(whole) // 2],
        "uploaded_again.mp4": whole,
        "a_page.html": b"<!doctype html><title>No film here</title><p>Just words.",
    }
    for name, content in extras.items():
        if not (site / name).exists():
            (site / name).write_bytes(content)
    return [*(f"{name}.mp4" for name in films), *extras, "dead_link.mp4"]


def _film_all(site: Path, names: list[str]) -> None:
    """Film the rooms, one process a core."""
    if not names:
        return

    def film(name: str) -> None:
        command = [sys.executable, "-m", "sage_core.world.videos", "--out", str(site)]
        run([*command, "--only", name], _FILM_LIMITS)

    with ThreadPoolExecutor(os.cpu_count() or 2) as pool, Progress(console=console) as bar:
        task = bar.add_task("filming rooms", total=len(names))
        for _ in pool.map(film, names):
            bar.advance(task)


@contextmanager
def _served(site: Path) -> Iterator[str]:
    """The films over HTTP; on the same port each time, since a URL names an item."""
    with ExitStack() as stack:
        try:
            base = stack.enter_context(served(site, _port(site)))
        except OSError as error:
            raise ConfigError(
                f"port {_port(site)}, on which this demo's films were served before, is taken: free it, or "
                f"remove {site.parent} and begin anew"
            ) from error
        yield base


def _port(folder: Path) -> int:
    note = folder.parent / "site-port"
    if not note.exists():
        with socket.socket() as probe:
            probe.bind((LOOPBACK, 0))
            note.write_text(str(probe.getsockname()[1]))
    return int(note.read_text())
