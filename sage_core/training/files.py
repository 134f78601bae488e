"""Files that are there whole, or not at all."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_FULL_BYTES = 1 << 16


def write_text(path: Path, text: str) -> None:
    """Write a small text file atomically."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write a small file atomically."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_bytes(data)
    flush(partial)
    partial.rename(path)


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write a small JSON file atomically."""
    write_text(path, json.dumps(data, indent=1, sort_keys=True))


def read_json(path: Path) -> dict[str, Any]:
    """The content of a JSON file; empty if there is none."""
    data: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return data


def disk_is_full(error: Exception, folder: Path) -> bool:
    """Whether that is why something could not be written.

    Libraries wrap the system's error number in errors of their own, so the disk is asked too.
    """
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    if "No space left" in str(error):
        return True
    return shutil.disk_usage(folder).free < _FULL_BYTES


def flush(path: Path) -> None:
    """Make a file's or a folder's content survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
