"""The benchmark of copies at toy size: edits are what they say, rows add up, made-up clips are no copies."""

import subprocess

import imageio_ffmpeg
import numpy as np
import pytest

from benchmarks import duplicates
from benchmarks.copies import COPIES, Take, copied
from sage_core.fingerprints import CROPS, Fingerprint
from sage_core.video.frames import open_frames


@pytest.fixture(scope="module")
def takes(tmp_path_factory):
    """ffmpeg's own moving pictures, 8 s of each."""
    folder = tmp_path_factory.mktemp("takes")
    made = []
    for name in (
        "mandelbrot=size=320x240:rate=15:start_scale=1.5",
        "testsrc2=size=320x240:rate=15",
    ):
        path = folder / f"{name.partition('=')[0]}.mp4"
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-f", "lavfi", "-i", name]
        subprocess.run([*command, "-t", "8", "-pix_fmt", "yuv420p", str(path)], check=True)
        made.append(Take(path, path.stem))
    return made


@pytest.mark.parametrize(
    ("edit", "size", "seconds"),
    [
        ("half the size", (160, 120), 8),
        ("cropped, 15 % a side", (224, 168), 8),
        ("15 % faster", (320, 240), 7),
        ("intro and outro of 4 s", (480, 360), 16),
    ],
)
def test_copies_are_what_they_are_called(takes, tmp_path, edit, size, seconds):
    copy = copied(takes[0], edit, takes[1], tmp_path / "copy.mp4")
    info = open_frames(copy.path).info
    assert (info.width, info.height) == size
    assert info.times_s[-1] == pytest.approx(seconds, abs=0.3)
    assert copy.shares_with(takes[0])
    assert copy.shares_with(takes[1]) == (copy.intro is not None)


def test_rows_and_facts_add_up(takes, tmp_path, monkeypatch):
    kept = ("re-encoded (CRF 38)", "mirrored")
    monkeypatch.setattr(duplicates, "COPIES", {name: COPIES[name] for name in kept})
    found = duplicates.films(takes[:1], takes[1:], tmp_path)
    assert [one.edit for one in found] == [None, None, *kept]
    rows, facts = duplicates.rows_of(found)
    assert [row["copy"] for row in rows] == list(kept)
    assert [row["made"] for row in rows] == [1, 1]
    assert (facts["films"], facts["pairs"], facts["false_links"]) == (4, 6, 0)


def test_made_up_clips_are_no_copies_of_each_other():
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, 500, dtype=np.uint64)
    nothing = np.empty(0, np.int32), np.empty((0, len(CROPS)), np.uint64)
    cost = duplicates.scale(30, [Fingerprint(True, np.arange(500.0), hashes, *nothing)])
    assert (cost["clips"], cost["links_by_chance"]) == (30, 0)
