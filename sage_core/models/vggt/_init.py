"""Initial weights, for training from scratch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from sage_core.models.vggt._encoder import PatchEncoder

if TYPE_CHECKING:
    from sage_core.models.vggt._model import VGGT

_TOKEN_STD = 1e-6
_ENCODER_STD = 0.02


def initialise(model: VGGT) -> None:
    """Draw every weight from torch's global generator; seed that for a repeatable start.

    Heads and alternating blocks keep torch's own initial weights.
    """
    aggregator = model.aggregator
    for token in (aggregator.camera_token, aggregator.register_token):
        nn.init.normal_(token, std=_TOKEN_STD)
    _initialise_encoder(aggregator.patch_embed)


def _initialise_encoder(encoder: PatchEncoder) -> None:
    for module in encoder.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=_ENCODER_STD)
            nn.init.zeros_(module.bias)
    nn.init.trunc_normal_(encoder.pos_embed, std=_ENCODER_STD)
    for token in (encoder.cls_token, encoder.register_tokens):
        nn.init.normal_(token, std=_TOKEN_STD)
