"""The films of the shots benchmark have their transitions where they say, also at a variable rate."""

import subprocess
from itertools import pairwise

import imageio_ffmpeg
import pytest

from benchmarks.edits import FPS, HEIGHT, WIDTH, Edit, Take, edited, thinned
from benchmarks.shots import score
from sage_core.video.frames import open_frames


@pytest.fixture(scope="module")
def takes(tmp_path_factory):
    """ffmpeg's own moving pictures."""
    folder = tmp_path_factory.mktemp("takes")
    sources = ("testsrc2", "mandelbrot", "rgbtestsrc")
    return [drawn(name, folder / f"{name}.mp4") for name in sources]


def drawn(source, path):
    picture = f"{source}=size={WIDTH}x{HEIGHT}:rate={FPS}"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-f", "lavfi", "-i", picture]
    subprocess.run([*command, "-t", "5", "-pix_fmt", "yuv420p", str(path)], check=True)
    return Take(path, 5 * FPS - 2)


def jumps(film):
    """Frames that differ from the one before by far more than those around."""
    images = [frame.image.astype(float) for frame in open_frames(film, 64).read()]
    change = [abs(b - a).mean() for a, b in pairwise(images)]
    return [n + 1 for n, c in enumerate(change) if c > 40]


def test_cuts_lie_where_they_say(takes, tmp_path):
    film = tmp_path / "film.mp4"
    edits = edited(takes, "cut", film, 0, 3)
    assert [edit.start for edit in edits] == jumps(film)
    varied = tmp_path / "varied.mp4"
    moved = thinned(film, edits, varied)
    assert [edit.start for edit in moved] == jumps(varied)
    assert moved != edits


def test_a_dissolve_lasts_as_long_as_it_says(takes, tmp_path):
    film = tmp_path / "film.mp4"
    (edit,) = edited(takes, "dissolve", film, 0, 1)
    assert jumps(film) == []
    frames = len(open_frames(film).info)
    assert 50 <= edit.start <= 80
    assert 50 <= frames - edit.end <= 80


def test_the_score_counts_what_is_missed_and_what_is_not_there(takes, tmp_path):
    film = tmp_path / "film.mp4"
    edits = edited(takes, "cut", film, 0, 2)
    right = score(film, edits)
    assert (right.made, right.found, right.false) == (2, 2, 0)
    elsewhere = score(film, [Edit("cut", edits[0].start + 20, edits[0].start + 20), edits[1]])
    assert (elsewhere.found, elsewhere.false) == (1, 1)
