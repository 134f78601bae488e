"""Traps for whoever reads where it must not: a file that tells of being opened, a counting address."""

from __future__ import annotations

import ctypes
import os
import select
import socket
import struct
import threading
from pathlib import Path
from types import TracebackType

from benchmarks.mutations import Traps

_IN_ACCESS, _IN_OPEN = 0x1, 0x20


class SetTraps:
    """A folder with one file, watched by inotify, and a listener on a loopback address.

    ``opened`` and ``called`` count what fell into them. The traps are tried when they are set: a kernel
    that does not tell of an opened file raises OSError.
    """

    def __init__(self, folder: Path, address: str = "127.0.0.2") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / "secret.ts"
        self._file.write_bytes(b"\x47" + b"a secret of this machine" * 100)
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._watch = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        added = self._libc.inotify_add_watch(
            self._watch, os.fsencode(self._file), _IN_OPEN | _IN_ACCESS
        )
        if self._watch < 0 or added < 0:
            raise OSError(ctypes.get_errno(), "inotify does not watch files here")
        self._listener = socket.create_server((address, 0))
        self.called = 0
        threading.Thread(target=self._count, daemon=True).start()
        self._file.read_bytes()
        if not self.opened:
            raise OSError("inotify did not tell of a file that was opened")

    @property
    def traps(self) -> Traps:
        """Where they are."""
        host, port = self._listener.getsockname()
        return Traps(self._file, f"http://{host}:{port}/secret.ts")

    @property
    def opened(self) -> int:
        """How often the file was opened or read since this was asked for last."""
        count = 0
        while select.select([self._watch], [], [], 0)[0]:
            data, at = os.read(self._watch, 65536), 0
            while at < len(data):
                at += 16 + struct.unpack_from("iIII", data, at)[3]
                count += 1
        return count

    def _count(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return
            self.called += 1
            caller.close()

    def __enter__(self) -> SetTraps:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.close()
        os.close(self._watch)
