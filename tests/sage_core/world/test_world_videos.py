"""Films decode to what was filmed."""

from itertools import pairwise

import numpy as np
import pytest

from sage_core.errors import MediaError
from sage_core.video.frames import open_frames
from sage_core.world import build_scene, camera_path
from sage_core.world.encoding import Effects
from sage_core.world.render import render_views
from sage_core.world.rooms import SPLITS
from sage_core.world.videos import (
    DEMO_FILMS,
    Shot,
    film_intrinsics,
    film_shots,
    write_shots,
    write_video,
)

SIZE = (96, 72)


def decoded(path):
    return np.stack([frame.image for frame in open_frames(path).read()]).astype(int)


@pytest.fixture(scope="module")
def two_shots():
    return [
        Shot(scene, camera_path(scene, "walkthrough", 9, 10.0, 0))
        for scene in (build_scene(1, "V"), build_scene(2, "V"))
    ]


def test_a_film_shows_what_the_renderer_sees(tmp_path, two_shots):
    shot = two_shots[0]
    out = tmp_path / "film.mp4"
    effects = Effects(noise=0, vignette=0, flicker=0, crf=8)
    write_video(shot.scene, shot.cam_from_world, out, 10.0, SIZE, effects)
    frames = decoded(out)
    assert frames.shape == (9, 72, 96, 3)
    K = film_intrinsics(shot.scene, SIZE)
    true, _ = render_views(shot.scene, shot.cam_from_world[4:5], K[None], 72, 96)
    assert np.abs(frames[4] - true[0]).mean() < 6
    assert [p.name for p in tmp_path.iterdir()] == ["film.mp4"]


def test_a_cut_is_hard_and_a_film_is_reproducible(tmp_path, two_shots):
    for name in ("a.mp4", "b.mp4"):
        write_shots(two_shots, tmp_path / name, 10.0, SIZE)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    frames = decoded(tmp_path / "a.mp4")
    assert len(frames) == 18
    change = np.abs(np.diff(frames, axis=0)).mean((1, 2, 3))
    assert change.argmax() == 8
    assert change[8] > 3 * np.delete(change, 8).max()


def test_fades_end_in_black(tmp_path, two_shots):
    shot = two_shots[0]
    write_shots([shot], tmp_path / "f.mp4", 10.0, SIZE, Effects(fade_s=0.3, noise=0))
    brightness = decoded(tmp_path / "f.mp4").mean((1, 2, 3))
    assert max(brightness[0], brightness[-1]) < 8 < 20 < brightness[4]


def test_an_encoder_that_fails_says_why(tmp_path, two_shots):
    with pytest.raises(MediaError, match=r"ffmpeg could not write .*missing/f\.mp4"):
        write_shots(two_shots, tmp_path / "missing" / "f.mp4", 10.0, SIZE)


def test_the_demos_films_are_told_apart_and_never_trained_on():
    assert len({film.name for film in DEMO_FILMS}) == len(DEMO_FILMS)
    for film in DEMO_FILMS:
        assert film.accept != bool(film.reasons)
        shots = film_shots(film, fps=2.0)
        assert len(shots) == len(film.motions)
        assert all(shot.scene.seed in SPLITS["film"] for shot in shots)
        assert sum(len(s.cam_from_world) for s in shots) == pytest.approx(2 * film.seconds, abs=1)


def test_no_seed_serves_two_purposes():
    ranges = sorted(SPLITS.values(), key=lambda r: r.start)
    assert all(a.stop <= b.start for a, b in pairwise(ranges))
