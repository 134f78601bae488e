"""The gate of reconstruct on clips damaged in known ways: which wrong trajectories it lets pass.

python -m benchmarks.gate --data ../shared/data --keep FOLDER --json gate.json

Each source is cut into stretches, each stretch is damaged in each way and reconstructed with the gate open.
A trajectory is wrong with more than 2 % of its extent (RMSE of centres after Sim3) or 3 degrees (median,
after the common rotation) from recipe `paper` on the sound clip, or from the truth of a procedural room.
Sources fall into two halves; figures' thresholds were chosen on other occasions, so both halves report:
wrong ones among those accepted, good ones kept, each with Wilson's 95 % interval, and the area under
the ROC curve of each figure (1: all good ones on one side of all wrong ones; 0.5: it tells nothing).
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.damages import DAMAGES
from benchmarks.mining import difference, mined
from benchmarks.mining_cases import Case, plan, real_cases, room_case
from benchmarks.table import parser, publish
from sage_core.config.reconstruct import GateConfig, ReconstructConfig
from sage_core.geometry import Camera
from sage_core.sfm import (
    ModelFigures,
    PairFigures,
    PosedFrame,
    SparseModel,
    judge_model,
    judge_pairs,
    load_clip_model,
    reconstruct,
)
from sage_core.types import Verdict
from sage_core.video.frames import read_frames

HALVES = {"kitchen": "a", "café": "a", "clinic rooms": "b", "Colosseum": "b", "room": "b"}
"""By source. The clinic walk is left out: recipe `paper`, its only reference, is wrong on it."""
STRETCH = 24
WRONG_PERCENT, WRONG_DEG = 2.0, 3.0
_OPEN = GateConfig(
    min_registered_share=0,
    min_points_median=0,
    min_track_length=2,
    max_reprojection_px=1e6,
    min_triangulation_deg=0,
    min_focal_ratio=1e-9,
    max_focal_ratio=1e9,
    min_corner_distortion=-1e9,
    max_corner_distortion=1e9,
    max_focal_sigma=1e9,
    max_planar_share=1,
    min_inlier_share=0,
    min_verified_share=0,
)
_TELLING = (
    "registered_share",
    "points_median",
    "track_length",
    "reprojection_px",
    "triangulation_deg",
    "focal_ratio",
    "focal_sigma",
    "corner_distortion",
    "planar_share",
    "inlier_share",
    "verified_share",
    "weakest_link",
    "largest_jump",
)


@dataclass(frozen=True)
class Trial:
    """One damaged stretch: what it measured, whether the gate keeps it, and how far off its path is.

    ``percent`` and ``deg`` are None where nothing was mapped.
    """

    source: str
    damage: str
    accepted: bool
    why: str
    percent: float | None
    deg: float | None
    figures: dict[str, Any]

    @property
    def wrong(self) -> bool:
        return self.percent is None or self.percent > WRONG_PERCENT or (self.deg or 0) > WRONG_DEG


def trials(case: Case, reference: SparseModel, folder: Path, frames: int) -> list[Trial]:
    """Every damage on every stretch of one source."""
    keys = case.clip.key_frames
    images = [np.asarray(f.image) for f in read_frames(case.media, keys, 640)]
    done = []
    for start in range(0, len(keys) - frames + 1, frames):
        stretch, sound = images[start : start + frames], keys[start : start + frames]
        for name, damage in DAMAGES.items():
            pictures, shown = damage(stretch, start)
            source = [sound[i] for i in shown]
            done.append(
                _trial(case.name, name, pictures, source, reference, folder / f"{start}_{name}")
            )
    return done


def _trial(
    source: str,
    damage: str,
    pictures: Sequence[Any],
    shown: Sequence[int],
    reference: SparseModel,
    folder: Path,
) -> Trial:
    record = folder / "trial.json"
    if record.is_file():
        return _rejudged(Trial(**json.loads(record.read_text())))
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "media").mkdir(parents=True)
    for at, picture in enumerate(pictures):
        cv2.imwrite(str(folder / "media" / f"{at:04d}.png"), picture[..., ::-1])
    clip = plan("damaged", range(len(pictures)))
    result = reconstruct(clip, folder / "media", folder / "model", ReconstructConfig(gate=_OPEN), 1)
    figures = {name: figure.value for name, figure in result.judgement.figures.items()}
    off: dict[str, float] = {}
    if result.judgement.verdict is Verdict.ACCEPTED:
        off = _off(load_clip_model(folder / "model"), shown, reference)
    trial = Trial(
        source, damage, False, "", off.get("from paper %"), off.get("from paper deg"), figures
    )
    record.write_text(json.dumps(vars(trial)))
    shutil.rmtree(folder / "media")
    return _rejudged(trial)


def _rejudged(trial: Trial) -> Trial:
    """Figures are kept, verdicts are not: thresholds may have changed since."""
    judgement = judged(trial.figures, mapped="points" in trial.figures)
    return replace(trial, accepted=judgement.verdict is Verdict.ACCEPTED, why=judgement.message)


def judged(figures: dict[str, Any], *, mapped: bool) -> Any:
    """The verdict of today's gate on stored figures."""
    pairs = PairFigures(**{name: figures.get(name) for name in PairFigures.__dataclass_fields__})
    before = judge_pairs(pairs, GateConfig())
    if before.verdict is not Verdict.ACCEPTED:
        return before
    if not mapped:
        return judge_model(pairs, None, GateConfig())
    model = ModelFigures(**{name: figures.get(name) for name in ModelFigures.__dataclass_fields__})
    return judge_model(pairs, model, GateConfig())


def _off(model: SparseModel, shown: Sequence[int], reference: SparseModel) -> dict[str, float]:
    """Distance of a damaged clip's cameras from those of the frames that they show."""
    known = {frame.frame: frame.cam_from_world for frame in reference.frames}
    seen = [frame for frame in model.frames if shown[frame.frame] in known]
    if len(seen) < 5:
        return {}
    wanted = {frame.frame: known[shown[frame.frame]] for frame in seen}
    return difference(_posed({f.frame: f.cam_from_world for f in seen}), _posed(wanted))


def _posed(cam_from_world: dict[int, Any]) -> SparseModel:
    """Cameras without points."""
    none = np.empty(0)
    camera = Camera(1, 1, 1, 1, 0, 0)
    frames = [
        PosedFrame(frame, True, pose, camera, np.empty((0, 2)), np.empty(0, np.int64))
        for frame, pose in cam_from_world.items()
    ]
    return SparseModel(
        frames, np.empty((0, 3)), np.empty((0, 3), np.uint8), none, np.empty(0, np.int64)
    )


def wilson(hits: int, count: int) -> str:
    """A share with its 95 % interval (Wilson 1927)."""
    if not count:
        return "none"
    z, share = 1.96, hits / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * np.sqrt(share * (1 - share) / count + z * z / (4 * count**2))
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return f"{hits}/{count} = {share:.2f} ({low:.2f} to {high:.2f})"


def area(good: Sequence[float], wrong: Sequence[float]) -> float | None:
    """Share of pairs in which the good one lies on the better side, whichever side that is."""
    if not good or not wrong:
        return None
    a, b = np.asarray(good)[:, None], np.asarray(wrong)[None]
    share = float((a > b).mean() + 0.5 * (a == b).mean())
    return max(share, 1 - share)


def half_row(half: str, chosen: Sequence[Trial]) -> dict[str, Any]:
    """One line of the table."""
    accepted = [trial for trial in chosen if trial.accepted]
    good = [trial for trial in chosen if not trial.wrong]
    return {
        "half": half,
        "clips": len(chosen),
        "wrong among accepted": wilson(sum(t.wrong for t in accepted), len(accepted)),
        "good kept": wilson(sum(t.accepted for t in good), len(good)),
    }


def figure_rows(chosen: Sequence[Trial]) -> list[dict[str, Any]]:
    """The area under the ROC curve of every figure, over clips of which something was mapped."""
    mapped = [trial for trial in chosen if trial.percent is not None]
    rows = []
    for name in _TELLING:
        known = [t for t in mapped if t.figures.get(name) is not None]
        good = [float(t.figures[name]) for t in known if not t.wrong]
        wrong = [float(t.figures[name]) for t in known if t.wrong]
        spread = {"good, worst to best": _range(good), "wrong": _range(wrong)}
        rows.append({"figure": name, "area": area(good, wrong), **spread})
    return rows


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.3g} to {max(values):.3g}" if values else "none"


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument(
        "--data", type=Path, help="folder with videos/, negatives/, images/, rgbd/"
    )
    options.add_argument(
        "--keep", type=Path, help="folder of the mining benchmark's models, and for these"
    )
    options.add_argument("--frames", type=int, default=STRETCH, help="in a stretch")
    given = options.parse_args(arguments)
    done: list[Trial] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.keep or Path(scratch)
        room = room_case(Path(scratch), given.frames)
        for case in [*(real_cases(given.data) if given.data else []), room]:
            if case.name in HALVES:
                done += trials(
                    case, _reference(case, folder), folder / case.name / "damaged", given.frames
                )
    each = [
        {
            "source": t.source, "damage": t.damage, "off %": t.percent, "off deg": t.deg, "wrong": t.wrong,
            "accepted": t.accepted, "why": t.why,
        }
        for t in done
    ]  # fmt: skip
    publish("Damaged clips", each, None)
    publish("Figures", figure_rows(done), None)
    halves = [half_row(h, [t for t in done if HALVES[t.source] == h]) for h in ("a", "b")]
    facts = {"trials": each, "figures": figure_rows(done)}
    publish("Gate", [*halves, half_row("both", done)], given.json)
    if given.json:
        given.json.write_text(
            json.dumps(json.loads(given.json.read_text()) | facts, indent=1) + "\n"
        )


def _reference(case: Case, folder: Path) -> SparseModel:
    if case.name == "room" and case.truth is not None:
        return _posed(dict(case.truth.cam_from_world))
    paper = mined(case, "paper", folder / case.name / "paper")
    if paper.folder is None:
        raise SystemExit(f"recipe paper rejects {case.name} ({paper.message}): it is no reference")
    return load_clip_model(Path(paper.folder))


if __name__ == "__main__":
    main()
