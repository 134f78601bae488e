"""Tokens of all frames, attending in turn within their frame and across all frames."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

import torch
from torch import Tensor, nn

from sage_core.models._rope import Rotary, grid_positions, rotary_table
from sage_core.models.interface import run_block
from sage_core.models.vggt._blocks import Block
from sage_core.models.vggt._config import VGGTConfig
from sage_core.models.vggt._encoder import PatchEncoder


class Aggregator(nn.Module):
    def __init__(self, c: VGGTConfig) -> None:
        super().__init__()
        self.head_width, self.rope_base = c.embed_dim // c.num_heads, c.rope_base
        self.patch_embed = PatchEncoder(c)
        self.camera_token = nn.Parameter(torch.zeros(1, 2, 1, c.embed_dim))
        self.register_token = nn.Parameter(torch.zeros(1, 2, c.num_register_tokens, c.embed_dim))
        self.frame_blocks, self.global_blocks = (
            nn.ModuleList(
                Block(c.embed_dim, c.num_heads, c.mlp_ratio, normalised=True)
                for _ in range(c.aa_depth)
            )
            for _ in range(2)
        )

    @property
    def first_patch(self) -> int:
        """Index of the first patch among a frame's tokens; the camera's and the registers' come before."""
        return 1 + self.register_token.shape[2]

    def forward(
        self, images: Tensor, layers: Collection[int], checkpointing: bool = False
    ) -> dict[int, Tensor]:
        """Images [B, V, 3, H, W] in 0..1 to the tokens [B, V, P, 2C] after the pairs that are asked for.

        A pair's tokens are the frame block's and the global block's answer side by side. Only those
        are kept that a head reads: at 518 px one pair takes 11 MB a frame.
        """
        batch, views = images.shape[:2]
        patches = self.patch_embed(images.flatten(0, 1), checkpointing).unflatten(0, (batch, views))
        tokens = torch.cat((self._own_tokens(batch, views), patches), dim=2)
        rotary = self._rotary(images)
        everywhere = rotary[0].repeat(views, 1), rotary[1].repeat(views, 1)
        run = partial(run_block, checkpointing=checkpointing)
        kept = {}
        for layer in range(max(layers) + 1):
            frames = run(self.frame_blocks[layer], tokens.flatten(0, 1), rotary).view_as(tokens)
            tokens = run(self.global_blocks[layer], frames.flatten(1, 2), everywhere).view_as(
                frames
            )
            if layer in layers:
                kept[layer] = torch.cat((frames, tokens), dim=-1)
        return kept

    def _own_tokens(self, batch: int, views: int) -> Tensor:
        """Camera and register tokens [B, V, 1 + r, C]: one set for view 0, another for all others."""
        own = torch.cat((self.camera_token, self.register_token), dim=2)
        rest = own[:, 1:].expand(-1, views - 1, -1, -1)
        return torch.cat((own[:, :1], rest), dim=1).expand(batch, -1, -1, -1)

    def _rotary(self, images: Tensor) -> Rotary:
        """Patches count from 1; the tokens before them stand at 0, so that they do not turn."""
        rows, columns = (side // self.patch_embed.patch_size for side in images.shape[-2:])
        patches = 1 + grid_positions(rows, columns, images.device)
        positions = torch.cat((patches.new_zeros(self.first_patch, 2), patches))
        return rotary_table(positions, self.head_width, self.rope_base)
