"""The pictures in the docs: one for each film of the gallery, each shown, none too large."""

import re
from pathlib import Path

import cv2
import numpy as np

from benchmarks import gallery
from benchmarks.gallery_films import FILMS

DOCS = Path(__file__).parents[2] / "docs"


def test_each_film_has_its_picture_and_each_picture_its_place():
    names = {film.name for film in FILMS}
    assert {path.stem for path in (DOCS / "mining").glob("*.jpg")} == names
    shown = re.findall(r"!\[.*?\]\(mining/(\w+)\.jpg\)", (DOCS / "mining.md").read_text())
    assert sorted(shown) == sorted(names)


def test_pictures_are_small():
    sizes = [path.stat().st_size for path in (DOCS / "mining").iterdir()]
    assert max(sizes) <= gallery.MOST_BYTES
    assert sum(sizes) <= 1_500_000


def test_a_picture_is_brought_to_its_size():
    noise = np.random.default_rng(0).integers(0, 255, (40, 1180, 3), np.uint8)
    page = np.concatenate([np.full((700, 1180, 3), 255, np.uint8), noise])
    small = cv2.imdecode(np.frombuffer(gallery._small(page), np.uint8), cv2.IMREAD_COLOR)
    assert small.shape == (627, 1000, 3)
