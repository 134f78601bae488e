"""Camera motion: what the miner calls films of rooms whose camera path is known.

python -m benchmarks.motion --half b --rooms 6 --json motion.json

Rooms are filmed from a tripod, by pans, zooms, walks, slides and orbits, slowly and fast, from a stand and
in the hand (``benchmarks.motions``), encoded, and measured as any video. Thresholds were chosen on half a;
half b films other rooms.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import torch

from benchmarks.motions import KINDS, SECONDS, write
from benchmarks.table import parser, publish
from sage_core.config.curate import CurateConfig
from sage_core.mining import decide, measure

CONFIG = CurateConfig(min_short_side_px=100)
DEEP = ("walking", "orbit", "travelling")
"""Cameras that see depth."""


@dataclass
class Tally:
    """What the films of one kind were called, how many were wanted, and their cost in CPU seconds."""

    called: Counter[str] = field(default_factory=Counter)
    wanted: int = 0
    cpu_s: float = 0.0


def called(film: Path) -> tuple[str, bool]:
    """What the camera of a film is said to do, and whether the film is wanted."""
    measures, _ = measure(film)
    verdicts = decide(measures, CONFIG, "film").clips
    longest = max(verdicts, key=lambda one: one.clip.end_s - one.clip.start_s, default=None)
    if longest is None:
        return "no clip", False
    figures = longest.judgement.figures
    return str(figures["camera"].value), longest.judgement.reason is None


def tallies(half: str, rooms: int, folder: Path) -> dict[str, Tally]:
    """One tally for each kind of film."""
    found = {kind: Tally() for kind in KINDS}
    for number in range(rooms):
        for kind, tally in found.items():
            film = folder / f"{half}_{number}_{kind.replace(' ', '_')}.mp4"
            if not film.exists():
                write(kind, half, number, film)
            started = time.process_time()
            camera, wanted = called(film)
            tally.cpu_s += time.process_time() - started
            tally.called[camera] += 1
            tally.wanted += wanted
    return found


def row(kind: str, tally: Tally) -> dict[str, object]:
    """One line of the table: the kind, what it should be called, what it was called how often."""
    films = tally.called.total()
    right = KINDS[kind].camera
    others = ", ".join(f"{name} {n}" for name, n in tally.called.most_common() if name != right)
    return {
        "film": kind,
        "is": right,
        "films": films,
        "called so": tally.called[right],
        "called otherwise": others or "–",
        "wanted": tally.wanted,
    }


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--half", choices=("a", "b"), default="b")
    arguments.add_argument("--rooms", type=int, default=6)
    arguments.add_argument("--films", type=Path, help="keep the films in this folder, or take them")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = given.films or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        found = tallies(given.half, given.rooms, folder)
    rows = [row(kind, tally) for kind, tally in found.items()]
    films = sum(tally.called.total() for tally in found.values())
    deep = [kind for kind in found if KINDS[kind].camera in DEEP]
    deep_films = sum(found[kind].called.total() for kind in deep)
    share = {
        "called right": sum(t.called[KINDS[k].camera] for k, t in found.items()) / films,
        "depth or none told right": sum(
            n for k, t in found.items() for c, n in t.called.items() if (c in DEEP) == (k in deep)
        )
        / films,
        "deep ones called static": sum(found[k].called["static"] for k in deep),
        "deep ones wanted": sum(found[k].wanted for k in deep) / max(1, deep_films),
        "others wanted": sum(t.wanted for k, t in found.items() if k not in deep),
        "CPU s a minute": sum(t.cpu_s for t in found.values()) / films / SECONDS * 60,
    }
    publish("Camera motion", rows, given.json, half=given.half, **share)


if __name__ == "__main__":
    main()
