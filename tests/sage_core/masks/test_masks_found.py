"""Masks against the renderer's truth: movers under known cameras, overlays under any."""

import cv2
import numpy as np
import pytest
import torch

from sage_core.config.masks import MaskConfig
from sage_core.geometry import Camera
from sage_core.masks import covered, moving_masks, overlay_masks, read_mask, resized, write_masks
from sage_core.world import build_scene, camera_path
from sage_core.world.disturbances import Disturbances, disturbed_frames, make_movers
from sage_core.world.videos import film_intrinsics

SIZE = (320, 240)
FPS, FRAMES = 6.0, 10
SEED = 2_347_487_654


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Rays come in portions too small to share."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def film(movers=0, overlays=()):
    scene = build_scene(SEED, "V")
    poses = camera_path(scene, "orbit", FRAMES, FPS, 0)
    spoilt = Disturbances(make_movers(scene, poses, movers, 0), overlays=overlays)
    K = film_intrinsics(scene, SIZE)
    frames = list(disturbed_frames(scene, poses, K, SIZE, FPS, spoilt))
    greys = [cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY) for frame in frames]
    camera = Camera(640, 480, 2 * K[0, 0], 2 * K[1, 1], 2 * K[0, 2], 2 * K[1, 2])
    return frames, greys, poses, camera


@pytest.fixture(scope="module")
def moving():
    return film(movers=2)


@pytest.fixture(scope="module")
def overlaid():
    return film(overlays=("letterbox", "logo", "subtitles"))


@pytest.mark.parametrize("wrong_rad", [0, 0.001])
def test_movers_are_found_and_little_else_also_under_slightly_wrong_cameras(moving, wrong_rad):
    frames, greys, poses, camera = moving
    truth = np.stack([frame.moving for frame in frames])
    assert truth.mean() > 0.02
    rng = np.random.default_rng(0)
    turns = [cv2.Rodrigues(rng.normal(0, wrong_rad, 3))[0] for _ in poses]
    found = moving_masks(greys, np.stack(turns) @ poses, camera, MaskConfig())
    assert (found & truth).sum() > 0.8 * truth.sum()
    assert (found & ~truth).mean() < 0.06


def test_overlays_are_found_by_what_stays(overlaid):
    frames, greys, _, _ = overlaid
    truth = np.stack([frame.overlaid for frame in frames])
    found = overlay_masks(greys, margin_px=2)
    cv2.setRNGSeed(7)  # nothing hangs on OpenCV's own random numbers
    np.testing.assert_array_equal(overlay_masks(greys, margin_px=2), found)
    assert (found & truth).sum() > 0.9 * truth.sum()
    assert (found & ~truth).mean() < 0.02


def test_a_clean_film_has_no_overlay(moving):
    _, greys, _, _ = moving
    assert overlay_masks(greys, margin_px=2).mean() < 0.002


def test_where_the_camera_rests_everything_stays_and_nothing_is_an_overlay(overlaid):
    _, greys, _, _ = overlaid
    assert not overlay_masks([greys[0]] * 10, margin_px=2).any()


def test_masks_come_back_from_disk_and_empty_ones_are_not_there(tmp_path):
    mask = np.zeros((12, 16), bool)
    mask[3:7, 5:9] = True
    write_masks(tmp_path / "masks", {4: mask, 9: np.zeros_like(mask)})
    assert [path.name for path in (tmp_path / "masks").iterdir()] == ["frame_000004.png"]
    np.testing.assert_array_equal(read_mask(tmp_path / "masks", 4), mask)
    assert read_mask(tmp_path / "masks", 9) is None
    np.testing.assert_array_equal(resized(resized(mask, (32, 24)), (16, 12)), mask)


def test_pixels_under_a_mask_of_another_size():
    mask = np.zeros((12, 16), bool)
    mask[3:7, 5:9] = True
    xy = np.array([[10.0, 6.0], [9.9, 6.0], [17.9, 13.9], [18.1, 13.9], [32.0, 24.0]])
    assert covered(mask, xy, (32, 24)).tolist() == [True, False, True, False, False]
