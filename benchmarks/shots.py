"""Shots: recall and precision of cuts, fades, dissolves and wipes at known frames.

python -m benchmarks.shots --data ../shared/data --half b --json shots.json

Films are put together from takes of real footage (of rendered rooms where there is none), measured as the
miner does, and searched for transitions. A transition is found if it lies where one was made: a cut
within two frames, the ends of a gradual one within ten. Each that is found anywhere else is false, also
in films that only look as if they had some. Thresholds were chosen on half a; half b is from other videos.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.edits import (
    DISTURBANCES,
    FPS,
    FRAMES,
    Edit,
    Take,
    disturbed,
    edited,
    real_takes,
    room_takes,
    thinned,
)
from benchmarks.table import parser, publish
from sage_core.config.curate import CurateConfig
from sage_core.mining import find_transitions, measure

CUT_FRAMES, GRADUAL_FRAMES = 2, 10
TARGETS = {"cut": 0.95, "fade": 0.85, "dissolve": 0.85}
CONFIG = CurateConfig()


@dataclass(frozen=True)
class Score:
    """How one film went: transitions made, found, found with the right name, false ones.

    ``left``: frames of transitions that stayed in a shot; ``lost``: good frames cut away.
    """

    made: int = 0
    found: int = 0
    named: int = 0
    false: int = 0
    left: int = 0
    lost: int = 0
    frames: int = 0
    cpu_s: float = 0.0

    def __add__(self, other: Score) -> Score:
        return Score(*(a + b for a, b in zip(_values(self), _values(other), strict=True)))


def _values(score: Score) -> tuple[float, ...]:
    return tuple(vars(score).values())


def score(film: Path, edits: Sequence[Edit]) -> Score:
    """Measure a film and compare what is found with what was made."""
    started = time.process_time()
    measures, _ = measure(film)
    cpu_s = time.process_time() - started
    index = [*measures.frames.index.tolist(), measures.n_frames]
    at = [(index[t.start], index[t.end], t) for t in find_transitions(measures, CONFIG)]
    found = named = left = lost = 0
    for edit in edits:
        match = next((one for one in at if _lies(edit, *one[:2])), None)
        if match is None:
            left += edit.end - edit.start
            continue
        at.remove(match)
        start, end, one = match
        found, named = found + 1, named + (one.kind == edit.kind)
        left += max(0, start - edit.start) + max(0, edit.end - end)
        lost += max(0, edit.start - start) + max(0, end - edit.end)
    return Score(len(edits), found, named, len(at), left, lost, measures.n_frames, cpu_s)


def _lies(edit: Edit, start: int, end: int) -> bool:
    frames = GRADUAL_FRAMES if edit.end > edit.start else CUT_FRAMES
    return abs(start - edit.start) <= frames and abs(end - edit.end) <= frames


def kinds(takes: Sequence[Take], folder: Path, films: int, count: int) -> dict[str, Score]:
    """A score for each kind of transition, and for films without."""
    scores: dict[str, Score] = {}

    def add(name: str, film: Path, edits: Sequence[Edit]) -> None:
        scores[name] = scores.get(name, Score()) + score(film, edits)

    for number in range(films):
        for kind in FRAMES:
            film = folder / f"{kind}_{number}.mp4"
            edits = edited(takes, kind, film, number, count)
            add(kind, film, edits)
            if kind == "cut":
                varied = folder / f"varied_{number}.mp4"
                add("cut, variable rate", varied, thinned(film, edits, varied))
        for how in DISTURBANCES:
            film = folder / f"{how}_{number}.mp4"
            disturbed(takes, how, film, number)
            add(f"none: {how}", film, [])
    return scores


def row(name: str, total: Score) -> dict[str, object]:
    """One line of the table."""
    minutes = total.frames / FPS / 60
    found = total.found + total.false
    return {
        "transitions": name,
        "made": total.made,
        "recall": total.found / total.made if total.made else None,
        "precision": total.found / found if total.made and found else None,
        "named right": total.named,
        "false": total.false,
        "frames left in": total.left,
        "frames lost": total.lost,
        "minutes": minutes,
        "CPU s a minute": total.cpu_s / minutes,
    }


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--data", type=Path, help="folder with videos/ and negatives/")
    arguments.add_argument("--half", choices=("a", "b"), default="b")
    arguments.add_argument("--films", type=int, default=3, help="of each kind")
    arguments.add_argument("--count", type=int, default=12, help="transitions in a film")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        takes = (
            real_takes(given.data, given.half, folder)
            if given.data
            else room_takes(given.half, folder)
        )
        scores = kinds(takes, folder, given.films, given.count)
    rows = [row(name, total) for name, total in scores.items()]
    footage = "real" if given.data else "rendered rooms"
    publish(
        "Shots",
        rows,
        given.json,
        footage=f"{footage}, half {given.half}",
        tolerance_frames=f"{CUT_FRAMES} for cuts, {GRADUAL_FRAMES} at either end for the others",
        targets=", ".join(f"{kind} {share}" for kind, share in TARGETS.items()),
    )


if __name__ == "__main__":
    main()
