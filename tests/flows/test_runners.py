"""Task runners inside a stage: the choice, what is missing, and a real Dask cluster on loopback."""

import multiprocessing
import os

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


@pytest.mark.slow
@pytest.mark.server
def test_items_are_judged_by_the_processes_of_a_dask_cluster(prefect_server, tmp_path):
    pytest.importorskip("prefect_dask")
    program = multiprocessing.get_context("spawn").Process(
        target=_curate_on_dask,
        args=(str(tmp_path / "ws"), str(tmp_path / "told"), f"{prefect_server}/api"),
    )
    program.start()
    program.join()
    assert program.exitcode == 0
    here, *lines = (tmp_path / "told").read_text().splitlines()
    verdicts = [line.split() for line in lines]
    assert [item for item, *_ in verdicts] == ["v1", "v2", "v3"]
    assert {reason for _, _, reason in verdicts} == {"missing_input"}
    assert len({run for _, run, _ in verdicts}) == 1
    assert here


def _curate_on_dask(workspace, told, api):
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
    config = SageConfig(run=RunConfig(task_runner="dask", workers=2))

    @flow
    def judge_all():
        jobs = [
            Job(curate_video, {"workspace": workspace, "item": i, "config": config, "run": "r"})
            for i in items
        ]
        deadline = Deadline.of(config, None)
        return run_jobs(Stage.CURATE, jobs, run=config.run, done_before=0, deadline=deadline)

    summary = judge_all()
    assert summary.judged == 3, summary
    rows = [f"{e.item} {e.run} {e.reason}" for e in ws.catalog.latest("curate")]
    Path(told).write_text("\n".join([str(os.getpid()), *rows]))
