"""The benchmark of a training step runs, at toy size, and says what it could not run."""

import json

import pytest

from benchmarks import train_step
from sage_core.models import model_config

TOY = train_step.Case("mini", 2, 16, steps=1)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_case_gives_figures(processes):
    row = train_step.measured(train_step.Case("mini", 2, 16, processes=processes, steps=1))
    assert row["note"] == ""
    assert row["samples/s"] == pytest.approx(processes / row["s/step"])
    assert row["memory MiB"] > 0
    assert row["MFU"] is None


@pytest.mark.slow
def test_what_cannot_run_says_why(tmp_path, monkeypatch):
    cases = (TOY, train_step.Case("nobody", 2, 16), train_step.Case("mini", 2, 16, device="cuda"))
    monkeypatch.setattr(train_step, "_cases", lambda _options: cases)
    train_step.main(["--json", str(tmp_path / "rows.json")])
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert [row["ratio"] for row in rows] == [1, None, None]
    assert "no model 'nobody'" in rows[1]["note"]
    assert "CUDA" in rows[2]["note"]


def test_the_published_cases_are_those_of_the_models():
    assert {(c.model, c.views, c.image_px) for c in train_step.CUDA} == {
        ("mvdust3r", 8, 224),
        ("vggt", 8, 224),
        ("vggt", 4, 518),
    }
    assert {c.processes for c in train_step.CPU} == {1, 2}
    assert model_config("mvdust3r").image_size == 224
