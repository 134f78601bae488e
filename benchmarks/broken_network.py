"""A folder over HTTP on loopback whose downloads break off half way, a given number of times."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO


class _Breaking(SimpleHTTPRequestHandler):
    def __init__(self, *args: Any, left: list[int], **kwargs: Any) -> None:
        self._left = left
        super().__init__(*args, **kwargs)

    def copyfile(self, source: Any, outputfile: Any) -> None:
        """The body: half of it while there are breaks left, then the connection ends."""
        if not self._left or not str(self.path).endswith(".mp4"):
            super().copyfile(source, outputfile)
            return
        self._left.pop()
        _half(source, outputfile)
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        return None


def _half(source: BinaryIO, target: BinaryIO) -> None:
    data = source.read()
    target.write(data[: len(data) // 2])


@contextmanager
def breaking_server(folder: Path, breaks: int, port: int = 0) -> Iterator[str]:
    """Serve a folder; the first ``breaks`` answers with a film break off half way. Yields the base URL."""
    handler = partial(_Breaking, directory=str(folder), left=[0] * breaks)
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
