"""Whether two files hold the same, and if not, where they first differ: in words for people."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

_SHOWN = 3
_CHUNK = 1 << 20


def files_of(path: Path) -> dict[str, Path]:
    """The files of a folder by their relative names; a file alone by its own name."""
    if path.is_file():
        return {path.name: path}
    return {f.relative_to(path).as_posix(): f for f in sorted(path.rglob("*")) if f.is_file()}


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def where(one: Path, other: Path) -> str:
    """Where two files differ: columns of Parquet, keys of JSON, else the first byte; empty if nowhere."""
    if sha256(one) == sha256(other):
        return ""
    if one.suffix == ".parquet":
        return columns_differ(pq.read_table(one), pq.read_table(other)) or "only in its packing"
    if one.suffix == ".json":
        keys = list(_keys(json.loads(one.read_text()), json.loads(other.read_text()), ""))
        return _some("keys", keys) or "only in its spelling"
    return f"from byte {_first_byte(one, other):,} of {one.stat().st_size:,} and {other.stat().st_size:,}"


def columns_differ(one: pa.Table, other: pa.Table) -> str:
    """The columns in which two tables differ; empty where they hold the same rows."""
    if one.column_names != other.column_names or one.num_rows != other.num_rows:
        return f"{one.num_rows} rows of {one.num_columns} columns, {other.num_rows} of {other.num_columns}"
    names = [n for n in one.column_names if one[n].to_pylist() != other[n].to_pylist()]
    return _some("columns", names)


def _keys(one: Any, other: Any, at: str) -> Iterator[str]:
    """Dotted places at which two JSON values differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted({*one, *other}):
            yield from _keys(one.get(key), other.get(key), f"{at}.{key}" if at else key)
    elif one != other:
        yield at


def _first_byte(one: Path, other: Path) -> int:
    at = 0
    with one.open("rb") as a, other.open("rb") as b:
        while (left := a.read(_CHUNK)) == (right := b.read(_CHUNK)) and left:
            at += len(left)
    pairs = zip(left, right, strict=False)
    same = next((i for i, (x, y) in enumerate(pairs) if x != y), min(len(left), len(right)))
    return at + same


def _some(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{what} {', '.join(names[:_SHOWN])}{more}"
