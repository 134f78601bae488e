"""What a model's confidence means to a loss, by its kind: the one place that tells them apart."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from sage_core.models import ConfidenceKind

HIT_ERROR = 0.02
"""Error below which a point counts as right, in mean distances of the scene (Pi3's confidence target)."""


def confident_loss(
    errors: Tensor, conf: Tensor, alpha: float, kind: ConfidenceKind = "one_plus_exp"
) -> Tensor:
    """The loss per pixel, errors weighted by confidence, and what keeps the confidence honest.

    ``one_plus_exp``: ``conf · error − alpha · ln conf``: doubt costs, confident mistakes cost more.
    ``logit``: ``σ(conf) · error + alpha · BCE(conf, error < HIT_ERROR)``, the weight and the target without
    gradient, so that the confidence is trained to tell right from wrong and by nothing else.
    ``none``: the error.

    Args:
        errors: any shape, >= 0, in mean distances of the scene.
        conf: same shape, as the model of this kind gives it.
    """
    if kind == "one_plus_exp":
        return conf * errors - alpha * conf.log()
    if kind == "none":
        return errors
    right = (errors.detach() < HIT_ERROR).to(conf.dtype)
    doubt = binary_cross_entropy_with_logits(conf, right, reduction="none")
    return conf_weight(conf, kind) * errors + alpha * doubt


def conf_weight(conf: Tensor, kind: ConfidenceKind) -> Tensor:
    """How much each pixel's error counts, >= 0: confidence itself, its probability, or 1.

    Without gradient for ``logit``. Weights of different models are not comparable: rank within one.
    """
    if kind == "one_plus_exp":
        return conf
    return conf.detach().sigmoid() if kind == "logit" else conf.new_ones(conf.shape)
