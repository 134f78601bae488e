"""The patch encoder: DINOv2's ViT with registers, of whose tokens only the patches' go on."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from sage_core.models.interface import IMAGENET, run_block
from sage_core.models.vggt._blocks import ENCODER_NORM_EPS, Block
from sage_core.models.vggt._config import VGGTConfig


class PatchEmbed(nn.Module):
    """Non-overlapping patches to tokens, row-major."""

    def __init__(self, patch_size: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, patch_size, patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] to [B, N, dim]."""
        tokens: Tensor = self.proj(images).flatten(2).transpose(1, 2)
        return tokens


class PatchEncoder(nn.Module):
    def __init__(self, c: VGGTConfig) -> None:
        super().__init__()
        self.patch_size, self.grid = c.patch_size, c.image_size // c.patch_size
        dim = c.embed_dim
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.grid**2, dim))
        self.register_tokens = nn.Parameter(torch.zeros(1, c.num_register_tokens, dim))
        self.mask_token = nn.Parameter(torch.zeros(1, dim), requires_grad=False)
        self.patch_embed = PatchEmbed(c.patch_size, dim)
        self.blocks = nn.ModuleList(
            Block(dim, c.num_heads, c.mlp_ratio, initial_scale=1.0, norm_eps=ENCODER_NORM_EPS)
            for _ in range(c.vit_depth)
        )
        self.norm = nn.LayerNorm(dim, ENCODER_NORM_EPS)

    def forward(self, images: Tensor, checkpointing: bool = False) -> Tensor:
        """Images [B, 3, H, W] in 0..1 to the tokens of their patches [B, h·w, C]."""
        mean, std = (images.new_tensor(v).view(3, 1, 1) for v in (IMAGENET.mean, IMAGENET.std))
        rows, columns = (side // self.patch_size for side in images.shape[-2:])
        patches = self.patch_embed((images - mean) / std)
        batch = len(patches)
        tokens = torch.cat((self.cls_token.expand(batch, -1, -1), patches), dim=1)
        tokens = tokens + self.position_embedding(rows, columns)
        registers = self.register_tokens.expand(batch, -1, -1)
        tokens = torch.cat((tokens[:, :1], registers, tokens[:, 1:]), dim=1)
        for block in self.blocks:
            tokens = run_block(block, tokens, checkpointing=checkpointing)
        out: Tensor = self.norm(tokens[:, 1 + registers.shape[1] :])
        return out

    def position_embedding(self, rows: int, columns: int) -> Tensor:
        """[1, 1 + rows·columns, C]: as it was learned, or its patches resized to another grid."""
        if (rows, columns) == (self.grid, self.grid):
            return self.pos_embed
        first, patches = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        square = patches.float().transpose(1, 2).reshape(1, -1, self.grid, self.grid)
        resized = interpolate(
            square, (rows, columns), mode="bicubic", antialias=True, align_corners=False
        )
        return torch.cat((first, resized.flatten(2).transpose(1, 2).to(first.dtype)), dim=1)
