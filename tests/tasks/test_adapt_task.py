"""The task over a real workspace: a shard of rooms, the trainer as a child process, a verdict."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from data_catalog import Workspace
from flows.cli import app
from sage_core.config import SageConfig, load_config
from sage_core.types import Judgement, Stage
from tasks._unit import ChildOutcome, Outcome, judge
from tasks.adapt import absent_held_out, adapt_inputs, dry_run, judged_run, train_settings

sys.path.insert(0, str(Path(__file__).parents[1] / "sage_core" / "training"))
from room_shards import write_room_shard

VIDEO = "v0000000000000000"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A workspace whose one video gave two clips in one shard, and a tiny base model beside it."""
    root = tmp_path_factory.mktemp("adapt")
    code = (
        "import sys; from sage_core.models import *; save_model(build_model(MVDust3rConfig(image_size=32,"
        "patch_size=8,enc_embed_dim=32,enc_depth=1,enc_num_heads=2,dec_embed_dim=32,dec_depth=1,"
        "dec_num_heads=2,skip_dim=4,gs_mlp_dim=16), 1), sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", code, str(root / "tiny.safetensors")], check=True)
    ws = Workspace.open(root / "ws")
    with ws.store.scratch() as area:
        _, clips = write_room_shard(area)
        files = {
            name: ws.store.publish(area / f"{name}-rooms.parquet", f"shards/{name}-rooms.parquet")
            for name in ("frames", "clips")
        }
    accepted = Judgement.accept()
    parts = [ChildOutcome(clip, accepted) for clip in clips]
    record(ws, VIDEO, None, Stage.ACQUIRE, Outcome(accepted))
    record(ws, VIDEO, None, Stage.CURATE, Outcome(accepted, children=parts))
    for clip in clips:
        record(ws, clip, VIDEO, Stage.ASSEMBLE, Outcome(accepted, files))
    return ws


def record(ws, item, parent, stage, outcome):
    judge(
        ws,
        item=item,
        stage=stage,
        source="rooms.mp4",
        parent=parent,
        config=SageConfig(),
        input_hash="",
        run="test",
        work=lambda: outcome,
    )


def config(ws, *more):
    return load_config(
        overrides=[
            f"adapt.base={ws.root.parent / 'tiny.safetensors'}",
            "adapt.steps=3",
            "adapt.sampling.n_context=3",
            "adapt.loss.perceptual=none",
            "adapt.regularisation={source: rooms, ratio: 2, pool: 2}",
            "adapt.optimizer.batch=1",
            "adapt.device=cpu",
            "adapt.threads=1",
            *more,
        ]
    )


def test_a_run_is_trained_judged_and_not_trained_twice(workspace):
    settings = config(workspace)
    inputs = adapt_inputs(workspace, settings)
    assert [len(clips) for clips in inputs.parts.values()] == [2]
    steps = []
    event = judged_run(workspace, inputs, settings, "test", steps.append)
    assert (event.verdict, event.message) == ("accepted", "")
    assert [line["step"] for line in steps] == [0, 1, 2]
    assert event.figures["steps"]["value"] == 3
    assert event.figures["labelled_samples"]["value"] == 1
    assert {
        "anchor_first",
        "anchor_last",
        "photometric_last",
        "labelled_last",
    } <= event.figures.keys()
    assert event.cpu_seconds > 0.5, "the trainer's child, which imports torch, is not accounted for"
    assert all(workspace.store.verify(a, deep=True) for a in event.artifacts.values())
    assert workspace.catalog.load_snapshot(event.details["snapshot"]).shards
    again = judged_run(workspace, adapt_inputs(workspace, settings), settings, "test", steps.append)
    assert again.artifacts == event.artifacts
    assert again.figures == event.figures


def test_the_run_is_named_by_what_decides_it(workspace):
    name = adapt_inputs(workspace, config(workspace)).item
    assert adapt_inputs(workspace, config(workspace, "adapt.threads=2")).item == name
    assert adapt_inputs(workspace, config(workspace, "adapt.steps=4")).item != name
    assert adapt_inputs(workspace, config(workspace, "run.seed=1")).item != name


def test_names_that_hold_out_nothing_are_told(workspace):
    slipped = config(workspace, f"adapt.held_out=[rooms.mp4, {VIDEO}, kitchn]")
    assert absent_held_out(workspace, slipped) == ["kitchn"]


def test_held_out_clips_are_left_out(workspace):
    held = config(workspace, f"adapt.held_out=[{VIDEO[:16]}1_000000_000120]")
    whole, part = adapt_inputs(workspace, config(workspace)), adapt_inputs(workspace, held)
    assert [len(clips) for clips in part.parts.values()] == [1]
    assert part.snapshot != whole.snapshot
    nothing = config(workspace, "adapt.held_out=[rooms.mp4]")
    event = judged_run(workspace, adapt_inputs(workspace, nothing), nothing, "test", print)
    assert (event.verdict, event.reason) == ("failed", "no_data")


def test_clips_are_mixed_by_source_and_difficulty(workspace, tmp_path):
    clips = [f"{VIDEO[:16]}{k}_000000_000120" for k in (0, 1)]
    file = tmp_path / "difficulty.json"
    file.write_text(json.dumps({clips[0]: 2.0, clips[1]: 1.0}))
    mixing = f"adapt.mixing={{sources: {{rooms.mp4: 4}}, difficulty: {file}, difficulty_weights: [1, 3]}}"
    settings = config(workspace, mixing)
    inputs = adapt_inputs(workspace, settings)
    datasets = train_settings(workspace, inputs, settings).datasets
    assert [(d.weight, d.parts[0].clips) for d in datasets] == [(1, (clips[1],)), (3, (clips[0],))]
    file.write_text(json.dumps({clips[0]: 1.0, clips[1]: 2.0}))
    assert adapt_inputs(workspace, settings).item != inputs.item
    wrong = config(workspace, "adapt.mixing.sources={romms: 1}")
    event = judged_run(workspace, adapt_inputs(workspace, wrong), wrong, "test", print)
    assert (event.verdict, event.reason) == ("failed", "bad_config")
    assert "romms" in event.message


def test_a_failure_has_the_trainers_reason(workspace):
    settings = config(workspace, "adapt.regularisation.source=null")
    event = judged_run(workspace, adapt_inputs(workspace, settings), settings, "test", print)
    assert (event.verdict, event.reason, event.retryable) == ("failed", "bad_config", False)
    assert "regularisation" in event.message


@pytest.mark.slow
def test_a_dry_run_trains_nothing(workspace):
    settings = config(workspace, "adapt.steps=100")
    found = dry_run(str(workspace.root), settings)
    assert (found["steps"], found["video_samples"], found["labelled_samples"]) == (100, 67, 33)
    assert found["memory_mb"]["total"] > 0
    assert found["hours"] is None
    timed = dry_run(str(workspace.root), settings, timed_steps=2)
    assert timed["hours"] > 0
    assert timed["hours_from"].startswith("2 timed steps of one process on cpu")
    assert not (workspace.root / "runs" / adapt_inputs(workspace, settings).item).exists()


@pytest.mark.slow
def test_a_dry_run_of_settings_that_contradict_is_wrong_usage(workspace):
    """Found out in a child process, and said as if it were here."""
    changes = ["adapt.frozen=[no_such_group]", "adapt.base=mini"]
    options = [one for change in changes for one in ("--set", change)]
    done = CliRunner().invoke(
        app, ["adapt", "-w", str(workspace.root), "--dry-run", *options, "-s", "adapt.device=cpu"]
    )
    assert done.exit_code == 2, done.output
    assert "cannot freeze no_such_group" in " ".join(done.output.split())
    assert "bad_config" not in done.output


BAD_BASES = """
import os, sys, torch
from safetensors.torch import load_file

class Evil:
    def __reduce__(self):
        return (os.system, ("touch ran",))

folder, state = sys.argv[1], load_file(sys.argv[2])
torch.save({"model": state, "args": Evil()}, f"{folder}/evil.pth")
torch.save({"model": dict(list(state.items())[3:])}, f"{folder}/few.pth")
data = open(sys.argv[2], "rb").read()
open(f"{folder}/cut.safetensors", "wb").write(data[:-1000])
"""


@pytest.mark.slow
def test_a_bad_base_ends_the_command_in_words(workspace, tmp_path, monkeypatch):
    tiny = workspace.root.parent / "tiny.safetensors"
    subprocess.run([sys.executable, "-c", BAD_BASES, str(tmp_path), str(tiny)], check=True)
    monkeypatch.setenv("SAGE_MODELS", str(tmp_path / "models"))
    for base, words in {
        tmp_path / "evil.pth": "could run code: ",
        tmp_path / "few.pth": "missing: ",
        tmp_path / "cut.safetensors": "cut short",
        tmp_path / "none.pth": "no weights file",
        "vggt-1b": "sage models pull vggt-1b",
    }.items():
        settings = ("adapt.regularisation.source=rooms", "adapt.loss.perceptual=none")
        given = [part for s in (f"adapt.base={base}", *settings) for part in ("--set", s)]
        command = ["adapt", "-w", str(workspace.root), "--dry-run", *given]
        done = CliRunner().invoke(app, command)
        text = " ".join((done.stdout + done.stderr).split())
        assert done.exit_code == 1, text
        assert "bad_checkpoint" in text
        assert words in text
        assert "Traceback" not in text
    assert not (Path.cwd() / "ran").exists()


def test_neither_task_nor_launcher_imports_torch():
    code = "import sys, tasks.adapt; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
