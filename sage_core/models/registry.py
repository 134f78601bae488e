"""The models that SAGE knows: one entry each, and nothing else has to change for a new one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sage_core.errors import CheckpointError, ConfigError
from sage_core.models.adapters import (
    MapAnythingConfig,
    MapAnythingModel,
    Pi3Config,
    Pi3Model,
)
from sage_core.models.interface import GeometricModel, ModelConfig
from sage_core.models.mvdust3r import MVDust3r, MVDust3rConfig
from sage_core.models.vggt import VGGT, VGGTConfig


def _no_aliases(names: Collection[str]) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True)
class Architecture:
    """How weights files become a model of one kind, and the model such files again."""

    name: str
    """As files and settings call it."""
    model: type[GeometricModel]
    """Built from a config alone; on the meta device where ``on_meta``."""
    config: type[ModelConfig]
    licence: str
    """Licence of the published weights, for files that do not tell."""
    marks: tuple[str, ...]
    """Beginnings of tensor names, all of which a state dict of this kind has."""
    published: Callable[[Collection[str], Path], ModelConfig]
    """Widths of the published model that has tensors of these names, in a file of that path."""
    presets: Mapping[str, Callable[[], ModelConfig]] = field(default_factory=dict)
    """Widths by name; names are unique over all architectures."""
    kept: tuple[str, ...] = ()
    """Beginnings of the names of tensors that upstream has and the model does not need: they may be
    absent, and where they are present they are kept and written back."""
    fresh: tuple[str, ...] = ()
    """Beginnings of the names of tensors that upstream does not have: where a file has none they are 0."""
    aliases: Callable[[Collection[str]], Mapping[str, str]] = _no_aliases
    """For the names in a file: absent tensors that start as copies, and of which tensors."""
    nested: bool = False
    """Whether upstream's own files hold the state dict under ``model``, or are the state dict."""
    prefix: str = ""
    """What our names have in front of upstream's."""
    on_meta: bool = True
    """Whether the model can be built without storage, so that loading takes the weights' memory once."""

    def recognises(self, names: Collection[str]) -> bool:
        """Whether a state dict with these names is of this kind."""
        return all(any(name.startswith(mark) for name in names) for mark in self.marks)

    def keeps(self, name: str) -> bool:
        """Whether a tensor that the model does not need is kept for upstream's sake."""
        return name.startswith(self.kept) if self.kept else False


def _mvdust3r_published(names: Collection[str], path: Path) -> MVDust3rConfig:
    plus = any(name.startswith("dec_same_view_blocks.") for name in names)
    return MVDust3rConfig(cross_reference=plus)


def _one_decoder_for_both(names: Collection[str]) -> Mapping[str, str]:
    """DUSt3R-like files may hold one decoder for all views: the sources' then starts as its copy."""
    if any(name.startswith("dec_blocks2.") for name in names):
        return {}
    return {
        name.replace("dec_blocks.", "dec_blocks2.", 1): name
        for name in names
        if name.startswith("dec_blocks.")
    }


MVDUST3R = Architecture(
    name="mvdust3r",
    model=MVDust3r,
    config=MVDust3rConfig,
    licence="CC BY-NC 4.0",
    marks=("patch_embed.proj.", "enc_blocks.", "dec_blocks.", "downstream_head1."),
    published=_mvdust3r_published,
    presets={
        "mini": MVDust3rConfig.mini,
        "mvdust3r": MVDust3rConfig.mvdust3r,
        "mvdust3r_plus": MVDust3rConfig.mvdust3r_plus,
    },
    aliases=_one_decoder_for_both,
    nested=True,
)


def _vggt_published(names: Collection[str], path: Path) -> VGGTConfig:
    return VGGTConfig(point_head=any(name.startswith("point_head.") for name in names))


VGGT_1 = Architecture(
    name="vggt",
    model=VGGT,
    config=VGGTConfig,
    licence="VGGT-1B: non-commercial; VGGT-1B-Commercial: VGGT License v1",
    marks=("aggregator.frame_blocks.", "aggregator.global_blocks.", "camera_head.", "depth_head."),
    published=_vggt_published,
    presets={"vggt": VGGTConfig.vggt_1b},
    kept=("track_head.", "point_head."),
    fresh=("gaussian_head.",),
)


def _pi3_published(names: Collection[str], path: Path) -> Pi3Config:
    return Pi3Config("pi3x" if "metric_token" in names else "pi3")


PI3 = Architecture(
    name="pi3",
    model=Pi3Model,
    config=Pi3Config,
    licence="CC BY-NC 4.0",
    marks=("encoder.blocks.", "decoder.", "point_decoder.", "camera_decoder.", "conf_decoder."),
    published=_pi3_published,
    kept=("depth_encoder.", "depth_emb", "ray_embed.", "pose_inject_blk."),
    prefix="network.",
    on_meta=False,
)

MAPANYTHING = Architecture(
    name="mapanything",
    model=MapAnythingModel,
    config=MapAnythingConfig,
    licence="CC BY-NC 4.0, or Apache-2.0 for map-anything-apache",
    marks=("encoder.", "info_sharing.", "dense_head.", "pose_head.", "scale_head."),
    published=lambda names, path: MapAnythingConfig.beside(path),
    prefix="network.",
    on_meta=False,
)

ARCHITECTURES: tuple[Architecture, ...] = (MVDUST3R, VGGT_1, PI3, MAPANYTHING)


def architecture(name: str) -> Architecture:
    """The entry of that name.

    Raises:
        CheckpointError: no such architecture.
    """
    for entry in ARCHITECTURES:
        if entry.name == name:
            return entry
    raise CheckpointError(f"no architecture {name!r}: this SAGE knows {', '.join(known())}")


def known() -> list[str]:
    """Names of all architectures."""
    return [entry.name for entry in ARCHITECTURES]


def architecture_of(thing: GeometricModel | ModelConfig) -> Architecture:
    """The entry whose model, or whose config, this is.

    Raises:
        ConfigError: of no registered kind.
    """
    for entry in ARCHITECTURES:
        kinds: tuple[Any, ...] = (entry.model, entry.config)
        if isinstance(thing, kinds):
            return entry
    raise ConfigError(f"{type(thing).__name__} is no registered model: {', '.join(known())} are")


def recognise(names: Collection[str]) -> Architecture | None:
    """The architecture whose state dict has such names, or None."""
    return next((entry for entry in ARCHITECTURES if entry.recognises(names)), None)


def model_config(name: str) -> ModelConfig:
    """The widths of a named preset.

    Raises:
        ConfigError: no such preset.
    """
    named = {preset: make for entry in ARCHITECTURES for preset, make in entry.presets.items()}
    if name not in named:
        raise ConfigError(f"no model {name!r}: choose one of {', '.join(named)}")
    return named[name]()
