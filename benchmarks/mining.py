"""Mining: what a clip costs by recipe `fast` and by recipe `paper`, and what it gives.

python -m benchmarks.mining --data ../shared/data --keep FOLDER --json mining.json

Both recipes see the same frames, `paper` and at once after it `fast`, on one thread, in a child process as in
production and at its priority, with the gate as it is; CPU seconds are those of the whole child. The kitchen
has depth and poses to compare with; `fast` is compared with `paper` everywhere: centres after Sim3, as a
share of the path's extent, and rotations after the common one. With `--keep FOLDER`, models stay there: a run
that was stopped goes on with the clip that it was at, both recipes anew. `--only` names clips. The table is
printed as docs/mining.md has it, too, with the machine's load before each clip. Without `--data`, one
procedural room is filmed instead, with its own truth.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.mining_cases import Case, Truth, real_cases, room_case
from benchmarks.table import parser, publish
from sage_core import sandbox
from sage_core.config.reconstruct import ReconstructConfig
from sage_core.geometry import camera_centres, rotation_angle_deg, umeyama
from sage_core.sfm import AnchorFilter, SparseModel, load_clip_model, model_anchors, reconstruct
from sage_core.sfm.trajectories import common_rotation

SEED = 1
TARGETS = {
    "CPU_ratio_geometric_mean": 8,
    "CPU_ratio_each": 5,
    "fast_from_paper_percent_of_extent": 0.3,
    "ATE_ratio": 1.05,
    "depth_ratio": 1.1,
    "anchors": 150,
}
_EVERY_POINT = AnchorFilter(min_track=2, min_angle_deg=0, max_error_px=np.inf, max_split=np.inf)
_PARTS = ("decode", "features", "matching", "mapping", "writing")


@dataclass(frozen=True)
class Outcome:
    """One recipe on one clip: the verdict, what it cost, and where the model is (None if rejected)."""

    verdict: str
    message: str
    recipe: str
    figures: dict[str, Any]
    cpu_s: dict[str, float]
    total_cpu_s: float
    wall_s: float
    peak_mb: float
    folder: str | None


def mined(case: Case, recipe: str, folder: Path) -> Outcome:
    """Reconstruct a case, or read what was made of it before."""
    record = folder / "outcome.json"
    if record.is_file():
        return Outcome(**json.loads(record.read_text()))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    started = time.perf_counter()
    with sandbox.metered() as usage:
        result = reconstruct(
            case.clip,
            case.media,
            folder / "model",
            ReconstructConfig(recipe=recipe, max_cpu_s=3000),
            SEED,
        )
    judgement = result.judgement
    kept = judgement.verdict.value == "accepted"
    outcome = Outcome(
        judgement.verdict.value,
        judgement.message,
        result.recipe,
        {name: figure.value for name, figure in judgement.figures.items()},
        result.cpu_s,
        usage.cpu_s,
        time.perf_counter() - started,
        usage.peak_mb,
        str(folder / "model") if kept else None,
    )
    record.write_text(json.dumps(asdict(outcome)))
    return outcome


def row(case: Case, recipe: str, outcome: Outcome, reference: SparseModel | None) -> dict[str, Any]:
    """One line of the table; ``reference`` is the other recipe's model."""
    parts = {f"{part} s": outcome.cpu_s.get(part) for part in _PARTS}
    line: dict[str, Any] = {"clip": case.name, "recipe": outcome.recipe, **parts}
    line |= {"CPU s": outcome.total_cpu_s, "wall s": outcome.wall_s, "peak MiB": outcome.peak_mb}
    line["verdict"] = outcome.verdict
    line["why"] = outcome.message
    line["registered"] = outcome.figures.get("registered_share")
    if outcome.folder is None:
        return line
    model = load_clip_model(Path(outcome.folder))
    line |= anchors_of(model)
    if reference is not None:
        line |= difference(model, reference)
    if case.truth is not None:
        line |= against(model, case.truth)
    return line


def anchors_of(model: SparseModel) -> dict[str, float]:
    """Median number of anchors a frame, filtered as assemble does."""
    counts = [len(anchors) for anchors in model_anchors(model).values()]
    return {"anchors": float(np.median(counts))}


def difference(model: SparseModel, reference: SparseModel) -> dict[str, float]:
    """How far the cameras of two models of the same frames lie apart."""
    a, b = _common(model, reference)
    centres, wanted = camera_centres(a), camera_centres(b)
    miss = np.linalg.norm(umeyama(wanted, centres).points(centres) - wanted, axis=1)
    extent = float(np.linalg.norm(np.ptp(wanted, axis=0)))
    turn = rotation_angle_deg(a[:, :, :3] @ common_rotation(a, b) @ np.swapaxes(b[:, :, :3], 1, 2))
    return {
        "from paper %": 100 * _rms(miss) / extent,
        "median %": 100 * float(np.median(miss)) / extent,
        "from paper deg": float(np.median(turn)),
    }


def _common(model: SparseModel, reference: SparseModel) -> tuple[Any, Any]:
    ours = {frame.frame: frame.cam_from_world for frame in model.frames}
    theirs = {frame.frame: frame.cam_from_world for frame in reference.frames}
    both = sorted(ours.keys() & theirs.keys())
    return np.stack([ours[f] for f in both]), np.stack([theirs[f] for f in both])


def _rms(values: NDArray[np.float64]) -> float:
    return float(np.sqrt((values**2).mean()))


def against(model: SparseModel, truth: Truth) -> dict[str, float]:
    """Poses and sparse depth against what is true, in centimetres and as mean relative error."""
    frames = [frame for frame in model.frames if frame.frame in truth.cam_from_world]
    found = np.stack([frame.cam_from_world for frame in frames])
    wanted = camera_centres(np.stack([truth.cam_from_world[frame.frame] for frame in frames]))
    only = replace(model, frames=frames)
    return {
        "ATE cm": 100 * trajectory_error(found, wanted),
        "AbsRel all": depth_error(only, truth, _EVERY_POINT),
        "AbsRel anchors": depth_error(only, truth, AnchorFilter()),
    }


def trajectory_error(cam_from_world: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    """RMSE of the centres after Sim3 and the one offset [3] that the truth's camera has to ours: the poses of
    7-Scenes are those of its depth camera. Both are fitted in turns."""
    world_from_cam, offset = np.swapaxes(cam_from_world[:, :, :3], 1, 2), np.zeros(3)
    centres = camera_centres(cam_from_world)
    for _ in range(50):
        metric = umeyama(truth, centres + world_from_cam @ offset)
        turned = metric.scale * metric.rotation @ world_from_cam
        left = truth - metric.points(centres)
        offset = np.linalg.lstsq(turned.reshape(-1, 3), left.ravel(), rcond=None)[0]
    return _rms(np.linalg.norm(left - turned @ offset, axis=1))


def depth_error(model: SparseModel, truth: Truth, wanted: AnchorFilter) -> float:
    """Mean of |depth - true| / true over all anchors, after the one scale that fits their median."""
    found, true = [], []
    anchors = model_anchors(model, wanted)
    for frame in model.frames:
        depth = truth.depth(frame.frame)
        one = anchors[frame.frame]
        size = (frame.camera.width, frame.camera.height)
        at = np.floor(one.xy * (np.array(depth.shape[::-1]) / size)).astype(int)
        known = depth[at[:, 1], at[:, 0]]
        found.append(one.depth[known > 0])
        true.append(known[known > 0])
    ours, theirs = np.concatenate(found), np.concatenate(true)
    return float((np.abs(ours * np.median(theirs / ours) - theirs) / theirs).mean())


def totals(pairs: Sequence[tuple[Outcome, Outcome]]) -> list[dict[str, Any]]:
    """One line a recipe over all clips."""
    lines = []
    for recipe, outcomes in zip(("fast", "paper"), zip(*pairs, strict=True), strict=True):
        parts = {f"{part} s": sum(o.cpu_s.get(part, 0.0) for o in outcomes) for part in _PARTS}
        line: dict[str, Any] = {"clip": "all", "recipe": recipe, **parts}
        line["CPU s"] = sum(o.total_cpu_s for o in outcomes)
        line["wall s"] = sum(o.wall_s for o in outcomes)
        line["peak MiB"] = max(o.peak_mb for o in outcomes)
        lines.append(line)
    return lines


def docs_table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as docs/mining.md has them."""
    head = (
        "| clip | recipe | CPU s: decode, features, matching, mapping, writing; all | wall s | MiB "
        "| registered | anchors | ATE cm | AbsRel all / anchors | off % / deg | CPU ratio |"
    )
    return "\n".join([head, "| --- " * 11 + "|", *(_docs_row(one) for one in rows)])


def _docs_row(one: dict[str, Any]) -> str:
    parts = " + ".join(f"{one[f'{part} s'] or 0:.1f}" for part in _PARTS)
    cells = [
        f"{one['clip']} | {one['recipe']} | {parts}; {one['CPU s']:.1f}",
        f"{one['wall s']:.0f} | {one['peak MiB']:.0f}",
        _said(one, "{:.2f}", "registered"),
        _said(one, "{:.0f}", "anchors"),
        _said(one, "{:.2f}", "ATE cm"),
        _said(one, "{:.4f} / {:.4f}", "AbsRel all", "AbsRel anchors"),
        _said(one, "{:.2f} / {:.2f}", "from paper %", "from paper deg"),
        _said(one, "{:.1f}", "ratio"),
    ]
    return f"| {' | '.join(cells)} |"


def _said(one: dict[str, Any], words: str, *names: str) -> str:
    values = [one.get(name) for name in names]
    return "" if None in values else words.format(*values)


def gate_is_the_same(pairs: Sequence[tuple[Outcome, Outcome]]) -> bool:
    """Whether both recipes got the same verdict on each clip."""
    return all(fast.verdict == paper.verdict for fast, paper in pairs)


def _back_to_back(case: Case, folder: Path) -> tuple[Outcome, Outcome]:
    """`paper` and at once `fast`: both from the folder, or both anew."""
    folders = [folder / recipe for recipe in ("paper", "fast")]
    if not all((one / "outcome.json").is_file() for one in folders):
        for one in folders:
            shutil.rmtree(one, ignore_errors=True)
        print(f"{case.name}: load {os.getloadavg()[0]:.1f}", flush=True)
    paper, fast = (mined(case, one.name, one) for one in folders)
    return paper, fast


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument(
        "--data", type=Path, help="folder with videos/, negatives/, images/, rgbd/"
    )
    options.add_argument(
        "--keep", type=Path, help="folder for models; those in it are not made again"
    )
    options.add_argument("--only", nargs="+", metavar="CLIP", help="only these")
    options.add_argument("--frames", type=int, default=12, help="of the procedural room")
    given = options.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.keep or Path(scratch)
        cases = real_cases(given.data) if given.data else [room_case(Path(scratch), given.frames)]
        cases = [case for case in cases if not given.only or case.name in given.only]
        rows, pairs = [], []
        for case in cases:
            paper, fast = _back_to_back(case, folder / case.name)
            reference = load_clip_model(Path(paper.folder)) if paper.folder else None
            rows.append(row(case, "paper", paper, None))
            ratio = paper.total_cpu_s / fast.total_cpu_s
            rows.append({**row(case, "fast", fast, reference), "ratio": ratio})
            pairs.append((fast, paper))
    ratios = [paper.total_cpu_s / fast.total_cpu_s for fast, paper in pairs]
    rows += totals(pairs)
    print(docs_table(rows))
    publish(
        "Mining",
        rows,
        given.json,
        CPU_ratio_geometric_mean=float(np.exp(np.mean(np.log(ratios)))),
        CPU_ratio_smallest=min(ratios),
        same_verdicts=gate_is_the_same(pairs),
        targets=", ".join(f"{name.replace('_', ' ')} {value}" for name, value in TARGETS.items()),
    )


if __name__ == "__main__":
    main()
