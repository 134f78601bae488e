"""How far a render is from its image, pixel by pixel."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

PhotometricForm = Literal["l2_norm", "squared"]
"""``l2_norm``: the length of the colour difference, MV-DUSt3R's form; ``squared``: its square, SAGE's."""


def photometric_loss(
    rendered: Tensor, images: Tensor, valid: Tensor | None = None, form: PhotometricForm = "l2_norm"
) -> Tensor:
    """Mean over all valid pixels of a sample's views of the three-channel colour difference, [B].

    Measured on the range -1..1 of the published training, hence twice the difference of 0..1 images.

    Args:
        rendered, images: [B, K, 3, H, W] in 0..1.
        valid: bool [B, K, H, W]; all pixels if None. A sample without valid pixels gives 0.
    """
    difference = 2 * (rendered - images)
    if valid is not None:
        difference = difference.where(valid[:, :, None], 0.0)
    error = difference.square().sum(2) if form == "squared" else difference.norm(dim=2)
    if valid is None:
        return error.flatten(1).mean(1)
    return error.flatten(1).sum(1) / valid.flatten(1).sum(1).clamp(min=1)
