"""The task over a real workspace: a finished run, a held-out clip in a shard, models in a child process."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from data_catalog import Workspace
from sage_core.config import SageConfig, load_config
from sage_core.errors import SageError
from sage_core.types import Judgement, Stage
from tasks._unit import ChildOutcome, Outcome, judge
from tasks.evaluate import evaluate_inputs, evaluate_run

sys.path.insert(0, str(Path(__file__).parents[1] / "sage_core" / "training"))
from room_shards import write_room_shard

RUN = "r0000000000000001"
VIDEO = "v0000000000000000"
_MAKE_WEIGHTS = (
    "import sys; from sage_core.models import *; [save_model(build_model(MVDust3rConfig(image_size=32,"
    "patch_size=8,enc_embed_dim=32,enc_depth=1,enc_num_heads=2,dec_embed_dim=32,dec_depth=1,"
    "dec_num_heads=2,skip_dim=4,gs_mlp_dim=16), seed), sys.argv[seed]) for seed in (1, 2)]"
)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A workspace with an adapted model and a held-out clip."""
    root = tmp_path_factory.mktemp("evaluate")
    base, adapted = root / "base.safetensors", root / "adapted.safetensors"
    subprocess.run([sys.executable, "-c", _MAKE_WEIGHTS, str(base), str(adapted)], check=True)
    ws = Workspace.open(root / "ws")
    with ws.store.scratch() as area:
        _, clips = write_room_shard(area, clips=1)
        files = {
            name: ws.store.publish(area / f"{name}-rooms.parquet", f"shards/{name}-rooms.parquet")
            for name in ("frames", "clips")
        }
        copy = area / "model.safetensors"
        shutil.copy(adapted, copy)
        checkpoint = ws.store.publish(copy, f"runs/{RUN}/model.safetensors")
    accepted = Judgement.accept()
    parts = [ChildOutcome(clip, accepted) for clip in clips]
    record(ws, VIDEO, None, Stage.ACQUIRE, Outcome(accepted))
    record(ws, VIDEO, None, Stage.CURATE, Outcome(accepted, children=parts))
    for clip in clips:
        record(ws, clip, VIDEO, Stage.ASSEMBLE, Outcome(accepted, files))
    trained = Outcome(accepted, {"checkpoint": checkpoint}, {"base": str(base)})
    record(ws, RUN, None, Stage.ADAPT, trained)
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


def config(*more):
    return load_config(
        overrides=[
            "adapt.sampling.n_context=3",
            "adapt.held_out=[rooms.mp4]",
            "evaluate.views=2",
            "evaluate.rooms=[V]",
            "evaluate.rooms_tuples=1",
            "evaluate.held_out_samples=1",
            "evaluate.pictures=1",
            *more,
        ]
    )


def test_a_run_is_measured_beside_its_base(workspace):
    said = evaluate_run.fn(str(workspace.root), RUN, config(), "test")
    assert said["verdict"] == "accepted", said
    event = workspace.catalog.find(RUN, Stage.EVALUATE.value)
    for name in ("rooms-V cd base", "rooms-V cd adapted", "held-out anchor_error adapted"):
        assert event.figures[name]["value"] > 0
    assert workspace.store.verify(event.artifacts["metrics"], deep=True)
    folder = workspace.store.path(event.details["folder"])
    assert (folder / "metrics.json").is_file()
    assert all((folder / picture["file"]).is_file() for picture in event.details["pictures"])
    assert [part["name"] for part in event.details["sets"]] == ["rooms-V", "held-out"]


def test_what_goes_in_decides_whether_a_verdict_holds(workspace):
    whole = evaluate_inputs(workspace, RUN, config())
    assert whole.hash == evaluate_inputs(workspace, RUN, config()).hash
    assert whole.hash != evaluate_inputs(workspace, RUN, config("adapt.held_out=[]")).hash


def test_a_missing_data_set_fails_with_its_name(workspace, tmp_path):
    said = evaluate_run.fn(
        str(workspace.root), RUN, config(f"evaluate.rgbd=[{tmp_path}]", "evaluate.rooms=[]"), "test"
    )
    assert (said["verdict"], said["reason"]) == ("failed", "no_data")
    assert str(tmp_path) in said["message"]


def test_a_run_that_is_not_there_is_named(workspace):
    with pytest.raises(SageError, match="r9 is no finished run"):
        evaluate_inputs(workspace, "r9", config())
