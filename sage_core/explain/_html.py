"""The picture in an HTML file of its own, with every figure of every stage below it as text."""

from __future__ import annotations

import base64
from html import escape

from sage_core.explain._contents import Explanation, Image
from sage_core.explain._picture import to_jpeg
from sage_core.report.figures import holds, shown, sign
from sage_core.report.render import printable
from sage_core.types import Figure, Judgement

_STYLE = """
body { max-width: 1180px; margin: 24px auto; padding: 0 16px; color: #1b1f24; }
body { font: 14px/1.5 system-ui, sans-serif; }
img { width: 100%; border: 1px solid #dfe2e6; }
h2 { margin: 26px 0 4px; font-size: 1.1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
td, th { padding: 2px 14px 2px 0; text-align: left; font-weight: normal; border-bottom: 1px solid #dfe2e6; }
td.n { text-align: right; }
.no { color: #b42318; font-weight: 600; }
p { overflow-wrap: anywhere; }
"""


def to_html(told: Explanation, picture: Image) -> str:
    """One page that needs no network; what comes from outside is escaped."""
    data = base64.b64encode(to_jpeg(picture, 90)).decode()
    stages = "".join(_stage(name, judgement) for name, judgement in told.stages.items())
    verdict = told.judgement.verdict.value
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">"
        f"<title>{_text(told.title)}: {verdict}</title><style>{_STYLE}</style>"
        f"<h1>{_text(told.title)}</h1><p>{_text(told.source)}</p>"
        f'<img alt="Why {_text(told.item)} is {verdict}: frames, scores over time, figures" '
        f'src="data:image/jpeg;base64,{data}">{stages}</html>\n'
    )


def _stage(name: str, judgement: Judgement) -> str:
    reason = f": {judgement.reason.value}" if judgement.reason else ""
    rows = "".join(_row(figure, value) for figure, value in judgement.figures.items())
    table = f"<table>{rows}</table>" if rows else ""
    said = f"<p>{_text(judgement.message)}</p>" if judgement.message else ""
    return f"<h2>{_text(name)}: {judgement.verdict.value}{reason}</h2>{said}{table}"


def _row(name: str, figure: Figure) -> str:
    held = holds(figure)
    limit = f"{sign(figure.rule)} {shown(figure.threshold)}" if figure.rule else ""
    mark = {True: "✓", False: "✗", None: ""}[held]
    kind = ' class="no"' if held is False else ""
    return (
        f'<tr{kind}><th scope="row">{_text(name)}</th><td class="n">{_text(shown(figure.value))}</td>'
        f"<td>{_text(limit)}</td><td>{mark}</td></tr>"
    )


def _text(value: str) -> str:
    return escape(printable(value))
