"""Lists of sources: text, CSV and Parquet files, and RealEstate10K's camera files."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sage_core.errors import SageError, SourceError
from sage_core.sandbox import Limits, call

LIST_SUFFIXES = frozenset((".txt", ".csv", ".tsv", ".parquet"))
_COLUMNS = ("url", "source", "path", "video", "link", "video_url", "file")
_STARTS, _ENDS = ("start_s", "start"), ("end_s", "end")
_CAMERA_LINE = re.compile(r"\d+( +-?\d+(\.\d*)?([eE][+-]?\d+)?){18}\s*")
_MOST_BYTES, _MOST_ROWS = 256 * 2**20, 1_000_000
_LIMITS = Limits(wall_s=120, memory_mb=1024)
_OPEN_END_S = 1e9  # past the end of any video, and a number in JSON


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of a list; ``section`` is the part to use, start and end in seconds."""

    source: str
    section: tuple[float, float] | None = None


def read_list(file: Path) -> list[Listed]:
    """The sources that a list names, in order.

    Raises:
        SourceError: not readable as what its suffix says, or without a column of sources.
    """
    if file.stat().st_size > _MOST_BYTES:
        raise SourceError(f"{file} is too large for a list of sources: split it")
    try:
        if file.suffix.lower() == ".parquet":
            return _from_rows(_parquet_rows(file), file)
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(f"{file} is not a list of sources: it is no UTF-8 text") from error
    if file.suffix.lower() == ".txt":
        return _from_text(text)
    return _from_csv(text, file)


def is_camera_file(file: Path) -> bool:
    """Whether a text file is one of RealEstate10K's: a URL, then 19 numbers a line."""
    if file.suffix.lower() != ".txt":
        return False
    with file.open("rb") as stream:
        head = stream.read(8192).decode("utf-8", errors="replace").splitlines()
    return len(head) >= 2 and _is_camera_text(head[:2])


def _is_camera_text(lines: list[str]) -> bool:
    return "://" in lines[0] and _CAMERA_LINE.fullmatch(lines[1]) is not None


def _from_text(text: str) -> list[Listed]:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) >= 2 and _is_camera_text(lines):
        # https://google.github.io/realestate10k: microseconds, then fx fy cx cy k1 k2 and the 3x4 pose.
        stamps = [int(line.split()[0]) / 1e6 for line in lines[1:] if _CAMERA_LINE.fullmatch(line)]
        return [Listed(lines[0], (min(stamps), max(stamps)))]
    return [Listed(line) for line in lines if not line.startswith("#")]


def _from_csv(text: str, file: Path) -> list[Listed]:
    delimiter = "\t" if file.suffix.lower() == ".tsv" else ","
    rows = [row for row in csv.reader(text.splitlines(), delimiter=delimiter) if any(row)]
    if not rows:
        return []
    head = [cell.strip().lower() for cell in rows[0]]
    if not set(head) & set(_COLUMNS):
        head, rows = ["url", *_unnamed(len(head) - 1)], [[], *rows]
    return _from_rows((dict(zip(head, row, strict=False)) for row in rows[1:]), file)


def _unnamed(count: int) -> list[str]:
    return [f"column {n}" for n in range(count)]


def _parquet_rows(file: Path) -> list[dict[str, Any]]:
    """The columns of use, read in a child: a few bytes of Parquet can stand for any number of rows."""
    try:
        rows: list[dict[str, Any]] = call(f"{__name__}:parquet_rows", {"file": str(file)}, _LIMITS)
    except SageError as error:
        raise SourceError(f"{file} is no list of sources that can be read: {error}") from error
    return rows


def parquet_rows(file: str) -> list[dict[str, Any]]:
    """Rows of a Parquet file as texts and numbers, by column in lower case.

    Raises:
        SourceError: it cannot be read, or has more than a million rows.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as parquet:
            if parquet.metadata.num_rows > _MOST_ROWS:
                raise SourceError(f"it has {parquet.metadata.num_rows} rows, at most {_MOST_ROWS}")
            names = {name: name.lower() for name in parquet.schema_arrow.names}
            columns = [n for n, low in names.items() if low in (*_COLUMNS, *_STARTS, *_ENDS)]
            rows = parquet.read(columns=columns, use_threads=False).to_pylist()
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise SourceError(f"no Parquet ({error})") from error
    return [{names[key]: _plain(value) for key, value in row.items()} for row in rows]


def _plain(value: Any) -> str | float | None:
    return value if isinstance(value, str | int | float | None) else str(value)


def _from_rows(rows: Iterable[Mapping[str, Any]], file: Path) -> list[Listed]:
    listed = []
    for number, row in enumerate(rows, 1):
        column = next((name for name in _COLUMNS if name in row), None)
        if column is None:
            raise SourceError(f"{file} has no column of sources: name one of them {_COLUMNS[0]!r}")
        if text := str(row[column] or "").strip():
            listed.append(Listed(text, _section(row, file, number)))
    return listed


def _section(row: Mapping[str, Any], file: Path, number: int) -> tuple[float, float] | None:
    given = [next((row[n] for n in names if row.get(n) not in (None, "")), None)
             for names in (_STARTS, _ENDS)]  # fmt: skip
    if given == [None, None]:
        return None
    try:
        start = float(given[0] or 0.0)
        end = _OPEN_END_S if given[1] is None else float(given[1])
    except (TypeError, ValueError) as error:
        raise SourceError(f"{file}, row {number}: start_s and end_s must be seconds") from error
    if not 0 <= start < end:
        raise SourceError(f"{file}, row {number}: start_s {start:g} is not before end_s {end:g}")
    return start, end
