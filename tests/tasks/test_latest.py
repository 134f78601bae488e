"""The gate and ``latest``: who is promoted, who is rejected and why, again for nothing, killed in between."""

import os

import pytest

from data_catalog import StageEvent, StoreError, Workspace
from sage_core.config import load_config
from sage_core.evaluation.gate import judge_promotion, lacking
from sage_core.types import Reason, Stage, Verdict
from tasks import latest as latest_module
from tasks.latest import back_to, history, latest
from tasks.promote import gate_rows, promote, said

CONFIG = load_config()


def sets(cd=(1.0, 0.9), anchor=(0.5, 0.5)):
    return [
        {"name": "rooms-V", "mean": {"base": {"cd": cd[0]}, "adapted": {"cd": cd[1]}}},
        {
            "name": "held-out",
            "mean": {"base": {"anchor_error": anchor[0]}, "adapted": {"anchor_error": anchor[1]}},
        },
    ]


def run_of(ws, name, parts, config=CONFIG, time=""):
    """A finished run with its evaluation, as the stages leave them."""
    weights = ws.store.write_bytes(f"runs/{name}/model.safetensors", name.encode())
    common = {"item": name, "verdict": "accepted", "source": "mini"}
    ws.catalog.append(
        [
            StageEvent(
                stage="adapt",
                config_hash=config.stage_hash(Stage.ADAPT),
                artifacts={"checkpoint": weights},
                details={"base": "mini", "snapshot": ""},
                time=time,
                **common,
            ),
            StageEvent(
                stage="evaluate",
                attempt=ws.catalog.next_attempt(name, "evaluate"),
                config_hash="e",
                input_hash="i",
                details={"sets": parts},
                figures={"rooms-V cd base": {"value": 1.0, "threshold": None, "rule": None}},
                **common,
            ),
        ]
    )


@pytest.fixture
def ws(tmp_path):
    return Workspace.open(tmp_path / "ws")


def decide(ws, config=CONFIG):
    return promote.fn(str(ws.root), config, "run")


@pytest.mark.parametrize(
    ("parts", "worse"),
    [
        (sets(), []),
        (sets(cd=(1.0, 1.0)), []),
        (sets(cd=(1.0, 1.001)), ["rooms-V cd"]),
        (sets(anchor=(0.5, 0.6)), ["held-out anchor_error"]),
        (sets(cd=(1.0, float("nan"))), ["rooms-V cd"]),
        (sets(cd=(1.0, 2.0), anchor=(0.5, "inf")), ["rooms-V cd", "held-out anchor_error"]),
    ],
)
def test_no_worse_anywhere_is_the_rule(parts, worse):
    judgement = judge_promotion(parts, CONFIG.promote)
    assert (judgement.verdict is Verdict.ACCEPTED) == (not worse)
    assert judgement.reason is (Reason.WORSE_THAN_BASE if worse else None)
    assert all(name in judgement.message for name in worse)
    assert set(judgement.figures) == {"gate rooms-V cd", "gate held-out anchor_error"}
    slack = load_config(overrides=["promote.in_domain_slack=0.01"]).promote
    forgiven = judge_promotion(sets(cd=(1.0, 1.001)), slack)
    assert forgiven.verdict is Verdict.ACCEPTED


def test_what_was_not_measured_is_not_promoted(ws):
    run_of(ws, "r1", sets()[:1])
    (told,) = decide(ws)
    assert not told.promoted
    assert "adapt.held_out_share" in said(told)
    assert "evaluate.rooms" in lacking(sets()[1:])
    assert latest(ws) is None
    assert ws.catalog.find("r1", "evaluate").verdict == "accepted"


def test_latest_moves_on_with_its_history_and_the_worse_one_is_rejected_with_figures(ws):
    run_of(ws, "r1", sets())
    (first,) = decide(ws)
    assert first.promoted
    assert latest(ws).run == "r1"
    run_of(ws, "r2", sets(anchor=(0.5, 0.7)))
    (second,) = decide(ws)
    event = ws.catalog.find("r2", "evaluate")
    assert (event.verdict, event.reason) == ("rejected", "worse_than_base")
    assert event.figures["gate held-out anchor_error"] == {
        "value": 0.7,
        "threshold": 0.5,
        "rule": "<=",
    }
    assert "rooms-V cd base" in event.figures, "what was measured stays"
    assert {row["fits"] for row in gate_rows([second])} == {"yes", "NO"}
    run_of(ws, "r3", sets())
    assert [said(d) for d in decide(ws)] == ["r3 is latest now"]
    assert [entry.run for entry in history(ws)] == ["r3", "r1"]
    assert ws.store.path(latest(ws).weights).read_text() == "r3"
    attempts = {e.item: e.attempt for e in ws.catalog.latest("evaluate")}
    assert decide(ws) == [], "again, it decides nothing"
    assert {e.item: e.attempt for e in ws.catalog.latest("evaluate")} == attempts


def test_another_threshold_decides_anew_and_measures_nothing(ws):
    run_of(ws, "r1", sets(cd=(1.0, 1.01)))
    decide(ws)
    assert latest(ws) is None
    kinder = load_config(overrides=["promote.in_domain_slack=0.05"])
    assert [said(d) for d in decide(ws, kinder)] == ["r1 is latest now"]
    assert ws.catalog.find("r1", "evaluate").verdict == "accepted"


def test_an_older_run_does_not_take_the_place_of_a_younger_one(ws):
    run_of(ws, "old", sets(cd=(1.0, 1.01)), time="2026-03-01T02:00:00+00:00")
    run_of(ws, "young", sets(), time="2026-03-02T02:00:00+00:00")
    decide(ws)
    kinder = load_config(overrides=["promote.in_domain_slack=0.05"])
    (told,) = decide(ws, kinder)
    assert "a younger run is latest" in said(told)
    assert latest(ws).run == "young"


@pytest.mark.parametrize("dies_in", ["make_latest", "write"])
def test_killed_between_verdict_and_pointer_the_next_run_finishes_it(ws, monkeypatch, dies_in):
    run_of(ws, "r1", sets())
    decide(ws)
    run_of(ws, "r2", sets())

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if dies_in == "make_latest":
            patch.setattr("tasks.promote.make_latest", die)
        else:
            patch.setattr(os, "rename", die)  # the step that puts the new file into place
            patch.setattr("pathlib.Path.rename", die)
            patch.setattr("pathlib.Path.replace", die)
        with pytest.raises(KeyboardInterrupt):
            promote.fn(str(ws.root), CONFIG, "run")
    assert latest(ws).run == "r1", "the old one or the new one, whole"
    assert [said(d) for d in decide(ws)] == ["r2 is latest now"]


def test_one_goes_back_only_to_what_was_latest_and_is_there(ws):
    for name in ("r1", "r2"):
        run_of(ws, name, sets())
        decide(ws)
    assert back_to(ws, "r1").run == "r1"
    assert [entry.run for entry in history(ws)] == ["r1", "r2", "r1"]
    assert decide(ws) == [], "the gate does not undo what a person did"
    assert latest(ws).run == "r1"
    with pytest.raises(StoreError, match="r9 never was latest"):
        back_to(ws, "r9")
    ws.store.remove(latest_module.history(ws)[1].weights)
    with pytest.raises(StoreError, match="not there any more"):
        back_to(ws, "r2")


def test_a_pointer_of_a_newer_sage_is_refused(ws):
    ws.store.write_json(latest_module.FILE, {"version": 2, "history": []})
    with pytest.raises(StoreError, match="version 2"):
        latest(ws)


def test_switched_off_nothing_is_judged(ws):
    run_of(ws, "r1", sets())
    assert decide(ws, load_config(overrides=["promote.enabled=false"])) == []
    assert ws.catalog.find("r1", "evaluate").attempt == 1


def test_gate_settings_change_no_stages_hash():
    other = CONFIG.model_copy(
        update={"promote": CONFIG.promote.model_copy(update={"held_out_slack": 0.5})}
    )
    assert [other.stage_hash(s) for s in Stage] == [CONFIG.stage_hash(s) for s in Stage]
