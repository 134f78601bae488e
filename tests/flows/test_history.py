"""Prefect's history: old runs of a workspace go with all that the server has of them, and nothing else."""

import logging
import sqlite3
from contextlib import closing
from datetime import timedelta

import pytest
from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.filters import FlowRunFilter, LogFilter
from prefect.client.schemas.sorting import FlowRunSort, TaskRunSort
from prefect.states import Completed, Running

from data_catalog import Workspace
from flows._history import _artifacts, prune_history, shrink
from flows._server import own_database


@task
def unit(item):
    logging.getLogger("prefect.task_runs").info("%s is judged", item)
    return item


@flow(name="curate")
def curate(workspace):
    create_markdown_artifact("judged", key="curate-summary")
    return [unit(item) for item in ("v1", "v2")]


@flow(name="something-else")
def other(workspace):
    return unit("v3")


def told_of(client, run):
    """How many task runs, logs and artifacts the server has of a run, and whether it has the run."""
    of = {"any_": [run]}
    runs = FlowRunFilter.model_validate({"id": of})
    logs = LogFilter.model_validate({"flow_run_id": of})
    newest, some = TaskRunSort.ID_DESC, {"limit": 100, "offset": 0}
    return (
        len(client.read_task_runs(flow_run_filter=runs, sort=newest, **some)),
        len(client.read_logs(logs, **some)),
        len(_artifacts(client, run)),
        len(runs_that(client, runs)),
    )


def runs_that(client, wanted=None):
    return client.read_flow_runs(flow_run_filter=wanted, sort=FlowRunSort.ID_DESC, limit=200)


def ended(client, made_of, workspace):
    """A run that ended just now."""
    run = client.create_flow_run(made_of, parameters={"workspace": str(workspace)}).id
    client.set_flow_run_state(run, Completed(), force=True)
    return run


@pytest.mark.slow
@pytest.mark.server
def test_what_a_run_left_goes_with_it(on_server, tmp_path):
    ws = Workspace.open(tmp_path / "ws")
    curate(workspace=str(ws.root), return_state=True)
    (run,) = [
        one.id for one in runs_that(on_server) if one.parameters.get("workspace") == str(ws.root)
    ]
    while (told := told_of(on_server, run))[:2] < (2, 1):  # what is told comes a little later
        pass
    assert told[2:] == (1, 1)
    assert prune_history(ws, 1) == 0, "it has ended just now"
    assert prune_history(ws, 0, dry_run=True) == 1
    assert told_of(on_server, run)[3] == 1
    assert prune_history(ws, 0) == 1
    assert told_of(on_server, run) == (0, 0, 0, 0)
    assert prune_history(ws, 0) == 0


@pytest.mark.slow
@pytest.mark.server
def test_nothing_else_goes(on_server, tmp_path):
    ws = Workspace.open(tmp_path / "ws")
    old = [ended(on_server, curate, ws.root) for _ in range(2)]
    others = [ended(on_server, curate, tmp_path / "another"), ended(on_server, other, ws.root)]
    last = on_server.read_flow_run(others[-1]).end_time
    young = ended(on_server, curate, ws.root)
    running = on_server.create_flow_run(
        curate, parameters={"workspace": str(ws.root)}, state=Running()
    ).id
    assert prune_history(ws, None) == 0
    assert prune_history(ws, 30, now=last + timedelta(days=30)) == 2
    assert [told_of(on_server, run)[3] for run in old] == [0, 0]
    assert [told_of(on_server, run)[3] for run in (*others, young, running)] == [1, 1, 1, 1]


def filled(file):
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE log (message)")
        database.executemany("INSERT INTO log VALUES (?)", [("x" * 4000,)] * 500)
        database.execute("DELETE FROM log")
        database.commit()
    return file.stat().st_size


def test_a_file_that_nobody_writes_to_gives_its_room_back(tmp_path):
    file = tmp_path / "prefect.db"
    before = filled(file)
    with closing(sqlite3.connect(file)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        shrink(file, patience_s=0)
        assert file.stat().st_size == before
    shrink(file)
    assert file.stat().st_size < before / 10


def test_only_a_database_of_our_own_is_shrunk(tmp_path, monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    assert own_database(tmp_path) is None
    (tmp_path / "prefect").mkdir()
    file = tmp_path / "prefect/prefect.db"
    file.touch()
    assert own_database(tmp_path) == file
    monkeypatch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", "postgresql+asyncpg://h/db")
    assert own_database(tmp_path) is None
    monkeypatch.delenv("PREFECT_API_DATABASE_CONNECTION_URL")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    assert own_database(tmp_path) is None
