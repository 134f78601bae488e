"""The gate of reconstruct on clips damaged in known ways: which wrong trajectories it lets pass.

python -m benchmarks.gate --data ../shared/data --keep FOLDER --rooms 40 --json gate.json --picture gate.svg

Real videos and procedural rooms are cut into clips, each clip is damaged in each way, mapped, and every part
of it judged: with the gate open, for what each figure tells, and by the gate's defaults. A trajectory is
wrong with more than 2 % of its extent (RMSE of centres after Sim3) or 3 degrees (median, after the common
rotation) from recipe `paper` on the sound clip, or from the truth of a room. Sources fall into two halves:
thresholds are chosen on a, b is for the report, and `--fresh` rooms, half c, for a report that nothing was
ever decided by. With `--keep`, what was mapped is not mapped again;
`--cached` reports on what is there and maps nothing.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.damages import DAMAGES, Shown
from benchmarks.gate_sources import HALVES, Source, sources
from benchmarks.gate_trials import OPEN, Judged, Mapped, judge, judged_again, mapped
from benchmarks.table import parser, publish
from sage_core.config.reconstruct import GateConfig, ReconstructConfig

NATURAL = {"none", "brisk", "backwards", "cropped evenly"}
"""What comes in for the most part: sound footage, at one pace or another."""
TELLING = {
    "split_half_percent": -1, "split_half_deg": -1, "split_half_share": 1, "focal_spread": -1, "zoom": -1,
    "principal_offset": -1, "focal_sigma": -1, "corner_distortion": -1, "points_median": 1,
    "triangulation_deg": 1, "track_length": 1, "reprojection_px": -1, "weakest_link": 1, "largest_jump": -1,
    "registered_share": 1, "verified_share": 1, "inlier_share": 1, "planar_share": -1,
    "rotation_residual_px": 1, "focal_ratio": -1,
}  # fmt: skip
"""Figures, and the side on which the good ones ought to lie: 1 above, -1 below."""
DRAWN = ("split_half_percent", "zoom", "principal_offset", "focal_sigma", "corner_distortion",
         "triangulation_deg", "reprojection_px", "weakest_link")  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """One damaged clip: its parts with the gate open, and by the gate's defaults."""

    source: str
    half: str
    stretch: str
    damage: str
    open: list[Judged]
    closed: list[Judged]
    cpu_s: float
    halves_cpu_s: float


def trials(source: Source, folder: Path, *, cached: bool) -> Iterator[Trial]:
    """Every damage on every clip of a source."""
    images = None
    for stretch, places in source.stretches.items():
        for damage in source.damages:
            where = folder / source.name / f"{stretch} {damage}"
            pictures = None
            if not (where / "mapped.json").is_file():
                if cached:
                    continue
                images = images or source.images()
                sound = [images[place] for place in places]
                pictures = DAMAGES[damage](sound, source.focal * max(sound[0].shape[:2]), 0)[0]
            one = mapped(pictures, where, ordered=source.ordered)
            yield _judged(source, stretch, damage, one)


def _judged(source: Source, stretch: str, damage: str, one: Mapped) -> Trial:
    """What this gate says of a clip, kept beside what was mapped of it."""
    settings = ReconstructConfig().model_dump_json().encode()
    record = one.bench.folder / f"judged_{hashlib.sha256(settings).hexdigest()[:8]}.json"
    if not record.is_file():
        record.write_text(json.dumps(asdict(_trial(source, stretch, damage, one))))
    kept = json.loads(record.read_text())
    for name in ("open", "closed"):
        kept[name] = [Judged(**part) for part in kept[name]]
    return Trial(**kept)


def _trial(source: Source, stretch: str, damage: str, one: Mapped) -> Trial:
    places = source.stretches[stretch]
    wanted = {
        at: shown.pose(source.poses[places[shown.frame]])
        for at, shown in enumerate(_shown(damage, len(places)))
        if places[shown.frame] in source.poses
    }
    freely = judge(one, wanted, OPEN, ordered=source.ordered)
    closed = judged_again(freely, GateConfig())
    if closed is None:
        closed = judge(one, wanted, GateConfig(), ordered=source.ordered)
    parts = (freely, closed)
    return Trial(
        source.name, source.half, stretch, damage, *parts, one.cpu_s, one.halves_cpu_s
    )  # fmt: skip


def _shown(damage: str, count: int) -> list[Shown]:
    """Which frames a damaged clip shows does not depend on its pictures."""
    blank = [np.zeros((60, 80, 3), np.uint8)] * count
    return DAMAGES[damage](blank, 80.0, 0)[1]


def wilson(hits: int, count: int) -> str:
    """A share with its 95 % interval (Wilson 1927)."""
    if not count:
        return "none"
    z, share = 1.96, hits / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * np.sqrt(share * (1 - share) / count + z * z / (4 * count**2))
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return f"{hits}/{count} = {share:.3f} ({low:.3f} to {high:.3f})"


def area(good: Sequence[float], wrong: Sequence[float]) -> float | None:
    """Share of pairs in which the good one lies above."""
    if not good or not wrong:
        return None
    a, b = np.asarray(good)[:, None], np.asarray(wrong)[None]
    return float((a > b).mean() + 0.5 * (a == b).mean())


def mix_row(name: str, chosen: Sequence[Trial]) -> dict[str, Any]:
    """One line of the table: accepted parts, and what became of clips with a right part of half or more.

    A clip is good if with the gate open one of its parts that hold half of it or more is right; it is kept
    if such a part is accepted and right.
    """
    accepted = [part for trial in chosen for part in trial.closed if part.accepted]
    good = [trial for trial in chosen if any(_good(part) for part in trial.open)]
    kept = [trial for trial in good if any(p.accepted and _good(p) for p in trial.closed)]
    return {
        "clips": name,
        "count": len(chosen),
        "parts accepted": len(accepted),
        "wrong among them": wilson(sum(part.wrong for part in accepted), len(accepted)),
        "good kept": wilson(len(kept), len(good)),
    }


def mixes(done: Sequence[Trial]) -> dict[str, list[Trial]]:
    """The trials of the table's lines."""
    found = {}
    for half in ("a", "b", "c"):
        own = [trial for trial in done if trial.half == half]
        found[f"{half}, all"] = own
        found[f"{half}, natural"] = [trial for trial in own if trial.damage in NATURAL]
        if half != "c":
            found[f"{half}, real video"] = [trial for trial in own if trial.source in HALVES]
    return found


def _good(part: Judged) -> bool:
    return not part.wrong and 2 * part.key_frames >= part.of


def values(done: Sequence[Trial], figure: str, *, wrong: bool) -> list[float]:
    """A figure over the parts mapped, good side up; what could not be measured lies on the wrong side."""
    side, found = TELLING[figure], []
    for part in (part for trial in done for part in trial.open):
        if part.percent is None or part.wrong is not wrong:
            continue
        value = part.figures.get(figure)
        found.append(-np.inf if value is None else side * abs(float(value)))
    return found


def figure_rows(done: Sequence[Trial]) -> list[dict[str, Any]]:
    """The area under the ROC curve of every figure, over parts of which something was mapped."""
    rows = []
    for figure in TELLING:
        good, wrong = (values(done, figure, wrong=is_wrong) for is_wrong in (False, True))
        row = {"figure": figure, "area": area(good, wrong)}
        rows.append(row | {"good": _spread(good), "wrong": _spread(wrong)})
    return rows


def _spread(found: Sequence[float]) -> str:
    known = np.abs([value for value in found if np.isfinite(value)])
    if not len(known):
        return "none"
    low, middle, high = np.quantile(known, (0.05, 0.5, 0.95))
    return f"{low:.3g} … {middle:.3g} … {high:.3g} ({len(known)}/{len(found)})"


def draw(done: Sequence[Trial], path: Path) -> None:
    """ROC curves: share of the wrong parts let through against share of the good ones kept."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(5.2, 4.2))
    for name in DRAWN:
        good, wrong = (np.array(values(done, name, wrong=is_wrong)) for is_wrong in (False, True))
        limits = np.unique(np.concatenate([good, wrong]))[::-1]
        kept = [0.0, *((good >= limit).mean() for limit in limits), 1.0]
        passed = [0.0, *((wrong >= limit).mean() for limit in limits), 1.0]
        axes.plot(passed, kept, label=f"{name} ({area(good.tolist(), wrong.tolist()):.2f})")
    axes.plot([0, 1], [0, 1], color="0.8", linewidth=1)
    axes.set_xlabel("wrong parts let through")
    axes.set_ylabel("good parts kept")
    axes.legend(fontsize=7, loc="lower right")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)


def rows(done: Sequence[Trial]) -> list[dict[str, Any]]:
    """Every part by the gate's defaults."""
    return [
        {
            "source": t.source, "half": t.half, "stretch": t.stretch, "damage": t.damage,
            "keys": f"{part.key_frames}/{part.of}", "off %": part.percent, "off deg": part.deg,
            "wrong": part.wrong, "accepted": part.accepted, "why": part.why,
        }
        for t in done
        for part in t.closed
    ]  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("--data", type=Path, help="folder with videos/, images/, rgbd/")
    options.add_argument("--keep", type=Path, help="folder for references and what was mapped")
    options.add_argument("--rooms", type=int, default=2)
    options.add_argument("--fresh", type=int, default=0, help="rooms of all kinds, half c")
    options.add_argument("--cached", action="store_true", help="report on what was mapped before")
    options.add_argument("--picture", type=Path, help="where the ROC curves go")
    given = options.parse_args(arguments)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as scratch:
        keep = given.keep or Path(scratch)
        done = [
            trial
            for source in sources(given.data, keep / "ref", given.rooms, given.fresh)
            for trial in trials(source, keep / "trials", cached=given.cached)
        ]
    publish("Parts", rows(done), None)
    publish("Figures", figure_rows(done), None)
    table = [mix_row(name, chosen) for name, chosen in mixes(done).items() if chosen]
    cpu = [(t.cpu_s, t.halves_cpu_s) for t in done if t.open]
    publish("Gate", table, given.json, halves_over_mapping=_ratio(cpu))
    if given.json:
        facts = {"parts": rows(done), "figures": figure_rows(done)}
        kept = json.loads(given.json.read_text())
        given.json.write_text(json.dumps(kept | facts, indent=1) + "\n")
    if given.picture:
        draw(done, given.picture)


def _ratio(cpu: Sequence[tuple[float, float]]) -> float:
    return sum(halves for _, halves in cpu) / max(1e-9, sum(first for first, _ in cpu))


if __name__ == "__main__":
    main()
