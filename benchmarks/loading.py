"""What loading weights takes: resident memory at its peak over the size of the weights, and the time.

Each file is loaded in a process of its own, which first loads the small model that ships with SAGE, so that
what torch takes for itself is not counted. The peak is the kernel's VmHWM, set back before the load.

    python -m benchmarks.loading --megabytes 400
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.table import parser, publish
from sage_core.models import MVDust3rConfig, build_model, load_model, save_model

TARGET = 1.3
FORMS = (
    "sage safetensors",
    "upstream .pth",
    "upstream .pth, bfloat16",
    "upstream .pth with its optimiser",
)


def config_of(megabytes: float) -> MVDust3rConfig:
    """Widths of about that many MB of float32, most of them in equal blocks as in the published model."""
    depth = max(1, round(megabytes / 27.5))
    return MVDust3rConfig(64, 8, 512, depth, 8, 384, depth, 6, 4, 32, 384)


def write(folder: Path, megabytes: float) -> dict[str, Path]:
    """One model in every form; returns the files."""
    model = build_model(config_of(megabytes), seed=0)
    files = dict(
        zip(FORMS, map(folder.joinpath, ("a.safetensors", "b.pth", "c.pth", "d.pth")), strict=True)
    )
    save_model(model, files["sage safetensors"])
    state = model.state_dict()
    torch.save({"model": state, "epoch": 3}, files["upstream .pth"])
    half = {k: t.bfloat16() if t.is_floating_point() else t for k, t in state.items()}
    torch.save({"model": half}, files["upstream .pth, bfloat16"])
    moments = {i: {"exp_avg": torch.zeros_like(p)} for i, p in enumerate(model.parameters())}
    optimizer = {"state": moments, "param_groups": [{"params": list(moments)}]}
    torch.save({"model": state, "optimizer": optimizer}, files["upstream .pth with its optimiser"])
    return files


def measured(file: Path, config: MVDust3rConfig) -> dict[str, float]:
    """Load in a fresh process; peak and weights in MB, and seconds."""
    command = [sys.executable, "-m", "benchmarks.loading", "--load", str(file)]
    told = subprocess.run(
        [*command, "--config", json.dumps(config.to_json())], check=True, capture_output=True
    )
    return json.loads(told.stdout)


def loaded(file: Path, config: MVDust3rConfig) -> dict[str, float]:
    """Load here; what :func:`measured` gives."""
    load_model("mini")
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again from what is resident
    before, start = _resident("VmRSS"), time.perf_counter()
    model = load_model(file, config)
    seconds = time.perf_counter() - start
    weights = sum(t.nbytes for t in model.state_dict().values()) / 1e6
    return {"weights_mb": weights, "peak_mb": _resident("VmHWM") - before, "seconds": seconds}


def _resident(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024 / 1e6


def rows(megabytes: float) -> list[dict[str, object]]:
    """A row for each form of file."""
    with tempfile.TemporaryDirectory() as folder:
        config = config_of(megabytes)
        found = []
        for form, file in write(Path(folder), megabytes).items():
            figures = measured(file, config)
            ratio = figures["peak_mb"] / figures["weights_mb"]
            found.append({"file": form, **figures, "peak / weights": ratio})
        return found


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--megabytes", type=float, default=400, help="of float32 weights")
    arguments.add_argument("--load", type=Path, help="only load this file and say what it took")
    arguments.add_argument("--config", help="its widths, as JSON")
    given = arguments.parse_args()
    if given.load:
        print(json.dumps(loaded(given.load, MVDust3rConfig.from_json(json.loads(given.config)))))
        return
    publish("Loading weights", rows(given.megabytes), given.json, target_peak_over_weights=TARGET)


if __name__ == "__main__":
    main()
