"""What the Prefect UI shows of a run: summary, funnel, failures and their commands, sheets, the gate."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)

from data_catalog import StageEvent, Workspace, input_hash_of, views
from flows._sheets import night_sheet
from flows._summary import StageSummary, describe
from sage_core.config import SageConfig
from sage_core.types import Artifact, Stage, Verdict
from tasks._rest import noted

REPORTS_URL = "SAGE_REPORTS_URL"
"""Environment variable: where the workspace's reports are served, if they are."""

_MOST_ROWS = 500


def publish_stage(ws: Workspace, summary: StageSummary, config: SageConfig, run: str) -> None:
    """Summary, failures that stand, and what curate saw, of one stage's flow run."""
    create_markdown_artifact(
        _summary_text(summary),
        key=f"{summary.stage}-summary",
        description=f"What {summary.stage} judged in this run, and why it said no.",
    )
    settings = settings_argument(ws, config)
    if failures := _failures(ws, summary, settings, run):
        create_table_artifact(
            failures,
            key=f"{summary.stage}-failures",
            description="Items that could not be judged, this run's first. `again` does just one of them.",
        )
    if summary.broken or summary.left or summary.verdicts.get(Verdict.FAILED.value):
        create_markdown_artifact(
            f"**Warning.** {describe(summary)}\n\nAll that failed, again:\n\n"
            f"    sage {summary.stage} --workspace {shlex.quote(ws.address)}{settings} --retry failed\n",
            key=f"{summary.stage}-warning",
            description="The run completed less than everything.",
        )
    if summary.stage == Stage.CURATE.value and summary.judged:
        _publish_sheets(ws, run)


def publish_night(ws: Workspace, summaries: Sequence[StageSummary], report: Path) -> None:
    """The night's summary, the whole workspace's funnel, and the report, linked."""
    link = _link(ws, report)
    text = "\n".join(f"- {describe(s)}" for s in summaries)
    create_markdown_artifact(
        f"# Night\n\n{text}\n\n[Report]({link})", key="night-summary", description="How it went."
    )
    create_table_artifact(
        funnel_rows(ws), key="funnel", description="Where the workspace's items are, and why."
    )
    create_link_artifact(link, link_text="Report", key="report")


def publish_gate(rows: Sequence[Mapping[str, Any]], text: str) -> None:
    """What the gate said of a measured model, with figures and thresholds."""
    create_markdown_artifact(text, key="gate-summary", description="Who is latest, and why.")
    if rows:
        create_table_artifact(
            [dict(row) for row in rows],
            key="gate",
            description="Adapted model against base: to become latest it must be no worse anywhere.",
        )


def funnel_rows(ws: Workspace) -> list[dict[str, Any]]:
    """The funnel as a table: a row a stage and kind of item."""
    note = noted(ws, "funnel", Stage.EVALUATE)
    if note.value is not None:
        return list(note.value)
    rows = [
        {
            **{key: value for key, value in row.items() if key != "reasons"},
            "reasons": ", ".join(f"{name} {n}" for name, n in row["reasons"].items()),
        }
        for row in views.funnel(ws)
    ]
    note.keep(rows)
    return rows


def _failures(
    ws: Workspace, summary: StageSummary, settings: str, run: str
) -> list[dict[str, Any]]:
    """:func:`failure_rows` of all that stand; those of before, where this run has judged nothing."""
    stage = Stage(summary.stage)
    note = noted(ws, f"failures-{stage.value}", stage, [ws.address, settings], first=stage)
    if note.value is not None and not summary.judged:
        return list(note.value)
    failures = ws.catalog.latest(stage.value, verdict=Verdict.FAILED.value)
    rows = failure_rows(ws, failures, settings, run)
    note.keep(rows)
    return rows


def failure_rows(
    ws: Workspace, failures: Sequence[StageEvent], settings: str, run: str
) -> list[dict[str, Any]]:
    """Failures as a table, those of this run first; ``again`` is the command that does one item anew."""
    ordered = sorted(failures, key=lambda event: (event.run != run, event.item))
    where = shlex.quote(ws.address)
    return [
        {
            "item": e.item,
            "reason": e.reason,
            "attempt": e.attempt,
            "again": f"sage {e.stage} --workspace {where}{settings} --retry failed --item {e.item}",
            "retryable": "yes" if e.retryable else "no",
            "message": e.message.split("\n")[0][:300],
            "source": e.source,
        }
        for e in ordered[:_MOST_ROWS]
    ]


def settings_argument(ws: Workspace, config: SageConfig) -> str:
    """`` --config FILE`` for a command that repeats this run; the file is written. Empty for the defaults."""
    changed = config.model_dump(mode="json", exclude_defaults=True)
    if not changed:
        return ""
    text = (json.dumps(changed, indent=1, sort_keys=True) + "\n").encode()
    name = input_hash_of([Artifact("settings", text.decode(), len(text))])
    relative = f"settings/{name}.yaml"
    if not ws.store.exists(relative):
        ws.store.write_bytes(relative, text)
    return f" --config {shlex.quote(str(ws.store.fetch(relative)))}"


def _summary_text(summary: StageSummary) -> str:
    lines = [f"# {summary.stage}", "", describe(summary), ""]
    if summary.reasons:
        lines += ["| reason | items |", "| --- | ---: |"]
        lines += [f"| {reason} | {n} |" for reason, n in sorted(summary.reasons.items())]
    lines += [f"- {line}" for line in summary.broken]
    return "\n".join(lines)


def _publish_sheets(ws: Workspace, run: str) -> None:
    """Two small sheets of what this run looked at, where somebody serves the reports' folder."""
    if REPORTS_URL not in os.environ:
        return
    seen = [e for e in ws.catalog.latest(Stage.CURATE.value) if e.run == run]
    for verdict in (Verdict.ACCEPTED, Verdict.REJECTED):
        shown = [e for e in seen if e.verdict == verdict.value and "contact" in e.artifacts]
        if not shown:
            continue
        relative = f"reports/sheets/{run}-{verdict.value}.jpg"
        sheet = night_sheet(ws, shown)
        ws.store.write_bytes(relative, sheet)
        file = ws.root / relative
        if ws.url:  # reports are served from this machine's folder
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(sheet)
        create_image_artifact(
            _link(ws, file),
            key=f"curate-{verdict.value}",
            description=f"Videos that curate {verdict.value} in this run: {len(shown)}, twelve at most.",
        )


def _link(ws: Workspace, file: Path) -> str:
    base = os.environ.get(REPORTS_URL)
    if base is None:
        return file.as_uri()
    return f"{base}/{file.relative_to(ws.root / 'reports').as_posix()}"
