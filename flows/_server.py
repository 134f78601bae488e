"""Which Prefect server a command talks to: yours, the workspace's running one, or one of our own.

Importing this module does not import Prefect: the settings below must be in the environment first.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sage_core.errors import ConfigError, SageError
from sage_core.sandbox import tied_to_parent

_HEALTHY_WITHIN_S = 180
_LAST_WORDS_S = 10
_ROOM_BYTES = 64 << 20
_MANY_IN_ONE_TRANSACTION = {
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "50",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "50",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_READ_BATCH_SIZE": "50",
}
"""A task run costs the server a third then (docs/scale.md); its states are in the UI up to a second later."""
_IN_MEMORY = "sqlite+aiosqlite:///file::memory:?cache=shared&uri=true&check_same_thread=false"


def prepare_environment(workspace: Path) -> None:
    """Settings that Prefect reads at import: its home in the workspace, no telemetry, a quiet console.

    What the user has set already stays.
    """
    defaults = {
        "PREFECT_HOME": str(workspace / "prefect"),
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        # What happens is told on the console by us; Prefect's own words, with tracebacks, are in its UI.
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
        # Tracebacks of what was not foreseen go to the UI, beside the task run that they belong to.
        "PREFECT_LOGGING_EXTRA_LOGGERS": "sage",
        # What is said outside of any run (of `sage compact`, say) belongs to none.
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        # A result store would be a second truth beside the catalog.
        "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
        **_MANY_IN_ONE_TRANSACTION,
        # What belongs to no run any more (logs of deleted ones), as well as events that are a week old.
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,orphans",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


@contextmanager
def prefect_api(workspace: Path, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """The URL of the API to use, without the trailing ``/api``; sets ``PREFECT_API_URL`` for the block.

    First choice is the server that ``PREFECT_API_URL`` names, then one that already serves this
    workspace, then a new one on ``host`` (loopback unless told otherwise) with its SQLite database in
    ``<workspace>/prefect``, stopped when the block ends.

    Raises:
        ConfigError: ``PREFECT_API_URL`` names a server that does not answer.
        SageError: our own server did not come up; its log is named.
    """
    prepare_environment(workspace)
    given = os.environ.get("PREFECT_API_URL")
    if given:
        if not _healthy(given):
            raise ConfigError(
                f"PREFECT_API_URL={given} does not answer. Start that server, or unset the variable "
                "and SAGE runs its own"
            )
        yield given.removesuffix("/api")
        return
    running = running_server(workspace)
    if running:
        with _environment_variable("PREFECT_API_URL", f"{running}/api"):
            yield running
        return
    with (
        _own_server(workspace, host, port) as url,
        _environment_variable("PREFECT_API_URL", f"{url}/api"),
    ):
        yield url


@contextmanager
def _own_server(workspace: Path, host: str, port: int) -> Iterator[str]:
    home = Path(os.environ["PREFECT_HOME"])
    home.mkdir(parents=True, exist_ok=True)
    database = {}
    if (
        shutil.disk_usage(home).free < _ROOM_BYTES
        and "PREFECT_API_DATABASE_CONNECTION_URL" not in os.environ
    ):
        # The verdicts need what room there is; the server's history of this one run is forgotten.
        database = {"PREFECT_API_DATABASE_CONNECTION_URL": _IN_MEMORY}
    port = port or _free_port(host)
    url = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"  # noqa: S104
    log_path = home / "server.log"
    with log_path.open("ab") as log:
        server = subprocess.Popen(
            tied_to_parent(_server_command(host, port)),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={
                **os.environ,
                **database,
                "PREFECT_UI_API_URL": f"{url}/api",
                "PREFECT__SERVER_FINAL": "1",
            },
            # Ctrl-C is for us alone: flows still have to tell it that they were interrupted.
            start_new_session=True,
        )
    note = _note_path(workspace)
    try:
        _wait_until_healthy(f"{url}/api", server, log_path)
        with suppress(OSError):  # on a full disk nobody shares this server, that is all
            note.write_text(json.dumps({"url": url, "pid": server.pid}))
        yield url
    finally:
        note.unlink(missing_ok=True)
        _hand_over_last_words()
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _hand_over_last_words() -> None:
    """Let Prefect's threads send what they still hold: once the server is gone they would wait for it."""
    if "prefect" not in sys.modules:
        return
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for service in (APILogWorker, EventsWorker):
        service.drain_all(timeout=_LAST_WORDS_S)


def _server_command(host: str, port: int) -> list[str]:
    """Prefect's application under uvicorn, in one process that can be ended as one."""
    from importlib.util import find_spec

    spec = find_spec("prefect")
    assert spec is not None
    assert spec.origin is not None
    folder = str(Path(spec.origin).parent.parent)
    application = "prefect.server.api.server:create_app"
    where = ["--host", host, "--port", str(port)]
    uvicorn = [sys.executable, "-m", "uvicorn", "--app-dir", folder, "--factory", application]
    return [*uvicorn, *where, "--log-level", "warning", "--lifespan", "on"]


def _wait_until_healthy(api: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _HEALTHY_WITHIN_S
    while not _healthy(api):
        if server.poll() is not None or time.monotonic() > deadline:
            ended = server.poll() is not None
            how = "ended" if ended else f"did not come up within {_HEALTHY_WITHIN_S} s"
            raise SageError(f"the Prefect server at {api} {how}: read {log}")
        time.sleep(0.25)


def running_server(workspace: Path) -> str | None:
    """The URL of the server that serves this workspace now, if one does."""
    with suppress(OSError, ValueError, KeyError):
        url = str(json.loads(_note_path(workspace).read_text())["url"])
        if _healthy(f"{url}/api"):
            return url
    return None


def own_database(workspace: Path) -> Path | None:
    """The SQLite file of the server that SAGE runs for a workspace, if that is whose it is and it rests."""
    if "PREFECT_API_URL" in os.environ or running_server(workspace) is not None:
        return None
    if "PREFECT_API_DATABASE_CONNECTION_URL" in os.environ:
        return None
    file = Path(os.environ["PREFECT_HOME"]) / "prefect.db"
    return file if file.is_file() else None


def _note_path(workspace: Path) -> Path:
    return workspace / "prefect" / "server.json"


def _healthy(api: str) -> bool:
    if not api.startswith(("http://", "https://")):
        return False
    try:
        with urllib.request.urlopen(f"{api}/health", timeout=5) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


@contextmanager
def _environment_variable(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before
