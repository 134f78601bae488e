"""Which Prefect server a command talks to: yours, the workspace's running one, or one of our own.

Importing this module does not import Prefect: the settings below must be in the environment first.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from flows._own_server import OwnServer, healthy
from flows._progress import say
from sage_core.errors import ConfigError

_LAST_WORDS_S = 10
_MANY_IN_ONE_TRANSACTION = {
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "50",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "50",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_READ_BATCH_SIZE": "50",
}
"""A task run costs the server a third then (docs/scale.md); its states are in the UI up to a second later."""


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
        if not healthy(given):
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
    note = _note_path(workspace)

    def tell_where() -> None:
        with suppress(OSError):  # on a full disk nobody shares this server, that is all
            note.parent.mkdir(parents=True, exist_ok=True)  # PREFECT_HOME may be elsewhere
            note.write_text(json.dumps({"url": server.url, "pid": server.pid}))

    def began_anew(status: int) -> None:
        tell_where()
        say(
            "prefect:",
            f"the server had ended ({status}) and is started again; {server.log}",
            "yellow",
        )

    server = OwnServer(Path(os.environ["PREFECT_HOME"]), host, port, began_anew)
    try:
        server.wait_until_healthy()
        tell_where()
        yield server.url
    finally:
        note.unlink(missing_ok=True)
        _hand_over_last_words()
        server.stop()


def _hand_over_last_words() -> None:
    """Let Prefect's threads send what they still hold: once the server is gone they would wait for it."""
    if "prefect" not in sys.modules:
        return
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for service in (APILogWorker, EventsWorker):
        service.drain_all(timeout=_LAST_WORDS_S)


def running_server(workspace: Path) -> str | None:
    """The URL of the server that serves this workspace now, if one does."""
    with suppress(OSError, ValueError, KeyError):
        url = str(json.loads(_note_path(workspace).read_text())["url"])
        if healthy(f"{url}/api"):
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
