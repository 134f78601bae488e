"""A Prefect server of our own: started, kept up, stopped.

Importing this module does not import Prefect.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from sage_core.errors import SageError
from sage_core.sandbox import tied_to_parent

_HEALTHY_WITHIN_S = 180
_STOPS_WITHIN_S = 20
_ROOM_BYTES = 64 << 20
_LIVES = 10
_REST_S = 1.0
_DATABASE = "PREFECT_API_DATABASE_CONNECTION_URL"
_IN_MEMORY = "sqlite+aiosqlite:///file::memory:?cache=shared&uri=true&check_same_thread=false"


class OwnServer:
    """A server on a port, with its database and log in Prefect's home, that dies with this process.

    One that ends unasked (for want of memory, say) is started again, a few times: whoever asks it
    meanwhile tries again for longer than it takes to come up, and its database was written as it went.

    Attributes:
        url: where it is, without the trailing ``/api``.
        log: the file that it writes to.
    """

    def __init__(self, home: Path, host: str, port: int, began_anew: Callable[[int], None]) -> None:
        """``began_anew`` is told when it had to be started again, and with which exit status it had ended."""
        home.mkdir(parents=True, exist_ok=True)
        self._host, self._port = host, port or _free_port(host)
        self.url = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{self._port}"  # noqa: S104
        self.log = home / "server.log"
        self._lives, self._began_anew = _LIVES, began_anew
        self._database = {}
        if shutil.disk_usage(home).free < _ROOM_BYTES and _DATABASE not in os.environ:
            # The verdicts need what room there is; the server's history of this one run is forgotten,
            # and a second life would know nothing of it.
            self._database, self._lives = {_DATABASE: _IN_MEMORY}, 0
        self._guard, self._closing = threading.Lock(), False
        self._process = self._started()

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_until_healthy(self) -> None:
        """Wait for its first answer; from then on it is kept up.

        Raises:
            SageError: it did not come up; its log is named.
        """
        deadline = time.monotonic() + _HEALTHY_WITHIN_S
        while not healthy(f"{self.url}/api"):
            if self._process.poll() is not None or time.monotonic() > deadline:
                ended = self._process.poll() is not None
                how = "ended" if ended else f"did not come up within {_HEALTHY_WITHIN_S} s"
                raise SageError(f"the Prefect server at {self.url}/api {how}: read {self.log}")
            time.sleep(0.25)
        threading.Thread(target=self._keep_up, name="sage-server", daemon=True).start()

    def stop(self) -> None:
        """End it for good."""
        with self._guard:
            self._closing = True
        self._process.terminate()
        try:
            self._process.wait(_STOPS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _keep_up(self) -> None:
        for _ in range(self._lives):
            status = self._process.wait()
            time.sleep(_REST_S)
            with self._guard:
                if self._closing:
                    return
                self._process = self._started()
            self._began_anew(status)

    def _started(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                tied_to_parent(_command(self._host, self._port)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={
                    **os.environ,
                    **self._database,
                    "PREFECT_UI_API_URL": f"{self.url}/api",
                    "PREFECT__SERVER_FINAL": "1",
                },
                # Ctrl-C is for us alone: flows still have to tell it that they were interrupted.
                start_new_session=True,
            )


def healthy(api: str) -> bool:
    """Whether a server answers at this URL."""
    if not api.startswith(("http://", "https://")):
        return False
    try:
        with urllib.request.urlopen(f"{api}/health", timeout=5) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def _command(host: str, port: int) -> list[str]:
    """Prefect's application under uvicorn, in one process that can be ended as one."""
    spec = find_spec("prefect")
    assert spec is not None
    assert spec.origin is not None
    folder = str(Path(spec.origin).parent.parent)
    application = "prefect.server.api.server:create_app"
    where = ["--host", host, "--port", str(port)]
    uvicorn = [sys.executable, "-m", "uvicorn", "--app-dir", folder, "--factory", application]
    return [*uvicorn, *where, "--log-level", "warning", "--lifespan", "on"]


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
