"""The network: a shared encoder, a decoder in which all views see each other, and two kinds of heads."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sage_core.errors import ConfigError
from sage_core.geometry import SizeRule
from sage_core.models.interface import (
    Description,
    Gaussians,
    GeometricModel,
    GeometryOutput,
    Normalisation,
    run_block,
)
from sage_core.models.mvdust3r._blocks import NORM_EPS, DecoderBlock, EncoderBlock, PatchEmbed
from sage_core.models.mvdust3r._config import MVDust3rConfig
from sage_core.models.mvdust3r._heads import GaussianHead, PointHead
from sage_core.models.mvdust3r._init import initialise
from sage_core.models.mvdust3r._rope import rotary_table

_GROUPS = {
    "patch_embed": "encoder",
    "enc_blocks": "encoder",
    "enc_norm": "encoder",
    "mask_token": "decoder",
    "decoder_embed": "decoder",
    "dec_blocks": "decoder",
    "dec_blocks2": "decoder",
    "dec_same_view_blocks": "decoder",
    "dec_norm": "decoder",
    "downstream_head1": "point_head",
    "downstream_head2": "point_head",
    "downstream_GS_head": "gaussian_head",
}


class MVDust3r(GeometricModel):
    """MV-DUSt3R; with ``config.cross_reference`` MV-DUSt3R+.

    Module names, and so the keys of ``state_dict()``, are those of the published checkpoints. View 0
    is the reference; nothing but the weights that process it tells it from the sources.
    """

    config: MVDust3rConfig
    block_types = (EncoderBlock, DecoderBlock)
    _never_trained = frozenset({"mask_token"})

    def __init__(self, config: MVDust3rConfig) -> None:
        super().__init__()
        c = self.config = config
        self.patch_size, self.image_size = c.patch_size, c.image_size
        self.mask_token = nn.Parameter(torch.zeros(1, 1, c.dec_embed_dim), requires_grad=False)
        self.patch_embed = PatchEmbed(c.patch_size, c.enc_embed_dim)
        self.enc_blocks = nn.ModuleList(
            EncoderBlock(c.enc_embed_dim, c.enc_num_heads, c.mlp_ratio) for _ in range(c.enc_depth)
        )
        self.enc_norm = nn.LayerNorm(c.enc_embed_dim, NORM_EPS)
        self.decoder_embed = nn.Linear(c.enc_embed_dim, c.dec_embed_dim)
        self.dec_blocks = _decoder_stack(c)
        self.dec_blocks2 = _decoder_stack(c)
        if c.cross_reference:
            self.dec_same_view_blocks = _decoder_stack(c)
        self.dec_norm = nn.LayerNorm(c.dec_embed_dim, NORM_EPS)
        self.downstream_head1 = PointHead(c.dec_embed_dim, c.patch_size, c.skip_dim)
        self.downstream_head2 = PointHead(c.dec_embed_dim, c.patch_size, c.skip_dim)
        self.downstream_GS_head = nn.ModuleList(
            GaussianHead(c.dec_embed_dim, c.patch_size, c.gs_mlp_dim, c.sh_degree) for _ in range(2)
        )
        if not self.mask_token.is_meta:
            initialise(self)

    @property
    def description(self) -> Description:
        return Description(
            size_rule=SizeRule("square", self.config.image_size, self.patch_size),
            normalisation=Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), inside=False),
            reference="first",
            scale="relative",
            conf_kind="one_plus_exp",
            view_range=(self.min_views, 24),
        )

    def group_of(self, name: str) -> str:
        return _GROUPS[name.partition(".")[0]]

    def forward(self, images: Tensor, references: int = 1) -> GeometryOutput:
        """Points, confidence and Gaussians of all views in view 0's camera frame.

        Args:
            images: [B, V, 3, H, W], RGB 0..1, V >= 2, sides multiples of the patch.
            references: R, how many of the first views serve as reference, each in a path of its own.
                With R > 1 the batch of the answer is B·R, row b·R + r being in the frame of view r,
                with the slots 0 and r swapped (:func:`swap_reference`); row b·R is *the* result.

        Raises:
            ConfigError: shapes that the model cannot take.
        """
        self.check_images(images)
        if not 1 <= references <= images.shape[1]:
            raise ConfigError(f"{references} references asked of {images.shape[1]} views")
        images = 2 * images - 1
        tokens = self.encode(images)
        grid = (images.shape[-2] // self.patch_size, images.shape[-1] // self.patch_size)
        tokens = self.decode(swap_reference(tokens, references), references, grid)
        # Exponentials, batch norm and everything after need more digits than bfloat16 has.
        with torch.autocast(images.device.type, enabled=False):
            return self._heads(tokens.float(), swap_reference(images, references).float(), grid)

    def encode(self, images: Tensor) -> Tensor:
        """Images [B, V, 3, H, W] in -1..1 to tokens [B, V, N, D] at the decoder's width."""
        grid = (images.shape[-2] // self.patch_size, images.shape[-1] // self.patch_size)
        head = self.config.enc_embed_dim // self.config.enc_num_heads
        rotary = rotary_table(*grid, head, images.device)
        tokens = self.patch_embed(images.flatten(0, 1))
        for block in self.enc_blocks:
            tokens = self._run(block, tokens, rotary)
        tokens = self.decoder_embed(self.enc_norm(tokens))
        return tokens.unflatten(0, images.shape[:2])  # type: ignore[no-any-return]

    def decode(self, tokens: Tensor, references: int, grid: tuple[int, int]) -> Tensor:
        """Tokens [B·R, V, N, D], slot 0 of each row its reference, through all decoder layers."""
        head = self.config.dec_embed_dim // self.config.dec_num_heads
        rotary = rotary_table(*grid, head, tokens.device)
        exchange = self.config.cross_reference and references > 1
        for layer in range(self.config.dec_depth):
            reference = self._run(self.dec_blocks[layer], tokens, slice(0, 1), rotary)
            sources = self._run(self.dec_blocks2[layer], tokens, slice(1, None), rotary)
            tokens = torch.cat((reference, sources), dim=1)
            if exchange:
                # Same view, other paths: views become the batch and paths the slots.
                paths = _unswap(tokens, references).transpose(1, 2)
                block = self.dec_same_view_blocks[layer]
                mixed = self._run(block, paths.flatten(0, 1), slice(None), rotary).view_as(paths)
                tokens = _swap_paths(mixed.transpose(1, 2)).flatten(0, 1)
        return self.dec_norm(tokens)  # type: ignore[no-any-return]

    def _run(self, block: nn.Module, *inputs: Any) -> Tensor:
        out: Tensor = run_block(block, *inputs, checkpointing=self.checkpointing)
        return out

    def _heads(self, tokens: Tensor, images: Tensor, grid: tuple[int, int]) -> GeometryOutput:
        first = self._points(self.downstream_head1, tokens[:, 0], images[:, 0])
        rest = self._source_points(tokens[:, 1:], images[:, 1:])
        points, conf = (torch.cat((a[:, None], b), dim=1) for a, b in zip(first, rest, strict=True))
        first = self.downstream_GS_head[0](tokens[:, 0], grid)
        rest = self.downstream_GS_head[1](tokens[:, 1:].flatten(0, 1), grid)
        shape = (tokens.shape[0], -1)
        splats = [
            torch.cat((a[:, None], b.unflatten(0, shape)), dim=1)
            for a, b in zip(first, rest, strict=True)
        ]
        return GeometryOutput(points, conf, "one_plus_exp", "relative", Gaussians(*splats))

    def _points(self, head: PointHead, tokens: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        # Computed again, batch norm would count the batch twice.
        again = self.checkpointing and not head.gathers_statistics
        points, conf = run_block(head, tokens, images, checkpointing=again)
        return points, conf

    def _source_points(self, tokens: Tensor, images: Tensor) -> list[Tensor]:
        """Points and confidence of the sources [B, V-1, …].

        While batch norm gathers statistics, each view is a batch of its own, in view order, as in
        the published training; otherwise the views are independent and go together. With checkpointing
        they go one by one too, so that one view's maps (0.4 GB at 224 px) are in memory at a time.
        """
        head = self.downstream_head2
        if head.gathers_statistics or self.checkpointing:
            views = [self._points(head, tokens[:, v], images[:, v]) for v in range(tokens.shape[1])]
            return [torch.stack(parts, dim=1) for parts in zip(*views, strict=True)]
        shape = tokens.shape[:2]
        return [out.unflatten(0, shape) for out in head(tokens.flatten(0, 1), images.flatten(0, 1))]


def _decoder_stack(c: MVDust3rConfig) -> nn.ModuleList:
    return nn.ModuleList(
        DecoderBlock(c.dec_embed_dim, c.dec_num_heads, c.mlp_ratio) for _ in range(c.dec_depth)
    )


def swap_reference(views: Tensor, references: int) -> Tensor:
    """[B, V, …] to [B·R, V, …]: row b·R + r has its slots 0 and r swapped, so that view r leads."""
    if references == 1:
        return views
    return _swap_paths(views[:, None].expand(-1, references, *views.shape[1:])).flatten(0, 1)


def _unswap(rows: Tensor, references: int) -> Tensor:
    """[B·R, V, …] to [B, R, V, …] with the views back in their own slots; a swap undoes itself."""
    return _swap_paths(rows.reshape(-1, references, *rows.shape[1:]))


def _swap_paths(paths: Tensor) -> Tensor:
    """Swap slots 0 and r of path r in [B, R, V, …]."""
    count, views = paths.shape[1:3]
    order = torch.arange(views, device=paths.device).repeat(count, 1)
    path = torch.arange(count, device=paths.device)
    order[path, 0], order[path, path] = path, torch.zeros_like(path)
    return paths[:, path[:, None], order]
