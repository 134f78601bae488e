"""The videos of the domain "filmed": each scene with the camera habit, lens and faults of its kind.

``python -m sage_core.world.films --out FOLDER --count 64`` writes them. What is filmed follows from the
seed alone, so that the same films come out anywhere; those that are there are left alone.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from sage_core.world.cameras import camera_path
from sage_core.world.domains import DOMAINS
from sage_core.world.encoding import Effects
from sage_core.world.furniture import build_scene
from sage_core.world.scenes import family_named
from sage_core.world.videos import Shot, write_shots

FPS = 10.0
SIZE = (640, 480)
SECONDS = 12.0
_HABITS = {
    "room": ("walkthrough", "handheld", "orbit"),
    "corridor": ("walkthrough", "handheld"),
    "table": ("orbit", "handheld"),
    "court": ("drone", "walkthrough", "orbit"),
}
"""Motions of :data:`sage_core.world.cameras.MOTIONS` by kind of scene."""


@dataclass(frozen=True)
class FilmPlan:
    """What is filmed of a seed, how, and with which faults."""

    seed: int
    family: str
    motion: str
    effects: Effects

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return f"{self.family}-{self.motion}-{self.seed}"


def habits(family: str) -> tuple[str, ...]:
    """How scenes of that family are filmed; kinds that are never in a film as corridors are."""
    return _HABITS.get(family_named(family).kind, _HABITS["corridor"])


def film_plan(seed: int) -> FilmPlan:
    """The plan of that seed's film: a fifth are blurred, a fifth have a rolling shutter, some fade."""
    family = DOMAINS["filmed"].family_of(seed)
    kind = build_scene(seed, family).family.kind
    rng = np.random.default_rng([seed, 31])
    motion = str(rng.choice(_HABITS[kind]))
    effects = Effects(
        noise=float(rng.uniform(1, 5)),
        vignette=float(rng.uniform(0, 0.3)),
        flicker=float(rng.uniform(0, 0.08)),
        fade_s=0.5 if rng.random() < 0.15 else 0.0,
        crf=int(rng.integers(18, 29)),
        shutter=0.5 if rng.random() < 0.2 else 0.0,
        readout=0.6 if rng.random() < 0.2 else 0.0,
    )
    return FilmPlan(seed, family, motion, effects)


def write_planned(seed: int, folder: Path, seconds: float = SECONDS) -> Path | None:
    """Film a seed as ``folder/NAME.mp4``; None where its scene has no space for the path."""
    plan = film_plan(seed)
    out = folder / f"{plan.name}.mp4"
    if out.exists():
        return out
    scene = build_scene(seed, plan.family)
    try:
        path = camera_path(scene, plan.motion, round(seconds * FPS), FPS, 0)
    except ValueError:
        return None
    write_shots([Shot(scene, path)], out, FPS, SIZE, plan.effects)
    return out


def main() -> None:
    """Write films, one process a core."""
    parser = argparse.ArgumentParser(description="Film the scenes of the domain 'filmed'.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=64, help="scenes")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of a film")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    seeds = DOMAINS["filmed"].seeds(arguments.count)
    work = partial(write_planned, folder=arguments.out, seconds=arguments.seconds)
    with ProcessPoolExecutor(
        arguments.processes, initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        for number, path in enumerate(pool.map(work, seeds), 1):
            print(
                f"{number}/{len(seeds)} {path.name if path else 'no space for the path'}",
                flush=True,
            )


if __name__ == "__main__":
    main()
