"""Many items in one task run: a bad one spoils none of the others, and the UI shows what happened."""

import logging
from datetime import UTC, datetime, timedelta

import pytest
from prefect import flow, task
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.sorting import TaskRunSort
from prefect.settings import PREFECT_API_URL, temporary_settings

from data_catalog import LeaseLost
from flows import _stage
from flows._deadline import Deadline
from flows._stage import Job, batch_size, run_jobs
from sage_core.config import RunConfig
from sage_core.types import Stage
from tasks._turns import in_turn


@task(name="judge", task_run_name="judge-{item}")
def judge(item):
    if item == "bad":
        raise OSError("the catalog cannot be written")
    if item == "lost":
        raise LeaseLost("another runs the stage")
    verdict = "rejected" if item.startswith("r") else "accepted"
    reason = "too_short" if verdict == "rejected" else None
    return {"item": item, "verdict": verdict, "reason": reason, "message": "", "seconds": 0.0}


def calls(*items):
    return [{"item": item} for item in items]


@pytest.mark.parametrize(
    ("waiting", "workers", "size"),
    [(1, 2, 1), (199, 2, 1), (200, 2, 2), (1600, 2, 16), (100_000, 2, 16), (1600, 16, 2)],
)
def test_all_under_way_is_two_percent_of_what_waits_at_most(waiting, workers, size):
    assert batch_size(waiting, workers, 16) == size
    assert size == 1 or size * workers <= 0.02 * waiting
    assert batch_size(waiting, workers, 1) == 1


def test_a_bad_item_leaves_its_neighbours_their_verdicts(caplog):
    with caplog.at_level(logging.ERROR, "sage.tasks"):
        state = in_turn.fn(judge, calls("a", "bad", "r"), None, "three")
    assert state.is_failed()
    assert state.message == "1 of 3 without a verdict"
    first, error, last = state.data
    assert (first["verdict"], last["verdict"]) == ("accepted", "rejected")
    assert isinstance(error, OSError)
    assert "bad" in caplog.text
    assert "the catalog cannot be written" in caplog.text


def test_none_is_begun_after_the_moment():
    past = datetime.now(UTC) - timedelta(seconds=1)
    assert in_turn.fn(judge, calls("a", "bad"), past, "two") == [None, None]


def test_a_lost_lease_ends_it_at_once():
    begun = []

    @task
    def unit(item):
        begun.append(item)
        return judge.fn(item)

    with pytest.raises(LeaseLost):
        in_turn.fn(unit, calls("a", "lost", "b"), None, "three")
    assert begun == ["a", "lost"]


@pytest.mark.slow
@pytest.mark.server
def test_counts_states_and_names_on_a_server(prefect_server, monkeypatch):
    monkeypatch.setattr(_stage, "_STEPS", 1)
    items = ["a1", "bad", "r1", *(f"a{n}" for n in range(2, 9))]

    @flow
    def stage():
        jobs = [Job(judge, {"item": item}) for item in items]
        run = RunConfig(workers=2)
        return run_jobs(
            Stage.CURATE,
            jobs,
            total=len(jobs),
            run=run,
            done_before=3,
            deadline=Deadline(),
            together=4,
        )

    with (
        temporary_settings({PREFECT_API_URL: f"{prefect_server}/api"}),
        SyncPrefectClient(f"{prefect_server}/api") as client,
    ):
        state = stage(return_state=True)
        summary = state.result()
        known = FlowRunFilter.model_validate({"id": {"any_": [state.state_details.flow_run_id]}})
        ended = []
        while len(ended) < 5:  # they are told of a little later
            runs = client.read_task_runs(
                flow_run_filter=known, sort=TaskRunSort.ID_DESC, limit=50, offset=0
            )
            ended = [(r.name, r.state.type.value) for r in runs if r.state and r.state.is_final()]
    assert summary.verdicts == {"accepted": 8, "rejected": 1}
    assert summary.reasons == {"too_short": 1}
    assert (summary.done_before, summary.left) == (3, 0)
    (broken,) = summary.broken
    assert "the catalog cannot be written" in broken
    # Of ten waiting four are taken, of six three, of three one, and then one by one.
    assert sorted(ended) == [
        ("judge-a1 and 3 more", "FAILED"),
        ("judge-a3 and 2 more", "COMPLETED"),
        ("judge-a6", "COMPLETED"),
        ("judge-a7", "COMPLETED"),
        ("judge-a8", "COMPLETED"),
    ]
