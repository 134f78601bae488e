"""A folder over HTTP on loopback."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

LOOPBACK = "127.0.0.1"


Page = Callable[[], tuple[str, str]]
"""Makes a page when it is asked for: its content type and its text."""


@contextmanager
def served(folder: Path, port: int = 0, pages: Mapping[str, Page] | None = None) -> Iterator[str]:
    """Serve a folder while the block runs; yields the base URL. Port 0 takes any that is free.

    ``pages`` by their paths, such as ``/metrics``, come before files.

    Raises:
        OSError: the port is taken.
    """
    server = ThreadingHTTPServer(
        (LOOPBACK, port), partial(_Quiet, directory=str(folder), pages=pages)
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{LOOPBACK}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class _Quiet(SimpleHTTPRequestHandler):
    def __init__(self, *args: Any, pages: Mapping[str, Page] | None, **kwargs: Any) -> None:
        self._pages = pages or {}
        super().__init__(*args, **kwargs)

    def do_GET(self) -> None:
        """A page, or a file."""
        page = self._pages.get(self.path.partition("?")[0])
        if page is None:
            super().do_GET()
            return
        try:
            kind, text = page()
        except Exception as error:  # noqa: BLE001  (the next request may fare better)
            self.send_error(500, explain=f"{type(error).__name__}: {error}")
            return
        content = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the verdicts say it all."""
