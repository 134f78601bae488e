"""From a :class:`Report` to one HTML file: template, style, script and data, nothing fetched."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from sage_core.report import figures
from sage_core.report.charts import plot
from sage_core.report.contents import Cell, Item, Report, StageRow
from sage_core.types import REASON_TEXT, Reason, Verdict

if TYPE_CHECKING:
    from jinja2 import Environment

VERDICTS = tuple(verdict.value for verdict in Verdict)


@dataclass(frozen=True)
class ReasonRow:
    """How often a reason was given at a stage, and what it means."""

    stage: str
    reason: str
    verdict_count: int
    meaning: str


def render_html(report: Report) -> str:
    """The page. Every string of the report is escaped; a content security policy lets no script but ours
    run and nothing be loaded, even if one were not.
    """
    script = _asset("page.js")
    page = _environment().get_template("page.html.j2")
    return page.render(
        report=report,
        style=_asset("page.css"),
        script=script,
        policy=_policy(script),
        verdicts=VERDICTS,
        largest=max((row.total for row in report.stages), default=1),
        reasons=reason_rows(report.stages),
        families=families(report.items),
    )


def reason_rows(stages: Sequence[StageRow]) -> list[ReasonRow]:
    """All reasons given, by stage, most frequent first."""
    return [
        ReasonRow(row.stage, reason, count, _meaning(reason))
        for row in stages
        for reason, count in row.reasons.items()
    ]


def families(items: Sequence[Item]) -> list[tuple[Item, list[Item]]]:
    """Items without a parent in the list, each with those that it is the parent of."""
    names = {item.item for item in items}
    parts: dict[str, list[Item]] = {}
    for item in items:
        if item.parent in names:
            parts.setdefault(str(item.parent), []).append(item)
    return [(item, parts.get(item.item, [])) for item in items if item.parent not in names]


def printable(value: Any) -> str:
    """Text without control characters and unpaired surrogates, which no HTML file may hold."""
    text = str(value)
    kept = "".join(c if c >= " " or c in "\n\t" else "\ufffd" for c in text)
    return kept.encode("utf-8", "replace").decode()


def web_link(source: str) -> str | None:
    """The source if it is a web address: only such may become a link (never ``javascript:`` and the like)."""
    return source if source.lower().startswith(("http://", "https://")) else None


def delta(cell: Cell) -> str:
    """A change as text: by how much, in percent where that means something, and whether for the better."""
    if cell.change is None:
        return "–"
    if cell.change == 0:
        return "none"
    sign = "+" if cell.change > 0 else "−"
    text = f"{sign}{figures.shown(abs(cell.change))}"
    first = cell.values[0]
    # A share or a number of decibels has no percents worth reading.
    if first and cell.unit.startswith("m"):
        text += f" ({sign}{abs(100 * cell.change / first):.0f} %)"
    word = {True: " better", False: " worse", None: ""}[cell.better]
    return text + word


def _meaning(reason: str) -> str:
    known = {code.value: text for code, text in REASON_TEXT.items()}
    return known.get(reason, "") if reason in {code.value for code in Reason} else ""


def _policy(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )


@cache
def _asset(name: str) -> str:
    return (resources.files("sage_core.report") / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(_asset),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_final,
    )
    environment.filters |= {
        "shown": figures.shown,
        "sign": figures.sign,
        "duration": figures.duration,
        "delta": delta,
        "plot": plot,
        "web_link": web_link,
        "meaning": _meaning,
    }
    environment.tests["holding"] = lambda figure: figures.holds(figure) is True
    environment.tests["broken"] = lambda figure: figures.holds(figure) is False
    return environment


def _final(value: Any) -> Any:
    """Clean strings just before they are escaped; what is markup already stays markup."""
    from markupsafe import Markup

    return value if isinstance(value, Markup) or not isinstance(value, str) else printable(value)
