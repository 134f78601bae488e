"""A night as the server and its UI see it: states, artifacts, refusals, time budgets, notifications."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from prefect import flow
from prefect.automations import Automation
from prefect.client.schemas.objects import StateType
from prefect.states import Failed, Running, State

from data_catalog import LeaseHeld, StageEvent, Workspace
from flows._artifacts import failure_rows, funnel_rows, settings_argument
from flows._deadline import Deadline
from flows._polite import refusing
from flows._summary import OUT_OF_TIME, StageSummary, describe
from sage_core.config import load_config
from sage_core.types import Stage
from tasks._slots import slot

CONFIG = load_config(overrides=["acquire.retries=0", "adapt.base=mini"])


@pytest.fixture
def ws(tmp_path):
    return Workspace.open(tmp_path / "ws")


def test_the_earlier_end_counts():
    now = datetime.now(UTC)
    budget = load_config(overrides=["run.time_budget_h=1"])
    assert not Deadline.of(CONFIG).has_passed
    assert Deadline.of(CONFIG).at is None
    assert Deadline.of(budget).at > now + timedelta(minutes=59)
    assert Deadline.of(budget, now).at == now
    assert Deadline.of(budget, now).has_passed


def test_a_budget_ends_though_the_clock_was_set_back(monkeypatch):
    class Earlier(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) - timedelta(hours=2)

    begun = Deadline.of(load_config(overrides=["run.time_budget_h=1"]))
    over = Deadline(budget_end_s=begun.budget_end_s - 3600)
    monkeypatch.setattr("flows._deadline.datetime", Earlier)
    assert over.has_passed
    assert not begun.has_passed
    assert begun.at < datetime.now(UTC)  # by the clock as it is set now, an hour from then


def test_a_summary_says_what_is_left_and_why_nothing_was_begun():
    summary = StageSummary("curate", {"accepted": 2}, left=5, done_before=1)
    assert describe(summary) == "curate: 2 accepted, 5 LEFT, the time is up (1 done before)"
    few = StageSummary("adapt", notes=["3 new clips, and 20 are wanted"])
    assert describe(few) == "adapt: nothing to do (0 done before); 3 new clips, and 20 are wanted"


def test_refusal_keeps_the_flows_signature_and_names_who_is_at_it():
    @flow
    @refusing
    def busy(until: datetime | None = None) -> State[int]:
        """Try.

        Args:
            until: when.
        """
        raise LeaseHeld("being run by ann@night")

    assert busy.parameters.properties["until"]["description"] == "when."
    state = busy.fn()
    assert state.is_cancelled()
    assert "being run by ann@night" in state.message


def test_failures_come_with_the_command_that_does_just_one_again(ws):
    failed = {"stage": "curate", "verdict": "failed", "reason": "crashed", "source": "a.mp4"}
    ws.catalog.append(
        [
            StageEvent(item="v1", run="before", message="boom\nand more", **failed),
            StageEvent(item="v2", run="now", retryable=True, **failed),
        ]
    )
    rows = failure_rows(ws, ws.catalog.latest("curate"), settings_argument(ws, CONFIG), "now")
    assert [row["item"] for row in rows] == ["v2", "v1"]
    assert rows[1]["message"] == "boom"
    words = rows[0]["again"].split()
    assert words[:4] == ["sage", "curate", "--workspace", str(ws.root)]
    assert words[-4:] == ["--retry", "failed", "--item", "v2"]
    settings = words[words.index("--config") + 1]
    assert load_config(settings) == CONFIG, "the same settings, so that the verdict counts"
    assert settings_argument(ws, load_config()) == ""
    (row,) = funnel_rows(ws)
    assert (row["failed"], row["reasons"]) == (2, "crashed 2")


def test_slots_bound_and_a_closed_one_is_free_again(tmp_path, monkeypatch):
    monkeypatch.setenv("SAGE_SLOTS", str(tmp_path))
    with slot("download", 1) as first:
        assert first
        with slot("download", 1, give_up=lambda: True) as second:
            assert not second
    with slot("download", 1, give_up=lambda: True) as third:
        assert third


@pytest.mark.slow
@pytest.mark.server
def test_a_killed_process_holds_no_slot(tmp_path, monkeypatch):
    import signal
    import subprocess
    import sys

    monkeypatch.setenv("SAGE_SLOTS", str(tmp_path))
    code = "from tasks._slots import slot\nwith slot('d', 1): print('held', flush=True); input()"
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "held\n"
    with slot("d", 1, give_up=lambda: True) as taken:
        assert not taken
    child.send_signal(signal.SIGKILL)
    child.wait()
    with slot("d", 1, give_up=lambda: True) as free:
        assert free


@pytest.mark.slow
@pytest.mark.server
def test_when_the_time_is_up_nothing_is_begun_and_what_is_left_is_counted(ws, on_server):
    from flows.nightly import nightly

    past = datetime.now(UTC) - timedelta(seconds=1)
    film = ws.root / "a.mp4"
    film.write_bytes(b"no film")
    state = nightly(str(ws.root), [str(film)], CONFIG, until=past, return_state=True)
    assert (state.type, state.name) == (StateType.COMPLETED, OUT_OF_TIME)
    assert "1 items not begun" in state.message
    assert ws.catalog.latest() == []
    state = nightly(str(ws.root), [str(film)], CONFIG, stages=[Stage.ACQUIRE], return_state=True)
    assert len(ws.catalog.latest()) == 1, "the next night does it"


@pytest.mark.slow
@pytest.mark.server
def test_a_second_night_is_refused_in_words_and_touches_nothing(ws, on_server):
    from flows.curate import curate
    from flows.nightly import nightly

    with ws.catalog.turn("nightly", "ann@night"):
        state = nightly(str(ws.root), ["a.mp4"], CONFIG, return_state=True)
    assert state.is_cancelled()
    assert "nothing was done" in state.message
    assert "being run by ann@night" in state.message
    with ws.catalog.lease("curate", "bob@day"):
        alone = curate(str(ws.root), CONFIG, return_state=True)
        within = nightly(
            str(ws.root), [], CONFIG, stages=[Stage.CURATE, Stage.ADAPT], return_state=True
        )
    for one in (alone, within):
        assert one.is_cancelled()
        assert "being run by bob@day" in one.message
    assert ws.catalog.latest() == []


@pytest.mark.slow
@pytest.mark.server
def test_the_ui_has_summary_funnel_failures_and_a_warning(ws, on_server):
    from flows.nightly import nightly

    film = ws.root / "gone.mp4"
    film.write_bytes(b"")
    state = nightly(str(ws.root), [str(film)], CONFIG, stages=[Stage.ACQUIRE], return_state=True)
    assert state.is_failed(), "one of one failed"
    kinder = CONFIG.model_copy(
        update={"run": CONFIG.run.model_copy(update={"max_failed_share": 1.0})}
    )
    state = nightly(
        *(str(ws.root), [str(film)], kinder, [Stage.ACQUIRE], "failed"), return_state=True
    )
    assert (state.type, state.name) == (StateType.COMPLETED, "CompletedWithFailures")
    answer = on_server._client.post("/artifacts/filter", json={"limit": 100, "sort": "KEY_ASC"})
    artifacts = {a["key"]: a["data"] for a in answer.json() if str(ws.root) in str(a["data"])}
    (row,) = json.loads(artifacts["acquire-failures"])
    assert row["reason"] == "empty_file"
    assert f"--item {row['item']}" in row["again"]
    assert "--retry failed" in artifacts["acquire-warning"]


@pytest.mark.slow
@pytest.mark.server
def test_a_failed_run_is_told_and_silence_and_missed_nights_are_watched(
    told, on_server, sage, prefect_server, ws
):
    heard, came, url = told
    api = f"{prefect_server}/api"
    refused = sage("notify", "-w", ws.root, PREFECT_API_URL=api)
    assert refused.returncode == 2
    assert "SAGE_NOTIFY_URL" in refused.stderr
    for _ in range(2):  # again, it replaces them
        done = sage("notify", "-w", ws.root, PREFECT_API_URL=api, SAGE_NOTIFY_URL=url)
        assert done.returncode == 0, done.stderr
        assert url not in done.stdout + done.stderr
    silent = Automation.read(name="sage: a run is silent")
    assert silent.trigger.within >= timedelta(seconds=540)
    assert "prefect.flow-run.OutOfTime" in silent.trigger.expect
    assert Automation.read(name="sage: no night").trigger.within == timedelta(hours=25)

    @flow(name="nightly")
    def night():
        pass

    run = on_server.create_flow_run(night, tags=["sage", "nightly"], name="nightly-of-the-test")
    stage = on_server.create_flow_run(night, tags=["sage-night"], name="stage-of-the-test")
    for one in (stage, run):
        on_server.set_flow_run_state(one.id, Running())
        on_server.set_flow_run_state(one.id, Failed(message="more failed than allowed"), force=True)
    assert came.wait(120), "the automation did not call"
    assert "nightly-of-the-test is Failed" in heard[0]
    assert "more failed than allowed" in heard[0]
    assert not any("stage-of-the-test" in message for message in heard)
