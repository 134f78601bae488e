"""Initial weights, as the published training began new parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from sage_core.models.mvdust3r._blocks import PatchEmbed
from sage_core.models.mvdust3r._heads import GaussianHead, PointHead

if TYPE_CHECKING:
    from sage_core.models.mvdust3r._model import MVDust3r


def initialise(model: MVDust3r) -> None:
    """Draw every weight from torch's global generator; seed that for a repeatable start."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and model.group_of(name) in ("encoder", "decoder"):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, PatchEmbed):
            nn.init.xavier_uniform_(module.proj.weight.view(module.proj.weight.shape[0], -1))
        elif isinstance(module, GaussianHead):
            _initialise_gaussian_head(module)
        elif isinstance(module, PointHead):
            for parameter in module.skip_proj.get_submodule("3.conv").parameters():
                nn.init.zeros_(parameter)
    nn.init.normal_(model.mask_token, std=0.02)
    model.dec_blocks2.load_state_dict(model.dec_blocks.state_dict())
    if model.config.cross_reference:
        _start_as_identity(model.dec_same_view_blocks)


def _initialise_gaussian_head(head: GaussianHead) -> None:
    for module in head.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02, a=-2, b=2)


def _start_as_identity(blocks: nn.ModuleList) -> None:
    """Zero the last linear of every residual branch, so that MV-DUSt3R+ starts as MV-DUSt3R."""
    for name, parameter in blocks.named_parameters():
        if name.split(".", 1)[1].rpartition(".")[0] in ("attn.proj", "cross_attn.proj", "mlp.fc2"):
            nn.init.zeros_(parameter)
