"""``sage serve`` as people meet it in the UI: deployments, a run that fails, the button Retry."""

import http.server
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from contextlib import contextmanager

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Scheduled

from benchmarks.small_night import PYTHON_BIN, write_films
from data_catalog import Workspace
from sage_core.types import Stage

pytestmark = [pytest.mark.slow, pytest.mark.server, pytest.mark.timeout(900)]


class Site(http.server.BaseHTTPRequestHandler):
    """Films on loopback that are not to be had until ``open`` is set."""

    films = {}  # noqa: RUF012
    open = False

    def do_GET(self):
        name = self.path.strip("/")
        if name not in self.films or not (self.open or name == "good.mp4"):
            self.send_error(503)
            return
        content = self.films[name]
        self.send_response(200)
        self.send_header("Content-Type", "video/mp4")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def site(tmp_path):
    films = write_films(tmp_path / "films")
    names = {"good.mp4": "walk.mp4", "late.mp4": "tripod.mp4"}
    kind = type(
        "OneSite", (Site,), {"films": {n: (films / f).read_bytes() for n, f in names.items()}}
    )
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield kind, [f"http://127.0.0.1:{server.server_port}/{name}" for name in names]
    server.shutdown()


@contextmanager
def served(workspace, sources):
    """``sage serve`` with a server of its own; its API, and what it printed when it has ended."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = [
        'acquire.allow_hosts=["127.0.0.1"]',
        "acquire.retries=0",
        "run.max_failed_share=0.2",
    ]
    words = [word for setting in settings for word in ("--set", setting)]
    command = [PYTHON_BIN / "sage", "serve", "-w", workspace, "--port", str(port), *words, *sources]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    log = workspace.with_suffix(".log")
    with log.open("w") as out:
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment,
            # A shell starts what runs in its background deaf to Ctrl-C, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        try:
            yield f"http://127.0.0.1:{port}/api", log
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(300)


def eventually(what, seconds=300):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if found := what():
                return found
        except Exception as error:  # noqa: BLE001  (a server that is coming up refuses in many ways)
            problem = error
        else:
            problem = "nothing yet"
        time.sleep(0.5)
    raise AssertionError(f"{what} did not come about: {problem}")


def test_a_failed_run_is_retried_from_the_ui_and_does_only_what_is_missing(site, tmp_path):
    kind, sources = site
    workspace = tmp_path / "ws"
    with (
        served(workspace, sources) as (api, log),
        SyncPrefectClient(api) as client,
    ):
        deployment = eventually(lambda: client.read_deployment_by_name("nightly/nightly"))
        assert deployment.schedules[0].schedule.cron == "0 2 * * *"
        for stage in Stage:
            assert client.read_deployment_by_name(f"{stage}/{stage}").parameters["workspace"]
        with urllib.request.urlopen(api.removesuffix("/api")) as page:
            assert page.status == 200
            assert "html" in page.headers["Content-Type"]

        wanted = {**deployment.parameters, "stages": ["acquire"]}
        run = client.create_flow_run_from_deployment(deployment.id, parameters=wanted)

        def ended(times):
            now = client.read_flow_run(run.id)
            return now if now.state.is_final() and now.run_count >= times else None

        first = eventually(lambda: ended(1))
        assert first.state.is_failed()
        assert "acquire: 1 accepted, 1 failed" in first.state.message
        kind.open = True
        client.set_flow_run_state(run.id, Scheduled(message="Retry from the UI"), force=True)
        second = eventually(lambda: ended(2))
        assert second.state.is_completed()
        only = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[run.id]))
        children = client.read_flow_runs(
            flow_run_filter=only, sort=FlowRunSort.START_TIME_ASC, limit=9
        )
        assert [child.state.message for child in children] == [
            "acquire: 1 accepted, 1 failed (0 done before)",
            "acquire: 1 accepted (1 done before)",
        ]
    events = Workspace.open(workspace, create=False).catalog.latest(Stage.ACQUIRE.value)
    assert {(e.source, e.verdict, e.attempt) for e in events} == {
        (sources[0], "accepted", 1),
        (sources[1], "accepted", 2),
    }
    assert "Traceback" not in log.read_text()
