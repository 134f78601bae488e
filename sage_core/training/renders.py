"""What a model makes of one clip, to look at while it trains."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sage_core.training.objective import Objective
from sage_core.training.samples import VideoSample


def picture(
    objective: Objective, sample: Callable[[], VideoSample]
) -> Callable[[nn.Module], NDArray[np.uint8] | None] | None:
    """Model → the sample's targets, each beside its render; None where nothing here can render it.

    The sample is made once, when it is first needed.
    """
    if not objective.can_render:
        return None
    made: list[VideoSample] = []

    def draw(model: nn.Module) -> NDArray[np.uint8] | None:
        if not made:
            made.append(sample())
        images = objective.renders(model, made[0])
        return strip(*images) if images else None

    return draw


def strip(targets: Tensor, rendered: Tensor) -> NDArray[np.uint8]:
    """Images [T, 3, H, W] in 0..1 as one picture [T·H, 2·W, 3]: a row each, the target on the left."""
    rows = torch.cat((targets, rendered), dim=-1).movedim(1, -1).flatten(0, 1)
    picture: NDArray[np.uint8] = (255 * rows).round().byte().cpu().numpy()
    return picture
