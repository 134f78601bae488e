"""Pictures of any size to what VGGT takes, as it was given them in training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sage_core.errors import ConfigError
from sage_core.geometry import PixelMap
from sage_core.models._bicubic import resize_bicubic

PreprocessMode = Literal["crop", "pad"]
"""``crop``: the width becomes the target, and the middle of what is higher than that is kept; ``pad``: the
longer side becomes the target, and white makes it a square."""

_WHITE = 1.0


@dataclass(frozen=True)
class Preprocessed:
    """Pictures as the model takes them."""

    images: Tensor
    """float32 [V, 3, H, W], RGB 0..1."""
    maps: tuple[PixelMap, ...]
    """For each picture: its pixels to the model's (+0.5 rule). Intrinsics and anchors move with it."""


def preprocess(
    pictures: Sequence[NDArray[np.uint8]],
    mode: PreprocessMode = "crop",
    *,
    target: int = 518,
    patch: int = 14,
) -> Preprocessed:
    """Resize (bicubic, as Pillow does), then crop or pad; transparency is laid on white.

    Pictures that end up at different sizes are padded with white, in the middle, to the largest height and
    width among them.

    Args:
        pictures: uint8 [H, W, 3] or [H, W, 4], RGB or RGBA.
        target: pixels; a multiple of the patch.

    Raises:
        ConfigError: no pictures, a picture of another kind, or one too flat for a single patch.
    """
    if not pictures or target % patch:
        raise ConfigError(
            f"{len(pictures)} pictures for {target} px: there must be some, and {target} a multiple of "
            f"the patch of {patch} px"
        )
    placed = [_placed(picture, mode, target, patch) for picture in pictures]
    height, width = (max(image.shape[axis] for image, _ in placed) for axis in (1, 2))
    padded = [_padded(image, pixels, width, height) for image, pixels in placed]
    return Preprocessed(torch.stack([i for i, _ in padded]), tuple(m for _, m in padded))


def _placed(
    picture: NDArray[np.uint8], mode: PreprocessMode, target: int, patch: int
) -> tuple[Tensor, PixelMap]:
    rgb = _opaque(picture)
    old_height, old_width = rgb.shape[:2]
    longer = max(old_width, old_height) if mode == "pad" else old_width
    width, height = (
        target if side == longer else patch * round(side * target / longer / patch)
        for side in (old_width, old_height)
    )
    if mode == "crop":
        width = target
    if not (width and height):
        raise ConfigError(
            f"a picture of {old_width}x{old_height} px becomes {width}x{height} px: its shorter side "
            f"must fill half a patch of {patch} px"
        )
    resized = np.ascontiguousarray(resize_bicubic(rgb, width, height).transpose(2, 0, 1))
    image = torch.from_numpy(resized).float() / 255
    pixels = PixelMap.resize((old_width, old_height), (width, height))
    if mode == "pad":
        return _padded(image, pixels, target, target)
    if height > target:
        top = (height - target) // 2
        pixels = pixels.then(PixelMap.crop(0, top, width, target))
        image = image[:, top : top + target]
    return image, pixels


def _padded(image: Tensor, pixels: PixelMap, width: int, height: int) -> tuple[Tensor, PixelMap]:
    """The picture in the middle of a white one, the smaller half of the border on top and left."""
    rows, columns = height - image.shape[1], width - image.shape[2]
    top, left = rows // 2, columns // 2
    canvas = image.new_full((3, height, width), _WHITE)
    canvas[:, top : top + image.shape[1], left : left + image.shape[2]] = image
    return canvas, pixels.then(PixelMap.crop(-left, -top, width, height))


def _opaque(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB [H, W, 3]; RGBA over white, rounded as Pillow's ``alpha_composite`` does."""
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] not in (3, 4):
        raise ConfigError(
            f"a picture must be uint8 [H, W, 3 or 4], got {picture.dtype} {list(picture.shape)}"
        )
    if picture.shape[2] == 3:
        return picture
    colour, alpha = picture[..., :3].astype(np.int32), picture[..., 3:].astype(np.int32)
    blend = (colour * alpha + 255 * (255 - alpha) << 7) + (128 << 7)
    return (((blend >> 8) + blend) >> 8 >> 7).astype(np.uint8)
