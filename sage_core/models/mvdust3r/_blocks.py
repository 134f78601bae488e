"""Transformer blocks. Module names are the published checkpoints'."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from sage_core.models._rope import Rotary, rotate

NORM_EPS = 1e-6


def _split_heads(tokens: Tensor, heads: int) -> Tensor:
    """[..., N, D] to [..., heads, N, D / heads]."""
    return tokens.reshape(*tokens.shape[:-1], heads, -1).transpose(-3, -2)


def _join_heads(tokens: Tensor) -> Tensor:
    return tokens.transpose(-3, -2).flatten(-2)


class PatchEmbed(nn.Module):
    """Non-overlapping patches to tokens, row-major."""

    def __init__(self, patch_size: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, patch_size, patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] to [B, N, dim]."""
        tokens: Tensor = self.proj(images).flatten(2).transpose(1, 2)
        return tokens


class Mlp(nn.Module):
    def __init__(self, dim: int, ratio: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, dim * ratio)
        self.fc2 = nn.Linear(dim * ratio, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.fc2(nn.functional.gelu(self.fc1(tokens)))
        return out


class SelfAttention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor, rotary: Rotary) -> Tensor:
        """Tokens [B, N, D] attend to the tokens of their own item."""
        q, k, v = (_split_heads(part, self.heads) for part in self.qkv(tokens).chunk(3, dim=-1))
        mixed = scaled_dot_product_attention(rotate(q, rotary), rotate(k, rotary), v)
        out: Tensor = self.proj(_join_heads(mixed))
        return out


class CrossAttention(nn.Module):
    """Each of some slots attends to the tokens of all *other* slots in one softmax."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.projq = nn.Linear(dim, dim)
        self.projk = nn.Linear(dim, dim)
        self.projv = nn.Linear(dim, dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, queries: Tensor, memory: Tensor, others: Tensor, rotary: Rotary) -> Tensor:
        """Queries [B, Q, N, D] read memory [B, S, N, D]; ``others`` [Q, S'] names who reads whom.

        Keys and values are projected once per slot and gathered per reader, which is far cheaper
        than projecting every reader's own concatenation.
        """
        batch, readers = queries.shape[:2]
        q = rotate(_split_heads(self.projq(queries), self.heads), rotary)
        k = rotate(_split_heads(self.projk(memory), self.heads), rotary)
        v = _split_heads(self.projv(memory), self.heads)
        k, v = (self._gather(part, others) for part in (k, v))
        mixed = scaled_dot_product_attention(q.flatten(0, 1), k, v)
        out: Tensor = self.proj(_join_heads(mixed)).unflatten(0, (batch, readers))
        return out

    @staticmethod
    def _gather(part: Tensor, others: Tensor) -> Tensor:
        """[B, S, heads, N, d] to [B·Q, heads, S'·N, d]."""
        return part[:, others].flatten(0, 1).transpose(1, 2).flatten(2, 3)


class EncoderBlock(nn.Module):
    def __init__(self, dim: int, heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, NORM_EPS)
        self.attn = SelfAttention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, NORM_EPS)
        self.mlp = Mlp(dim, mlp_ratio)

    def forward(self, tokens: Tensor, rotary: Rotary) -> Tensor:
        tokens = tokens + self.attn(self.norm1(tokens), rotary)
        out: Tensor = tokens + self.mlp(self.norm2(tokens))
        return out


class DecoderBlock(nn.Module):
    """Self-attention within a slot (a view), then cross-attention to the other slots."""

    def __init__(self, dim: int, heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, NORM_EPS)
        self.attn = SelfAttention(dim, heads)
        self.cross_attn = CrossAttention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, NORM_EPS)
        self.norm3 = nn.LayerNorm(dim, NORM_EPS)
        self.norm_y = nn.LayerNorm(dim, NORM_EPS)
        self.mlp = Mlp(dim, mlp_ratio)

    def forward(self, tokens: Tensor, readers: slice, rotary: Rotary) -> Tensor:
        """Tokens [B, S, N, D] of all slots; gives the new tokens [B, Q, N, D] of ``readers`` only.

        All slots are read as they came in, so the blocks of one layer do not depend on their order.
        """
        own = tokens[:, readers]
        batch = own.shape[0]
        own = own + self.attn(self.norm1(own).flatten(0, 1), rotary).unflatten(0, (batch, -1))
        others = _all_but_self(tokens.shape[1], readers, tokens.device)
        own = own + self.cross_attn(self.norm2(own), self.norm_y(tokens), others, rotary)
        out: Tensor = own + self.mlp(self.norm3(own))
        return out


def _all_but_self(slots: int, readers: slice, device: torch.device) -> Tensor:
    """Row q lists the slots that the q-th reader reads: all but its own."""
    rows = [[s for s in range(slots) if s != reader] for reader in range(slots)[readers]]
    return torch.tensor(rows, device=device)
