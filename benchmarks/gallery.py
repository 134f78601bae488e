"""Pictures of verdicts for the docs: a film for each reason, mined for real, explained.

python -m benchmarks.gallery --out docs/mining

Films of procedural rooms (``benchmarks.gallery_films``), spoilt in one way each, go through acquire, curate
and reconstruct under the default settings; ``sage explain`` draws what came of each. Ends with 1, naming it,
if a film did not get the verdict that it was made for.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.gallery_films import FILMS, Film
from data_catalog import StageEvent, Workspace
from flows._explain import explanation
from flows._run import run_in_workspace
from sage_core.config import load_config
from sage_core.explain import draw, to_jpeg
from sage_core.types import Stage
from tasks._plan import Retry

_STAGES = [Stage.ACQUIRE, Stage.CURATE, Stage.RECONSTRUCT]
_WIDTH = 1000
MOST_BYTES = 88_000


def make(out: Path, films: list[Film], workspace: Path) -> list[str]:
    """Film, mine, draw; returns what did not come out as it should."""
    site = workspace / "films"
    site.mkdir(parents=True, exist_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    sources = [_filmed(film, site) for film in films]
    run_in_workspace(workspace, sources, _STAGES, load_config(), Retry.MISSING, None)
    ws = Workspace.open(workspace, create=False)
    with ThreadPoolExecutor(2) as pool:
        wrong = list(pool.map(lambda film: _drawn(ws, film, out), films))
    return [text for text in wrong if text]


def _filmed(film: Film, site: Path) -> str:
    path = site / f"{film.name}.mp4"
    if not path.exists():
        film.make(path)
    return str(path)


def _drawn(ws: Workspace, film: Film, out: Path) -> str:
    """Draw the item that the film is about; what is wrong with its verdict, or nothing."""
    event = _event(ws, film)
    if event is None:
        return f"{film.name}: no clip of it was wanted by curate"
    (out / f"{film.name}.jpg").write_bytes(_small(draw(explanation(ws, event.item))))
    wanted = film.reason.value if film.reason else None
    kind = str(event.figures.get("kind", {}).get("value", ""))
    if event.reason != wanted or (film.kind and film.kind != kind):
        return f"{film.name}: {event.verdict}, {event.reason} {kind}, and not {wanted} {film.kind}"
    return ""


def _event(ws: Workspace, film: Film) -> StageEvent | None:
    """What reconstruct says of the film's first clip, or curate of all of it."""
    stage = Stage.RECONSTRUCT if film.clip else Stage.CURATE
    of_film = (e for e in ws.catalog.latest(stage.value) if Path(e.source).stem == film.name)
    return next((e for e in of_film if film.clip or e.parent is None), None)


def _small(picture: np.ndarray) -> bytes:
    """For a page of text: a little smaller, and no larger than a page of pictures can bear."""
    height = round(picture.shape[0] * _WIDTH / picture.shape[1])
    small = cv2.resize(picture, (_WIDTH, height), interpolation=cv2.INTER_AREA)
    for quality in range(72, 24, -4):
        jpeg = to_jpeg(small, quality)
        if len(jpeg) <= MOST_BYTES:
            return jpeg
    raise ValueError(f"{picture.shape} does not fit into {MOST_BYTES} bytes")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", help="names of films; all by default")
    parser.add_argument("--workspace", type=Path, help="keep the films and what came of them here")
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    films = [film for film in FILMS if not given.only or film.name in given.only]
    with tempfile.TemporaryDirectory() as name:
        wrong = make(given.out, films, (given.workspace or Path(name)).resolve())
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
