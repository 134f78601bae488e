"""What was found by reading the catalog, kept until there is something new: who finds it need not read.

A note is a file of its own in ``catalog/notes/``. It repeats what the log says; without it the log is read.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import Any, Self

import pyarrow as pa

from data_catalog import _json
from data_catalog._errors import StorageError
from data_catalog._folder import Folder

_CODEC = pa.Codec("zstd")
_DIGEST, _SIZE = 32, 8


class Note:
    """What is kept under a name, if it was found in the state that the catalog is in now."""

    def __init__(self, folder: Folder | None, name: str, state: bytes) -> None:
        self._folder, self._state = folder, _digest(state)
        self._file = f"{name}.json.zst"
        self.value: Any = self._read()
        """Plain data; None if there is nothing, or something else was asked or recorded since."""

    @classmethod
    def blank(cls) -> Self:
        """One that holds nothing and keeps nothing."""
        return cls(None, "", b"")

    def keep(self, value: Any) -> None:
        """Keep plain data for the next who asks; what cannot be written will be found again."""
        if self._folder is None:
            return
        text = _json.dumps(value).encode()
        with suppress(OSError, StorageError):
            body = len(text).to_bytes(_SIZE) + _CODEC.compress(text, asbytes=True)
            self._folder.write(self._file, self._state + _digest(body) + body)

    def _read(self) -> Any:
        if self._folder is None:
            return None
        try:
            data = self._folder.read(self._file)
        except OSError:
            return None
        body = data[2 * _DIGEST :]
        if data[: 2 * _DIGEST] != self._state + _digest(body):  # of another state, or damaged
            return None
        size = int.from_bytes(body[:_SIZE])
        return _json.loads(_CODEC.decompress(body[_SIZE:], size, asbytes=True))


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
