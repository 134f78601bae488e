"""``sage evaluate`` without a workspace, and ``sage datasets``: what they show and what they refuse."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "sage_core" / "evaluation"))
import layouts

from flows._evaluate import labelled
from flows.cli import app
from sage_core.models import MVDust3rConfig, build_model, save_model
from sage_core.world import pinhole

TINY = MVDust3rConfig(
    image_size=32, patch_size=8, enc_embed_dim=32, enc_depth=1, enc_num_heads=2,
    dec_embed_dim=32, dec_depth=1, dec_num_heads=2, skip_dim=4, gs_mlp_dim=16,
)  # fmt: skip


def sage(*arguments, **options):
    return CliRunner().invoke(app, [str(a) for a in arguments], **options)


def words(done):
    return " ".join((done.stdout + done.stderr).split())


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    layouts.scannet(folder, layouts.rendered(12, pinhole(60, 48, 64), 48, 64))
    return folder


def test_two_models_are_measured_and_compared(root, tmp_path):
    for seed in (1, 2):
        save_model(build_model(TINY, seed), tmp_path / f"m{seed}.safetensors")
    arguments = (
        "evaluate", "--model", f"base={tmp_path / 'm1.safetensors'}", "--model", tmp_path / "m2.safetensors",
        "--protocol", "relpose-10/scannet", "--root", root, "--out", tmp_path / "out", "--threads", 1,
    )  # fmt: skip
    done = sage(*arguments, env={"SAGE_WORKSPACE": str(tmp_path / "elsewhere")})
    assert done.exit_code == 0, words(done)
    assert "relpose-10/scannet#" in words(done)
    report = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert set(report["total"]) == {"base", "m2"}
    assert report["compared_with"] == "base"
    assert set(report["change"]) == {"m2"}
    assert not (tmp_path / "elsewhere").exists()
    refused = sage(*arguments[:-2], "--unchecked", "--partial")
    assert refused.exit_code == 2
    assert "name another --out" in words(refused)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("evaluate",), "give --workspace, or --model, --protocol and --root"),
        (("evaluate", "--model", "mini"), "needs --model, --protocol and --root"),
        (
            ("evaluate", "--model", "mini", "-w", "ws", "--protocol", "cut3r/tum", "--root", "."),
            "--workspace is for the stage",
        ),
        (
            ("evaluate", "--model", "mini", "--protocol", "cut3r", "--root", "."),
            "names no data set: give PROTOCOL/DATASET",
        ),
        (
            ("evaluate", "--model", "mini", "--protocol", "icp/tum", "--root", "."),
            "there is no protocol 'icp'",
        ),
        (("datasets", "check", "kitti", "."), "there is no data set 'kitti'"),
        (("datasets", "check", "scannet", "nowhere"), "nowhere is no folder"),
    ],
)
def test_wrong_usage_is_answered_in_words(arguments, message):
    done = sage(*arguments, env={"SAGE_WORKSPACE": ""})
    assert done.exit_code in (1, 2)
    assert message in words(done)
    assert "Traceback" not in words(done)


def test_models_get_names():
    assert labelled(["mini", "a=runs/r1/model.safetensors", "runs/r2/model.safetensors"]) == {
        "mini": "mini", "a": "runs/r1/model.safetensors", "r2": "runs/r2/model.safetensors",
    }  # fmt: skip


def test_datasets_are_listed_with_licences():
    rows = json.loads(sage("datasets", "list", "--json").stdout)
    assert {"7scenes", "tum", "scannet", "matterport3d", "uasol", "nrgbd"} == {
        r["name"] for r in rows
    }
    assert all(row["licence"] and row["where"].startswith("http") for row in rows)
    assert "undistorted_camera_parameters" in words(sage("datasets", "list"))
    names = {row["name"] for row in json.loads(sage("datasets", "protocols", "--json").stdout)}
    assert {"sage-8", "mvdust3r-24", "cut3r", "spann3r", "pi3-sparse", "relpose-10"} <= names


def test_a_sound_copy_passes_and_a_wrong_one_is_explained(root, tmp_path):
    done = sage("datasets", "check", "scannet", root)
    assert done.exit_code == 0
    assert "sound" in words(done)
    room = layouts.rendered(8, pinhole(60, 48, 64), 48, 64)
    folder = layouts.scannet(tmp_path, room)
    for number in range(8):
        file = folder / f"pose/{number}.txt"
        file.write_text(layouts.words(np.linalg.inv(room.world_from_cam[number])))
    done = sage("datasets", "check", "scannet", tmp_path)
    assert done.exit_code == 1
    assert "poses are world-from-camera where camera-from-world is read" in words(done)
    (row,) = json.loads(sage("datasets", "check", "scannet", tmp_path, "--json").stdout)
    assert row["mistake"]["inverted"]
    assert not row["sound"]
