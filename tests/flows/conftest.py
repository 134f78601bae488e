import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from flows._server import prefect_api

PYTHON_BIN = Path(sys.executable).parent


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory):
    """A real Prefect server with a database of its own, for every command that a test starts."""
    home = tmp_path_factory.mktemp("prefect")
    before = os.environ.get("PREFECT_HOME")
    os.environ["PREFECT_HOME"] = str(home / "prefect")
    try:
        with prefect_api(home) as url:
            yield url
    finally:
        if before is None:
            os.environ.pop("PREFECT_HOME", None)
        else:
            os.environ["PREFECT_HOME"] = before


@pytest.fixture
def on_server(prefect_server):
    """Flows of this process run on the session's server."""
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with (
        temporary_settings({PREFECT_API_URL: f"{prefect_server}/api"}),
        SyncPrefectClient(f"{prefect_server}/api") as client,
    ):
        yield client


@pytest.fixture
def told():
    """A receiver on loopback: what it was told, and its address."""
    heard, came = [], threading.Event()

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            heard.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(204)
            self.end_headers()
            came.set()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield heard, came, f"http://127.0.0.1:{server.server_port}/hook"
    server.shutdown()


@pytest.fixture(scope="session")
def sage_session():
    """Run the command ``sage`` as a user does; returns the finished process."""

    def run(*arguments, timeout=600, **environment):
        return subprocess.run(
            [str(PYTHON_BIN / "sage"), *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**os.environ, "COLUMNS": "200", **environment},
            check=False,
        )

    return run


@pytest.fixture
def sage(sage_session):
    return sage_session


@pytest.fixture(scope="session")
def shared_data():
    """The folder of real videos, with the verdicts that people gave."""
    shared = Path(os.environ.get("SAGE_SHARED", Path(__file__).parents[3] / "shared"))
    if not (shared / "data" / "expected.json").is_file():
        pytest.skip(f"needs {shared}/data (set SAGE_SHARED)")
    return shared / "data"
