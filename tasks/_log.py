"""One line for each verdict: to the Prefect UI beside its run, and to stderr if ``SAGE_LOG`` asks for it."""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime
from typing import Any

from data_catalog import StageEvent

FORM = "SAGE_LOG"
"""Environment variable: ``json`` for JSON lines on stderr, ``text`` for key=value."""
_FIELDS = ("stage", "item", "parent", "verdict", "reason", "attempt", "seconds", "retryable", "run")
logger = logging.getLogger("sage.verdicts")


def set_up() -> None:
    """Let lines of verdicts through, and to stderr as ``SAGE_LOG`` says; once in a process."""
    top = logging.getLogger("sage")
    if top.level == logging.NOTSET:
        top.setLevel(logging.INFO)
    form = os.environ.get(FORM, "").lower()
    if form in _FORMS and not any(isinstance(h.formatter, _Lines) for h in top.handlers):
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_FORMS[form]())
        top.addHandler(handler)


def tell_verdict(event: StageEvent) -> None:
    """Log a verdict with its item's id."""
    fields = {name: getattr(event, name) for name in _FIELDS}
    logger.info("%s", as_text(fields), extra={"sage": fields})


def as_text(fields: dict[str, Any]) -> str:
    """``key=value`` pairs; what has blanks, quotes or odd characters as a JSON string; nothing for None."""
    return " ".join(f"{key}={_word(value)}" for key, value in fields.items() if value is not None)


def _word(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    plain = text.isprintable() and text.isascii() and not set(text) & set(' "=')
    return text if plain and text else json.dumps(text)


class _Lines(logging.Formatter):
    """A log record as one line for programs."""

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        said = getattr(record, "sage", None) or {"message": record.getMessage()}
        trace = {"trace": self.formatException(record.exc_info)} if record.exc_info else {}
        return {"time": time, "level": record.levelname.lower(), **said, **trace}


class _Json(_Lines):
    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(self.fields(record), default=str)


class _Text(_Lines):
    def format(self, record: logging.LogRecord) -> str:
        return as_text(self.fields(record))


_FORMS: dict[str, type[_Lines]] = {"json": _Json, "text": _Text}
