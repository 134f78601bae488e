"""VGGT's loss of a dense map: errors, errors weighed by confidence, and errors of the local shape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.linalg import vector_norm
from torch.nn.functional import normalize, pad

ShapeTerm = Literal["steps", "normals"]
"""``steps``: differences of neighbouring errors, for depth; ``normals``: angles between surface normals,
for points."""

CLAMP = 100.0
"""No single error counts for more."""
VALID_SHARE = 0.98
"""The largest errors beyond this share are left out, as they tend to be wrong labels."""
FEWEST_TO_FILTER = 1_000
FEWEST_VALID = 100
FEWEST_NORMALS = 10
MOST_RANKED = 10**8
DRAWN = 10**6
STEP_STRIDES = (1, 2, 4, 8)
NORMAL_STRIDES = (1, 2, 4)


@dataclass(frozen=True)
class DenseTerms:
    """The parts of a dense loss, each a scalar over the whole batch."""

    conf: Tensor
    """Mean of ``error · conf − alpha · ln conf``; may be negative."""
    reg: Tensor
    """Mean error."""
    grad: Tensor
    """Error of the local shape."""

    @property
    def total(self) -> Tensor:
        return self.conf + self.reg + self.grad


def dense_loss(
    predicted: Tensor,
    conf: Tensor,
    target: Tensor,
    mask: Tensor,
    shape: ShapeTerm,
    *,
    alpha: float = 0.2,
    valid_share: float = VALID_SHARE,
) -> DenseTerms:
    """Compare maps where the mask says that the target is known.

    Sums run over the whole batch and all frames. An error or a weighted error that is not finite counts 0,
    without a gradient; so does everything if fewer than 100 pixels are valid.

    Args:
        predicted, target: [..., H, W, C]; the target is free where not valid.
        conf: [..., H, W], > 0.
        mask: bool [..., H, W].
    """
    if int(mask.sum()) < FEWEST_VALID:
        nothing = 0.0 * (predicted.sum() + conf.sum())
        return DenseTerms(nothing, nothing, nothing)
    errors = _errors(predicted[mask] - target[mask])
    weighed = _weighed(errors, conf[mask], alpha)
    return DenseTerms(
        without_worst(weighed, valid_share).mean(),
        without_worst(errors, valid_share).mean(),
        _shape_error(predicted, target, mask, shape),
    )


def without_worst(values: Tensor, share: float = VALID_SHARE) -> Tensor:
    """The values [N] below the one of rank ``round(share · (N − 1)) + 1``, all at most 100.

    With 1,000 values or fewer, before or after, all are kept. Of more than 10⁸ a random million is
    looked at, drawn with replacement.
    """
    if values.numel() <= FEWEST_TO_FILTER:
        return values
    if values.numel() > MOST_RANKED:
        values = values[torch.randint(values.numel(), (DRAWN,), device=values.device)]
    values = values.clamp(max=CLAMP)
    rank = round(share * (values.numel() - 1)) + 1
    kept = values[values < values.detach().kthvalue(rank).values]
    return kept if kept.numel() > FEWEST_TO_FILTER else values


def step_error(predicted: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """How much the errors [F, H, W, C] differ between neighbours that are both valid, per valid number."""
    error = predicted - target
    error = error.where(mask[..., None] & error.isfinite(), 0.0)
    total = error.new_zeros(())
    for dim in (1, 2):
        size = mask.shape[dim] - 1
        both = mask.narrow(dim, 0, size) & mask.narrow(dim, 1, size)
        steps = error.diff(dim=dim).abs().where(both[..., None], 0.0)
        total = total + steps.clamp(max=CLAMP).sum()
    return total / (mask.sum() * error.shape[-1]).clamp(min=1)


def normal_error(predicted: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean of 1 − cos between the normals of two pointmaps [F, H, W, 3].

    A pixel has four normals, each from two neighbours in turn, where all three points are valid. With
    fewer than ten in all the error is 0.
    """
    mask = mask & predicted.isfinite().all(-1)
    predicted, target = (points.where(mask[..., None], 0.0) for points in (predicted, target))
    ours, valid = _normals(predicted, mask)
    theirs, _ = _normals(target, mask)
    cosines = (ours * theirs).sum(-1)[valid]
    if cosines.numel() < FEWEST_NORMALS:
        return 0.0 * predicted.sum()
    return 1 - cosines.mean()


def _errors(difference: Tensor) -> Tensor:
    """Lengths [N] of differences [N, C], at most 100."""
    # The root of an overflowing sum would send NaN back: such rows are set to 0 before it.
    usable = difference.detach().square().sum(-1).isfinite()
    lengths: Tensor = vector_norm(difference.where(usable[:, None], 0.0), dim=-1)
    return lengths.clamp(max=CLAMP)


def _weighed(errors: Tensor, conf: Tensor, alpha: float) -> Tensor:
    usable = conf.detach().isfinite() & (conf.detach() > 0)
    conf = conf.where(usable, 1.0)
    values = (errors * conf - alpha * conf.log()).clamp(-CLAMP, CLAMP)
    return values.where(usable, 0.0)


def _shape_error(predicted: Tensor, target: Tensor, mask: Tensor, shape: ShapeTerm) -> Tensor:
    if shape == "steps":
        return _over_strides(step_error, STEP_STRIDES, predicted, target, mask)
    return _over_strides(normal_error, NORMAL_STRIDES, predicted, target, mask)


def _over_strides(
    error: Callable[[Tensor, Tensor, Tensor], Tensor],
    strides: tuple[int, ...],
    predicted: Tensor,
    target: Tensor,
    mask: Tensor,
) -> Tensor:
    """Mean of an error over every, every second, … pixel."""
    ours, theirs, valid = predicted.flatten(0, -4), target.flatten(0, -4), mask.flatten(0, -3)
    errors = [error(ours[:, ::s, ::s], theirs[:, ::s, ::s], valid[:, ::s, ::s]) for s in strides]
    return torch.stack(errors).mean()


def _normals(points: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Unit normals [4, F, H, W, 3] from the neighbours in turn, and which are valid [4, F, H, W]."""
    height, width = mask.shape[1:]
    wide, inside = pad(points, (0, 0, 1, 1, 1, 1)), pad(mask, (1, 1, 1, 1))
    corners = ((0, 1), (1, 0), (2, 1), (1, 2))  # up, left, down, right
    rays = [wide[:, y : y + height, x : x + width] - points for y, x in corners]
    seen = [inside[:, y : y + height, x : x + width] & mask for y, x in corners]
    after = [1, 2, 3, 0]
    normals = [torch.linalg.cross(rays[i], rays[j]) for i, j in enumerate(after)]
    valid = torch.stack([seen[i] & seen[j] for i, j in enumerate(after)])
    # Rays to what is not valid are of any length: 0 keeps them out of the gradient.
    return normalize(torch.stack(normals).where(valid[..., None], 0.0), dim=-1), valid
