"""Pictures become what VGGT was trained on, and intrinsics and anchors move with them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sage_core.errors import ConfigError
from sage_core.models._bicubic import resize_bicubic
from sage_core.models.vggt import preprocess

sides = st.integers(1, 90)


def noise(height, width, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)


@given(sides, sides, sides, sides)
def test_resizing_is_pillows_to_the_last_digit(old_h, old_w, new_h, new_w):
    """Noise is the hardest picture: every tap counts, and cubic overshoots beyond 0 and 255.

    Pillow is asked for one direction at a time, since its versions differ in which one comes first.
    """
    image = pytest.importorskip("PIL.Image")
    picture = noise(old_h, old_w)
    wide = image.fromarray(picture).resize((new_w, old_h), image.Resampling.BICUBIC)
    theirs = wide.resize((new_w, new_h), image.Resampling.BICUBIC)
    assert np.array_equal(resize_bicubic(picture, new_w, new_h), np.asarray(theirs))


def test_transparency_is_laid_on_white_as_pillow_does():
    image = pytest.importorskip("PIL.Image")
    alpha = np.arange(256, dtype=np.uint8)
    colour = alpha[:, None].repeat(256, 1)
    picture = np.stack((colour, colour, colour, alpha[None].repeat(256, 0)), -1)
    white = image.new("RGBA", (256, 256), (255, 255, 255, 255))
    theirs = image.alpha_composite(white, image.fromarray(picture)).convert("RGB")
    ours = preprocess([picture], target=256, patch=1).images[0]
    wanted = torch.from_numpy(np.array(theirs)).permute(2, 0, 1) / 255
    assert torch.equal(ours, wanted)


@given(st.integers(20, 400), st.integers(20, 400), st.sampled_from(["crop", "pad"]))
def test_a_point_keeps_its_place_in_the_picture(height, width, mode):
    """Corners of the old picture land where the map says; sides are whole patches."""
    done = preprocess([np.zeros((height, width, 3), np.uint8)], mode, target=112)
    (pixels,), (image,) = done.maps, done.images
    assert (pixels.height, pixels.width) == image.shape[1:]
    assert pixels.width % 14 == pixels.height % 14 == 0
    black = (image == 0).all(0)
    rows, columns = np.flatnonzero(black.any(1)), np.flatnonzero(black.any(0))
    (left, top), (right, bottom) = pixels.points(np.array([[0, 0], [width, height]]))
    assert (columns[0], columns[-1] + 1) == pytest.approx((max(left, 0), min(right, pixels.width)))
    assert (rows[0], rows[-1] + 1) == pytest.approx((max(top, 0), min(bottom, pixels.height)))


@pytest.mark.parametrize("mode", ["crop", "pad"])
def test_a_bright_spot_is_found_where_the_map_puts_it(mode):
    picture = np.zeros((120, 200, 3), np.uint8)
    picture[90:94, 40:44] = 255
    done = preprocess([picture], mode)
    (pixels,), brightness = done.maps, done.images[0, 0].numpy().copy()
    # The white border that pads it is no part of the picture.
    brightness[: round(pixels.offset_y)] = 0
    brightness[round(pixels.offset_y + 120 * pixels.scale_y) :] = 0
    y, x = np.indices(brightness.shape) + 0.5
    found = [(brightness * axis).sum() / brightness.sum() for axis in (x, y)]
    assert found == pytest.approx(pixels.points(np.array([42.0, 92.0])).tolist(), abs=0.05)


def test_intrinsics_move_along():
    """A point that projects into the old picture projects into the same place of the new one."""
    K = np.array([[300.0, 0, 110], [0, 310, 55], [0, 0, 1]])
    (pixels,) = preprocess([noise(120, 200)], "pad").maps
    point = np.array([0.2, -0.1, 1.7])
    old, new = K @ point, pixels.intrinsics(K) @ point
    assert pixels.points(old[:2] / old[2]).tolist() == pytest.approx((new[:2] / new[2]).tolist())


def test_pictures_of_several_sizes_share_one():
    done = preprocess([noise(100, 200), noise(200, 200), noise(60, 200)])
    assert done.images.shape == (3, 3, 518, 518)
    assert (done.images[0, :, :100] == 1).all()
    assert done.maps[0].offset_y == (518 - 252) // 2
    assert done.maps[1].offset_y == 0


def test_high_pictures_lose_top_and_bottom():
    (pixels,) = preprocess([noise(300, 100)], target=56).maps
    assert (pixels.width, pixels.height) == (56, 56)
    assert pixels.offset_y == -(168 - 56) // 2


@pytest.mark.parametrize(
    ("pictures", "said"),
    [
        ([], "there must be some"),
        ([np.zeros((4, 4), np.uint8)], r"\[H, W, 3 or 4\]"),
        ([np.zeros((4, 4, 3), np.float32)], "float32"),
        ([np.zeros((2, 300, 3), np.uint8)], "half a patch"),
    ],
)
def test_what_is_no_picture_is_refused_in_words(pictures, said):
    with pytest.raises(ConfigError, match=said):
        preprocess(pictures)
