"""Cameras from the frames' camera tokens, in a few rounds of correction."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from sage_core.models.interface import run_block
from sage_core.models.vggt._blocks import NORM_EPS, Block, Mlp
from sage_core.models.vggt._config import VGGTConfig

MODULATED_NORM_EPS = 1e-6
CODE = 9


class CameraHead(nn.Module):
    def __init__(self, c: VGGTConfig) -> None:
        super().__init__()
        dim = 2 * c.embed_dim
        self.iterations = c.camera_iterations
        self.token_norm = nn.LayerNorm(dim, NORM_EPS)
        self.trunk_norm = nn.LayerNorm(dim, NORM_EPS)
        self.empty_pose_tokens = nn.Parameter(torch.zeros(1, 1, CODE))
        self.embed_pose = nn.Linear(CODE, dim)
        self.poseLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 3 * dim))
        self.trunk = nn.ModuleList(
            Block(dim, c.camera_num_heads, c.mlp_ratio) for _ in range(c.camera_trunk_depth)
        )
        self.pose_branch = Mlp(dim, c.embed_dim, CODE)

    def forward(self, tokens: Tensor, checkpointing: bool = False) -> Tensor:
        """Camera tokens [B, V, 2C] to the pose code after each round, [B, rounds, V, 9].

        What is fed back is detached and as it left the branch, before the fields of view are clamped:
        each round learns from its own correction alone.
        """
        tokens = self.token_norm(tokens)
        code = self.empty_pose_tokens.expand(*tokens.shape[:2], -1)
        total, rounds = torch.zeros_like(code), []
        for _ in range(self.iterations):
            total = total.detach() + self._correction(tokens, code, checkpointing)
            code = total.detach()
            rounds.append(torch.cat((total[..., :7], total[..., 7:].relu()), dim=-1))
        return torch.stack(rounds, dim=1)

    def _correction(self, tokens: Tensor, code: Tensor, checkpointing: bool) -> Tensor:
        shift, scale, gate = self.poseLN_modulation(self.embed_pose(code)).chunk(3, dim=-1)
        plain = layer_norm(tokens, tokens.shape[-1:], eps=MODULATED_NORM_EPS)
        tokens = tokens + gate * (plain * (1 + scale) + shift)
        for block in self.trunk:
            tokens = run_block(block, tokens, checkpointing=checkpointing)
        out: Tensor = self.pose_branch(self.trunk_norm(tokens))
        return out
