"""Task runners inside a stage: the choice, what is missing, and real Dask and Ray clusters on loopback."""

import multiprocessing
import os
import secrets
import tempfile
from importlib.util import find_spec

import pytest

from flows import _runners
from sage_core.config import RunConfig, SageConfig
from sage_core.errors import ConfigError


def test_a_runner_that_is_not_installed_says_what_to_install(monkeypatch):
    monkeypatch.setattr(_runners, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'sage-video3d\[ray\]'"):
        _runners.check_runner(RunConfig(task_runner="ray"))
    with pytest.raises(ConfigError, match="prefect_dask"):
        _runners.task_runner(RunConfig(task_runner="dask"))


def test_where_items_run_changes_no_hash():
    plain = SageConfig()
    spread = SageConfig(run=RunConfig(task_runner="dask", cluster="tcp://127.0.0.1:1", workers=9))
    assert plain.stage_hash("curate") == spread.stage_hash("curate")


@pytest.fixture(params=["dask", "ray"])
def runner(request, monkeypatch):
    """A runner on a cluster; what Ray keeps goes to a folder of the test, whose sockets need a short path."""
    package = f"prefect_{request.param}"
    if find_spec(package) is None:
        pytest.skip(f"needs {package}: the extra {request.param}")
    with tempfile.TemporaryDirectory(prefix="ray") as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)
        monkeypatch.setenv("RAY_AUTH_MODE", "token")
        monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        yield request.param


@pytest.mark.slow
@pytest.mark.server
def test_items_are_judged_by_the_processes_of_a_cluster(runner, prefect_server, tmp_path):
    _in_a_process(
        _curate_on, runner, str(tmp_path / "ws"), str(tmp_path / "told"), f"{prefect_server}/api"
    )
    here, *lines = (tmp_path / "told").read_text().splitlines()
    verdicts = [line.split() for line in lines]
    assert [item for item, *_ in verdicts] == ["v1", "v2", "v3"]
    assert {reason for _, _, reason in verdicts} == {"missing_input"}
    assert len({run for _, run, _ in verdicts}) == 1
    assert here


@pytest.mark.slow
def test_a_cluster_of_this_machine_listens_on_loopback_only(runner, tmp_path):
    _in_a_process(_note_listeners, runner, str(tmp_path / "told"))
    told = (tmp_path / "told").read_text().split()
    assert set(told) == {"127.0.0.1"}


def _in_a_process(function, *arguments):
    """A cluster leaves threads, and Ray settings in the environment, to the process that begins it."""
    program = multiprocessing.get_context("spawn").Process(target=function, args=arguments)
    program.start()
    program.join()
    assert program.exitcode == 0


def _note_listeners(runner, told):
    """The addresses that this process and the cluster's listen on."""
    from pathlib import Path

    import psutil

    with _runners.task_runner(RunConfig(task_runner=runner, workers=1)) as cluster:
        _ = cluster.client if runner == "dask" else None  # which Dask's begins with
        here = psutil.Process()
        sockets = [s for p in (here, *here.children(recursive=True)) for s in p.net_connections()]
    listening = {s.laddr.ip for s in sockets if s.status == psutil.CONN_LISTEN}
    Path(told).write_text("\n".join(ip.removeprefix("::ffff:") for ip in listening))


def _curate_on(runner, workspace, told, api):
    """Judge three videos that are not there on two worker processes; note what the catalog then holds."""
    os.environ["PREFECT_API_URL"] = api
    from pathlib import Path

    from prefect import flow

    from data_catalog import StageEvent, Workspace
    from flows._deadline import Deadline
    from flows._stage import Job, run_jobs
    from sage_core.types import Artifact, Stage
    from tasks.curate import curate_video

    ws = Workspace.open(workspace)
    lost = {"video": Artifact("videos/lost.mp4", "0" * 64, 1)}
    items = [f"v{n}" for n in (1, 2, 3)]
    ws.catalog.append(
        [StageEvent(item=i, stage="acquire", verdict="accepted", artifacts=lost) for i in items]
    )
    config = SageConfig(run=RunConfig(task_runner=runner, workers=2))

    @flow
    def judge_all():
        jobs = [
            Job(curate_video, {"workspace": workspace, "item": i, "config": config, "run": "r"})
            for i in items
        ]
        deadline = Deadline.of(config, None)
        return run_jobs(
            Stage.CURATE, jobs, total=len(jobs), run=config.run, done_before=0, deadline=deadline
        )

    summary = judge_all()
    assert summary.judged == 3, summary
    rows = [f"{e.item} {e.run} {e.reason}" for e in ws.catalog.latest("curate")]
    Path(told).write_text("\n".join([str(os.getpid()), *rows]))
