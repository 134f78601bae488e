"""One training step: samples a second, MFU and memory, by model, size and number of processes.

    python -m benchmarks.train_step [--json FILE]

On the CPU the small model `mini` with one process and with two, of one thread each. With a CUDA device
MV-DUSt3R at 8 x 224 px and VGGT at 8 x 224 and 4 x 518 px, bfloat16, random weights, frozen as in the
presets, with and without recomputed activations. A step is a real one: forward, anchor loss, rendering loss
where this machine can render, backward, clipping, AdamW; samples are random and ready in memory, so that
nothing is read. Each case runs in processes of its own and its first steps are not counted.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.table import parser, publish

WARM_UP = 2
FROZEN = {"vggt": ["encoder", "point_head"]}
"""As the presets train the models."""


@dataclass(frozen=True)
class Case:
    """What is timed; ``batch`` samples a step and process, all at once."""

    model: str
    views: int
    image_px: int
    batch: int = 1
    processes: int = 1
    device: str = "cpu"
    checkpoint_activations: bool = False
    compile: bool = False
    parallel: str = "ddp"
    steps: int = 5


CPU = (Case("mini", 8, 64), Case("mini", 8, 64, processes=2))
CUDA = tuple(
    Case(model, views, size, batch, device="cuda", checkpoint_activations=checkpointed)
    for model, views, size, batch in (
        ("mvdust3r", 8, 224, 4),
        ("vggt", 8, 224, 4),
        ("vggt", 4, 518, 2),
    )
    for checkpointed in (False, True)
)


def main(arguments: list[str] | None = None) -> None:
    options = _options(arguments)
    if options.case:
        _measure(Case(**json.loads(options.case)), options.folder)
        return
    rows = [measured(case) for case in _cases(options)]
    first = next((row for row in rows if row["samples/s"]), None)
    for row in rows:
        row["ratio"] = row["samples/s"] / first["samples/s"] if row["samples/s"] else None
    publish("Training step", rows, options.json, ratio_is_to="the first row that ran")


def measured(case: Case) -> dict[str, Any]:
    """A case's row; where it cannot be run, the row says why."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(_command(case, folder), capture_output=True, text=True, check=False)
        result = Path(folder) / "row.json"
        found = json.loads(result.read_text()) if result.exists() else None
    if found is None:
        last = done.stderr.strip().splitlines()[-1:] or ["it ended without a word"]
        found = {"note": f"failed: {last[0]}"}
    figures = dict.fromkeys(("samples/s", "s/step", "MFU", "memory MiB", "ratio"))
    return {"case": _name(case), **figures, **found}


def _name(case: Case) -> str:
    parts = [f"{case.model} {case.views} x {case.image_px} px", f"{case.batch} at once"]
    parts += [f"{case.processes} processes, {case.parallel}"] * (case.processes > 1)
    parts += ["checkpointed"] * case.checkpoint_activations + ["compiled"] * case.compile
    return ", ".join(parts)


def _command(case: Case, folder: str) -> list[str]:
    own = ["-m", "benchmarks.train_step", "--case", json.dumps(asdict(case)), "--folder", folder]
    if case.processes == 1:
        return [sys.executable, *own]
    many = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(case.processes)]
    return [sys.executable, *many, *own]


def _measure(case: Case, folder: Path) -> None:
    """In a process of the case: train, and leave the row in the folder."""
    from sage_core.errors import SageError
    from sage_core.training.failures import is_out_of_memory
    from sage_core.training.ranks import joined

    # One thread each: what two processes gain over one is then not what one had gained from two threads.
    with joined(case.device, 1) as ranks:
        try:
            row = _trained(case, folder, ranks)
        except (SageError, RuntimeError) as error:
            if not isinstance(error, SageError) and not is_out_of_memory(error):
                raise
            row = {"note": f"not available: {str(error).splitlines()[0]}"}
        if ranks.first:
            (folder / "row.json").write_text(json.dumps(row))


def _trained(case: Case, folder: Path, ranks: Any) -> dict[str, Any]:
    from sage_core.models import build_model
    from sage_core.splatting import missing_backend
    from sage_core.training.cost import peak_flops
    from sage_core.training.engine import Trainer
    from sage_core.training.journal import read_metrics
    from sage_core.training.objective import TERMS, Objective
    from sage_core.training.precision import half
    from sage_core.training.preparation import prepared
    from sage_core.training.step import Parts

    missing = missing_backend("gsplat" if case.device == "cuda" else "cpu")
    adapt = _settings(case, renders=not missing)
    ready = prepared(build_model(case.model, seed=0), adapt, ranks, seed=0)
    sample = random_sample(case.views, case.image_px)
    parts = Parts(
        ready.model,
        ready.groups,
        lambda _id: sample,
        Objective(adapt, ranks.device),
        TERMS,
        flops=ready.flops(adapt),
    )
    peak = peak_flops(ranks.device, half=half(adapt, ranks.device), given_tflops=None)
    Trainer(parts, _routine(case, peak), folder, ranks).run()
    if not ranks.first:
        return {}
    lines = read_metrics(folder / "metrics.jsonl")[WARM_UP:]
    seconds = statistics.median(line["seconds"] for line in lines)
    mfus = [line["mfu"] for line in lines if line["mfu"] is not None]
    return {
        "samples/s": case.batch * case.processes / seconds,
        "s/step": seconds,
        "MFU": statistics.median(mfus) if mfus else None,
        "memory MiB": max(line["memory_mb"] for line in lines),
        "note": f"without rendering: {missing}" if missing else "",
    }


def _settings(case: Case, *, renders: bool) -> Any:
    from sage_core.config.adapt import AdaptConfig

    return AdaptConfig.model_validate(
        {
            "image_px": case.image_px,
            "frozen": FROZEN.get(case.model, ["gaussian_head"]),
            "sampling": {"n_context": case.views, "n_targets": 2},
            "loss": {"perceptual": "none", "rendering_weight": float(renders)},
            "checkpoint_activations": case.checkpoint_activations,
            "compile": case.compile,
            "parallel": case.parallel,
        }
    )


def _routine(case: Case, peak: float | None) -> Any:
    from sage_core.training.optimisation import LearningRate
    from sage_core.training.order import SampleOrder
    from sage_core.training.routine import Routine

    steps = WARM_UP + case.steps
    return Routine(
        order=SampleOrder(per_epoch=10_000, ratio=None, batch=case.batch * case.processes),
        rate=LearningRate(peak=1e-6, last=1e-6, warmup=0, steps=steps),
        seed=0,
        fingerprint="benchmark",
        micro_batch=case.batch,
        checkpoint_minutes=0,
        peak_flops=peak,
    )


def random_sample(views: int, side: int, targets: int = 2, anchors: int = 500) -> Any:
    """Noise before cameras in a row, with anchors in front of them."""
    import torch

    from sage_core.losses import SparseAnchors
    from sage_core.training.samples import VideoSample

    generator = torch.Generator().manual_seed(0)
    total = views + targets
    poses = torch.eye(3, 4).repeat(total, 1, 1)
    poses[:, 0, 3] = -0.1 * torch.arange(total)
    focal, middle = float(side), side / 2
    intrinsics = torch.tensor([[focal, 0, middle], [0, focal, middle], [0, 0, 1]])
    depth = 2 + torch.rand(1, views, anchors, 1, generator=generator)
    xy = side * torch.rand(1, views, anchors, 2, generator=generator)
    rays = torch.cat(((xy - middle) / focal, torch.ones_like(depth)), dim=-1)
    return VideoSample(
        name="noise",
        images=torch.rand(total, 3, side, side, generator=generator),
        context=views,
        intrinsics=intrinsics.repeat(total, 1, 1),
        cam_from_reference=poses,
        anchors=SparseAnchors(xy, rays * depth, torch.ones(1, views, anchors)),
        render_order=tuple(range(views)),
    )


def _cases(options: Any) -> list[Case]:
    import torch

    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    chosen = CPU if device == "cpu" else CUDA
    changes: dict[str, Any] = {"steps": options.steps, "compile": options.compile}
    if options.processes:
        changes["processes"] = options.processes
    if options.batch:
        changes["batch"] = options.batch
    return [Case(**{**asdict(case), **changes}) for case in chosen]


def _options(arguments: list[str] | None) -> Any:
    made = parser(__doc__)
    made.add_argument(
        "--device", choices=("cpu", "cuda"), help="by default CUDA where there is one"
    )
    made.add_argument("--steps", type=int, default=5, help="timed steps of each case")
    made.add_argument("--batch", type=int, help="samples a process takes at once, for all cases")
    made.add_argument("--processes", type=int, help="processes of each case")
    made.add_argument("--compile", action="store_true", help="compile the trunk's blocks")
    made.add_argument("--case", help="one case as JSON: for the processes that this one starts")
    made.add_argument("--folder", type=Path, default=Path(os.devnull), help="that case's folder")
    return made.parse_args(arguments)


if __name__ == "__main__":
    main()
