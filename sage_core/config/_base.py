"""What every section of the configuration tree is made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue


class Section(BaseModel):
    """A group of settings: unknown keys are refused, values are checked and cannot be changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    def result_hash(self, *, exclude: Mapping[str, Collection[str]] | None = None) -> str:
        """Sixteen hex digits over the fields that can change a result (see :func:`setting`).

        ``exclude``: by subsection, fields that stay out of it, whatever their value or default.
        """
        left_out = {name: set(fields) for name, fields in (exclude or {}).items()}
        fields = _result_fields(self, self.model_dump(mode="json", exclude=left_out))
        text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def setting(default: Any, description: str, *, affects_result: bool = True, **bounds: Any) -> Any:
    """A field with a default, one described sentence with its unit, and bounds (``ge``, ``le``, …).

    Settings that only change speed, politeness or secrets (``affects_result=False``) stay out of the
    config hash, so that turning them does not redo finished work.
    """
    extra: dict[str, JsonValue] = {} if affects_result else {"affects_result": False}
    return Field(default, description=description, json_schema_extra=extra, **bounds)


def subsection(kind: type[Section], *, affects_result: bool = True, newer: bool = False) -> Any:
    """A nested section with its own defaults; ``affects_result`` as of :func:`setting`.

    A ``newer`` one changes nothing at its defaults and stays out of the config hash there, so that what
    was finished before it existed is not redone.
    """
    extra: dict[str, JsonValue] = {} if affects_result else {"affects_result": False}
    if newer:
        extra["newer"] = True
    text = (kind.__doc__ or "").strip().split("\n")[0]
    return Field(default_factory=kind, description=text, json_schema_extra=extra)


def _result_fields(section: BaseModel, dumped: dict[str, Any]) -> dict[str, Any]:
    """Those of a section's fields, ``dumped`` whole as JSON, that can change a result."""
    fields: dict[str, Any] = {}
    for name, info in type(section).model_fields.items():
        if name not in dumped:
            continue
        extra = info.json_schema_extra
        if isinstance(extra, dict) and extra.get("affects_result") is False:
            continue
        value = getattr(section, name)
        if isinstance(extra, dict) and extra.get("newer") and value == type(value)():
            continue
        nested = isinstance(value, BaseModel)
        fields[name] = _result_fields(value, dumped[name]) if nested else dumped[name]
    return fields
