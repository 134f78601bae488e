"""The transformer block that encoder, aggregator and camera head share. Names are the checkpoint's."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from sage_core.models._rope import Rotary, rotate

NORM_EPS = 1e-5
ENCODER_NORM_EPS = 1e-6


class Mlp(nn.Module):
    def __init__(self, dim: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, outputs)

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.fc2(nn.functional.gelu(self.fc1(tokens)))
        return out


class Attention(nn.Module):
    """Self-attention; queries and keys may be normalised per head, and then turned by position."""

    def __init__(self, dim: int, heads: int, *, normalised: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        if normalised:
            self.q_norm = nn.LayerNorm(dim // heads, NORM_EPS)
            self.k_norm = nn.LayerNorm(dim // heads, NORM_EPS)
        self.normalised = normalised

    def forward(self, tokens: Tensor, rotary: Rotary | None) -> Tensor:
        """Tokens [B, N, D] attend to the tokens of their own item."""
        batch, count, _ = tokens.shape
        q, k, v = self.qkv(tokens).view(batch, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if self.normalised:
            q, k = self.q_norm(q), self.k_norm(k)
        if rotary is not None:
            q, k = rotate(q, rotary), rotate(k, rotary)
        # Normalising and turning are done in float32 whatever the trunk's precision.
        mixed = scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v)
        out: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return out


class LayerScale(nn.Module):
    def __init__(self, dim: int, initial: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), initial))

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens * self.gamma


class Block(nn.Module):
    """Pre-norm transformer block whose branches are scaled per channel."""

    def __init__(
        self,
        dim: int,
        heads: int,
        mlp_ratio: int,
        *,
        initial_scale: float = 0.01,
        norm_eps: float = NORM_EPS,
        normalised: bool = False,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, norm_eps)
        self.attn = Attention(dim, heads, normalised=normalised)
        self.ls1 = LayerScale(dim, initial_scale)
        self.norm2 = nn.LayerNorm(dim, norm_eps)
        self.mlp = Mlp(dim, mlp_ratio * dim, dim)
        self.ls2 = LayerScale(dim, initial_scale)

    def forward(self, tokens: Tensor, rotary: Rotary | None = None) -> Tensor:
        """Tokens [B, N, D]; the residual stream stays float32, since the scales are."""
        tokens = tokens + self.ls1(self.attn(self.norm1(tokens), rotary))
        out: Tensor = tokens + self.ls2(self.mlp(self.norm2(tokens)))
        return out
