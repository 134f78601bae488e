"""What every geometric foundation model takes and gives here.

A model's own rules (image range, pixel centres, axis order) end at its door: callers speak the
project's conventions and never the model's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal, Protocol, Self

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sage_core.errors import ConfigError
from sage_core.geometry import SizeRule

ConfidenceKind = Literal["one_plus_exp", "logit", "none"]
"""``one_plus_exp``: 1 or more, a weight; ``logit``: of the probability that the point is right; ``none``:
means nothing."""
ScaleKind = Literal["relative", "unit_mean", "metric"]
"""``relative``: one unknown factor per sample; ``unit_mean``: trained to mean distance 1, never to be divided
by its own mean in the model's own supervised loss; ``metric``: metres."""
ReferenceKind = Literal["first", "none", "chosen"]
"""Whose frame the network itself answers in: view 0's, an arbitrary one, or one of a view that it picks.
What SAGE is given is in view 0's frame always."""


@dataclass(frozen=True)
class Gaussians:
    """Per-pixel splats as a head predicts them; their centres are the pointmap.

    Lengths (``scales``) are in the units of the pointmap and unbounded: a head may predict negative
    ones, which :func:`sage_core.losses.gaussian_scene` clamps before rendering.
    """

    opacities: Tensor
    """[B, V, H, W] in 0..1."""
    scales: Tensor
    """[B, V, H, W, 3] standard deviations along the splat's own axes."""
    rotations: Tensor
    """[B, V, H, W, 4] unit quaternions, order w, x, y, z."""
    colours: Tensor
    """[B, V, H, W, 3·(degree + 1)²] spherical-harmonic coefficients."""


@dataclass(frozen=True)
class GeometryOutput:
    """A model's answer, in float32."""

    points: Tensor
    """[B, V, H, W, 3] pointmaps of all views in the camera frame of view 0 (OpenCV axes)."""
    conf: Tensor
    """[B, V, H, W] confidence; what its numbers mean is ``conf_kind``. Rank it, do not compare models."""
    conf_kind: ConfidenceKind
    scale: ScaleKind
    """The unit of all lengths."""
    gaussians: Gaussians | None = None
    cam_from_world: Tensor | None = None
    """[B, V, 3, 4] with the world being view 0's camera, for models that predict cameras."""
    intrinsics: Tensor | None = None
    """[B, V, 3, 3] in pixels, centres at +0.5, for models that predict cameras."""
    depth: Tensor | None = None
    """[B, V, H, W] z in each view's own camera, for models that predict depth."""
    native: Mapping[str, Tensor] | None = None
    """The model's own answer under its own names, for its own loss; the first dimension is the batch."""


@dataclass(frozen=True)
class Normalisation:
    """What becomes of RGB 0..1 before the network sees it: ``(image - mean) / std``, by channel."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    inside: bool = True
    """Whether upstream's own network does it, or expects it done."""


IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Description:
    """What a user of a model must know of it besides its output."""

    size_rule: SizeRule
    """Which image sizes it was trained for; other multiples of the patch work, less well."""
    normalisation: Normalisation
    reference: ReferenceKind
    scale: ScaleKind
    conf_kind: ConfidenceKind
    view_range: tuple[int, int | None]
    """Fewest views, and the most that its authors show results for; None where they name no limit."""
    supports_view_mask: bool = False
    """Whether views of a batch may be absent."""


class ModelConfig(Protocol):
    """Every width of a model; two that are equal build models with the same tensors."""

    def to_json(self) -> dict[str, Any]:
        """What a weights file keeps of it."""

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The inverse of :meth:`to_json`.

        Raises:
            ConfigError: unknown fields, or values that cannot be.
        """


class GeometricModel(nn.Module, ABC):
    """Base of the models: N unposed images in, pixel-aligned points in view 0's frame out."""

    config: ModelConfig
    image_size: int
    """Longest side in pixels of the images that the weights were trained at."""
    patch_size: int
    """Image sides must be multiples of this."""
    min_views: int = 2
    licence: str = "unknown"
    """Licence of the weights, carried from checkpoint to checkpoint."""
    kept_tensors: dict[str, Tensor] = {}  # noqa: RUF012  replaced, never mutated
    """Tensors of the weights file that this model has no use for, by upstream's names: saving writes
    them back. They take no part in training and stay on the CPU."""
    block_types: tuple[type[nn.Module], ...] = ()
    """Classes of the trunk's blocks: what is checkpointed, compiled and sharded one by one."""
    checkpointing: bool = False
    """Whether :func:`run_block` computes a block again in the backward pass instead of keeping what is
    inside it. A model's ``forward`` passes it on."""

    @abstractmethod
    def forward(self, images: Tensor) -> GeometryOutput:
        """Images [B, V, 3, H, W], RGB 0..1, view 0 being the reference."""

    @property
    @abstractmethod
    def description(self) -> Description:
        """What sizes, units and confidence the model deals in."""

    @abstractmethod
    def group_of(self, name: str) -> str:
        """The group (``encoder``, ``decoder``, a head, …) that a parameter or module belongs to."""

    def blocks(self) -> list[nn.Module]:
        """The trunk's blocks, in definition order."""
        return [module for module in self.modules() if isinstance(module, self.block_types)]

    def parameter_groups(self) -> dict[str, list[tuple[str, nn.Parameter]]]:
        """All parameters by group, in definition order."""
        groups: dict[str, list[tuple[str, nn.Parameter]]] = {}
        for name, parameter in self.named_parameters():
            groups.setdefault(self.group_of(name), []).append((name, parameter))
        return groups

    def freeze(self, groups: Iterable[str] = ("gaussian_head",), *, batchnorm: bool = True) -> None:
        """Train all groups but these, from now on and through every later ``train()``.

        A name that is no group's is a pattern over parameter names (``enc_blocks.0.*``, ``*.weight``).
        The defaults are SAGE's: the Gaussian head stays as it is, so that rendering can only be
        improved by better geometry, and batch-norm layers keep normalising with their running
        statistics, which the small batches of fine-tuning would spoil.

        Raises:
            ConfigError: neither a group nor a pattern that any parameter matches.
        """
        frozen = tuple(groups)
        known = [name for name, _ in self.named_parameters()]
        unknown = [entry for entry in frozen if not any(self.selects(entry, n) for n in known)]
        if unknown:
            raise ConfigError(
                f"cannot freeze {', '.join(sorted(unknown))}: this model's groups are "
                f"{', '.join(self.parameter_groups())}, and no parameter's name matches"
            )
        self._frozen, self._batchnorm_frozen = frozen, batchnorm
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(not self._is_frozen(name) and name not in self._never_trained)
        self.train(self.training)

    def selects(self, entry: str, name: str) -> bool:
        """Whether ``entry``, a group or a pattern over names, takes in a parameter or module."""
        return self.group_of(name) == entry or fnmatchcase(name, entry)

    def most_specific_first(self, entries: Iterable[str]) -> list[str]:
        """Patterns before groups, and longer patterns before shorter ones, in whatever order they came."""
        groups = self.parameter_groups()
        return sorted(entries, key=lambda entry: (entry in groups, -len(entry), entry))

    def _is_frozen(self, name: str) -> bool:
        return any(self.selects(entry, name) for entry in self._frozen)

    _frozen: tuple[str, ...] = ()
    _batchnorm_frozen: bool = False
    _never_trained: frozenset[str] = frozenset()
    """Parameters that exist for the checkpoint's sake and take no part in the forward pass."""

    def train(self, mode: bool = True) -> Self:
        """As in torch, except that what is frozen stays in evaluation mode."""
        super().train(mode)
        for name, module in self.named_modules():
            batchnorm = isinstance(module, nn.modules.batchnorm._BatchNorm)
            if (batchnorm and self._batchnorm_frozen) or (name and self._is_frozen(name)):
                module.training = False
        return self

    def check_images(self, images: Tensor) -> None:
        """Refuse shapes that the model cannot take.

        Raises:
            ConfigError: not [B, V, 3, H, W], too few views, or sides that are no multiple of the patch.
        """
        if images.ndim != 5 or images.shape[2] != 3:
            raise ConfigError(f"images must be [B, V, 3, H, W], got {list(images.shape)}")
        views, height, width = images.shape[1], images.shape[3], images.shape[4]
        if views < self.min_views:
            raise ConfigError(f"this model needs {self.min_views} views or more, got {views}")
        if height % self.patch_size or width % self.patch_size:
            raise ConfigError(
                f"images of {width}x{height} px: both sides must be multiples of the model's "
                f"patch of {self.patch_size} px"
            )

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device


def run_block(block: nn.Module, *inputs: Any, checkpointing: bool) -> Any:
    """A block's output; with ``checkpointing`` and gradients on, what is inside it is not kept but computed
    again in the backward pass. Values and gradients are the same either way.
    """
    if checkpointing and torch.is_grad_enabled():
        return checkpoint(block, *inputs, use_reentrant=False)
    return block(*inputs)
