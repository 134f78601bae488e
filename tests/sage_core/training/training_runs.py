"""Runs of a tiny MV-DUSt3R, and how to watch them from outside."""

import subprocess
import sys
import time
from pathlib import Path

from sage_core.models import MVDust3rConfig
from sage_core.training.journal import CIRCUMSTANCES, read_metrics

TINY = MVDust3rConfig(
    image_size=32,
    patch_size=8,
    enc_embed_dim=32,
    enc_depth=1,
    enc_num_heads=2,
    dec_embed_dim=32,
    dec_depth=1,
    dec_num_heads=2,
    skip_dim=4,
    gs_mlp_dim=16,
)


def losses_of(folder):
    return [
        {name: value for name, value in line.items() if name not in CIRCUMSTANCES}
        for line in read_metrics(Path(folder) / "metrics.jsonl")
    ]


def start(run):
    run.folder.mkdir(parents=True, exist_ok=True)
    file = run.folder / "settings.json"
    file.write_text(run.model_dump_json())
    argv = [sys.executable, "-m", "sage_core.training", "--launch", "--settings", str(file)]
    return subprocess.Popen(argv, start_new_session=True)


def wait_for_step(folder, step, child):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        lines = read_metrics(folder / "metrics.jsonl")
        if lines and lines[-1]["step"] >= step:
            return
        assert child.poll() is None, "the trainer ended too early"
        time.sleep(0.02)
    raise AssertionError(f"no step {step}")
