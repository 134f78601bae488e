"""Files that are there whole, or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_text(path: Path, text: str) -> None:
    """Write a small file atomically."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(text)
    flush(partial)
    partial.rename(path)


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write a small JSON file atomically."""
    write_text(path, json.dumps(data, indent=1, sort_keys=True))


def read_json(path: Path) -> dict[str, Any]:
    """The content of a JSON file; empty if there is none."""
    data: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return data


def flush(path: Path) -> None:
    """Make a file's or a folder's content survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
