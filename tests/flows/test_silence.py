"""Rules for what does not happen, on a real server: a night that never came, a run that died without a word.

A rule that nothing can satisfy is the clock: it fires once a window, so other rules are compared with it and
with nothing else.
"""

import multiprocessing
import threading
import time
from contextlib import contextmanager

import pytest
from prefect import flow, tags
from prefect.automations import Automation
from prefect.events.schemas.automations import EventTrigger
from prefect.states import Cancelled, Completed, Running

from flows._notify import MISSED, Rules, automations, make_automations

pytestmark = [pytest.mark.slow, pytest.mark.server]

TICK = "a window has passed"
WINDOW_S = 20.0
PATIENCE_S = 400


@flow(name="nightly")
def night():
    """Begins and does not end by itself."""
    threading.Event().wait()


@pytest.fixture
def rules(told, on_server, monkeypatch):
    """Make our rules and the clock, and wait until the server goes by them; what is heard, line by line."""
    heard, _, url = told
    monkeypatch.setenv("SAGE_NOTIFY_URL", url)
    made = []

    def make(rules):
        made.extend(make_automations(None, rules))
        made.append(_make_clock(rules))
        _wait_until(lambda: _ticks(heard))
        heard.clear()
        return heard

    yield make
    for name in made:
        Automation.read(name=name).delete()


def _make_clock(rules):
    """Tells ``TICK`` whenever a window of a missed night has passed."""
    from prefect.blocks.webhook import Webhook

    target = Webhook.load("sage-notify")
    (missed,) = [one for one in automations(target, rules) if one.name == MISSED]
    (action,) = missed.actions
    never = EventTrigger(
        **missed.trigger.model_dump(include={"posture", "within"}), expect={"sage.test.never"}
    )
    tells = action.model_copy(update={"payload": TICK})
    Automation(name=TICK, trigger=never, actions=[tells]).create()
    return TICK


def test_a_missed_night_and_a_killed_run_are_told_and_none_that_comes_or_beats(
    rules, on_server, prefect_server, monkeypatch
):
    """Both at once, since both are mostly waiting."""
    heard = rules(Rules(silent_s=60, night_h=WINDOW_S / 3600))
    monkeypatch.setenv("PREFECT_API_URL", f"{prefect_server}/api")
    monkeypatch.setenv("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "30")
    with _processes("alive", "dead") as processes:
        runs = {n: _wait_until(lambda n=n: _beating(on_server, n)) for n in processes}
        processes["dead"].kill()
        _let_nights_come(on_server, heard, windows=1)  # what was missed before is told by then
        begun = len(heard)
        _let_nights_come(on_server, heard, windows=2)
        silent = len(heard)
        assert not _missed(heard[begun:silent]), "nights have come"
        _wait_until(lambda: _missed(heard[silent:]))
        assert _ticks(heard[silent:]) <= 1, "silence counts from the last night that began"
        _wait_until(lambda: any("dead is Crashed" in words for words in heard))
        (words,) = [words for words in heard if "dead" in words]
        assert "no sign of life for 60 s" in words
        assert on_server.read_flow_run(runs["dead"]).state.is_crashed()
        assert on_server.read_flow_run(runs["alive"]).state.is_running()
        assert not any("alive" in words for words in heard)
    on_server.set_flow_run_state(runs["alive"], Cancelled(), force=True)


@contextmanager
def _processes(*names):
    """Nights that have begun, each in a process of its own, by their names."""
    spawn = multiprocessing.get_context("spawn")
    processes = {name: spawn.Process(target=_a_night, args=(name,)) for name in names}
    try:
        for process in processes.values():
            process.start()
        yield processes
    finally:
        for process in processes.values():
            process.kill()
            process.join()


def _ticks(heard):
    return sum(TICK in words for words in heard)


def _missed(heard):
    return any("no night began" in words for words in heard)


def _let_nights_come(server, heard, windows):
    start = len(heard)
    while _ticks(heard[start:]) < windows:
        _begin_a_night(server)
        time.sleep(1)
    _begin_a_night(server)


def _begin_a_night(server):
    begun = server.create_flow_run(night, tags=["sage", "nightly"])
    server.set_flow_run_state(begun.id, Running())
    server.set_flow_run_state(begun.id, Completed())


def _a_night(name):
    with tags("sage"):
        night.with_options(flow_run_name=name)()


def _beating(server, name):
    """The id of the run of this name, once the server has had a sign of life from it."""
    matching = {"event": {"name": ["prefect.flow-run.heartbeat"]}}
    answer = server._client.post("/events/filter", json={"filter": matching, "limit": 50})
    resources = [event["resource"] for event in answer.json()["events"]]
    ids = [r["prefect.resource.id"] for r in resources if r["prefect.resource.name"] == name]
    return ids[0].removeprefix("prefect.flow-run.") if ids else None


def _wait_until(condition):
    """What ``condition`` says as soon as it is something."""
    patience = time.monotonic() + PATIENCE_S
    while not (said := condition()):
        assert time.monotonic() < patience, "waited long enough"
        time.sleep(0.5)
    return said
