"""Movers, zoom and overlays: their truth is what the picture shows."""

import numpy as np
import pytest
import torch

from sage_core.video.frames import open_frames
from sage_core.world import build_scene, camera_path, render_views
from sage_core.world.disturbances import (
    OVERLAYS,
    Disturbances,
    disturbed_frames,
    draw_overlay,
    make_movers,
)
from sage_core.world.encoding import Effects
from sage_core.world.videos import Shot, film_intrinsics, write_shots

torch.set_num_threads(1)  # rays come in portions too small to share
SIZE = (96, 72)
FPS = 2.0
SCENE = build_scene(2_347_487_654, "V")
POSES = camera_path(SCENE, "orbit", 6, FPS, 0)
K = film_intrinsics(SCENE, SIZE)


def film(**disturbances):
    return list(disturbed_frames(SCENE, POSES, K, SIZE, FPS, Disturbances(**disturbances)))


@pytest.fixture(scope="module")
def movers():
    return make_movers(SCENE, POSES, 2, 0)


def test_only_true_pixels_change(movers):
    frames = film(movers=movers, overlays=("logo",))
    assert np.mean([frame.moving.mean() for frame in frames]) > 0.02
    for frame, pose in zip(frames, POSES, strict=True):
        empty, _ = render_views(SCENE, pose[None], K[None], SIZE[1], SIZE[0])
        changed = (frame.image != empty[0]).any(-1)
        assert not (frame.moving & frame.overlaid).any()
        # Edges are smoothed over four rays, so that a mover tints the pixels along its outline too.
        spoilt = frame.moving | frame.overlaid
        near = spoilt.copy()
        near[1:] |= spoilt[:-1]
        near[:-1] |= spoilt[1:]
        near[:, 1:] |= near[:, :-1].copy()
        near[:, :-1] |= near[:, 1:].copy()
        assert not (changed & ~near).any()
        assert changed[spoilt].mean() > 0.95


def test_movers_never_stand_still_and_keep_clear_of_cameras(movers):
    from sage_core.geometry import camera_centres

    for mover in movers:
        way = np.stack([mover.at(t) for t in np.arange(0, 10, 0.1)])
        assert np.linalg.norm(np.diff(way, axis=0), axis=1).min() > 0.01
        gap = np.linalg.norm(way[:, None] - camera_centres(POSES), axis=-1).min()
        assert gap > 0.55 + mover.scene.half.max()


def test_seeds_decide(movers):
    again, other = make_movers(SCENE, POSES, 2, 0), make_movers(SCENE, POSES, 2, 1)
    assert np.array_equal(again[1].at(0.7), movers[1].at(0.7))
    assert not np.array_equal(other[1].at(0.7), movers[1].at(0.7))
    with pytest.raises(ValueError, match="no space for 500 movers"):
        make_movers(SCENE, POSES, 500, 0)


def test_a_zoom_scales_the_focal_length_alone():
    frames = film(zoom=1.5, zoom_period_s=2.0)
    focal = [frame.intrinsics[0, 0] / K[0, 0] for frame in frames]
    assert focal[:5] == pytest.approx([1, 1.25, 1.5, 1.25, 1])
    assert all(np.array_equal(f.intrinsics[:, 2], K[:, 2]) for f in frames)
    assert not any(frame.moving.any() for frame in frames)


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_covers_what_it_says(name):
    grey = np.full((240, 320, 3), 120, np.uint8)
    drawn = grey.copy()
    covered = draw_overlay(drawn, name, 1.0)
    assert 0.005 < covered.mean() < 0.3
    assert (drawn == grey)[~covered].all()
    with pytest.raises(ValueError, match="no overlay 'banner'"):
        draw_overlay(drawn, "banner", 0.0)


def test_a_disturbed_shot_is_filmed(tmp_path, movers):
    spoilt = Disturbances(movers, overlays=("letterbox",))
    quiet = Effects(noise=0, vignette=0, flicker=0, crf=8)
    write_shots([Shot(SCENE, POSES, spoilt)], tmp_path / "f.mp4", FPS, SIZE, quiet)
    filmed = [frame.image for frame in open_frames(tmp_path / "f.mp4").read()]
    wanted = list(disturbed_frames(SCENE, POSES, K, SIZE, FPS, spoilt))
    assert len(filmed) == len(wanted)
    for a, b in zip(filmed, wanted, strict=True):
        assert np.abs(a.astype(int) - b.image).mean() < 6
