"""A folder over HTTP on loopback."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

LOOPBACK = "127.0.0.1"


@contextmanager
def served(folder: Path, port: int = 0) -> Iterator[str]:
    """Serve a folder while the block runs; yields the base URL. Port 0 takes any that is free.

    Raises:
        OSError: the port is taken.
    """
    server = ThreadingHTTPServer((LOOPBACK, port), partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{LOOPBACK}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the verdicts say it all."""
