"""Every width of VGGT, and which of its two point maps is the answer."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from sage_core.errors import ConfigError

PointSource = Literal["depth", "point_head"]
"""``depth``: unprojected depth and predicted camera, which its authors found the more accurate;
``point_head``: the map that the point head predicts, in which cameras play no part."""


@dataclass(frozen=True)
class VGGTConfig:
    """Widths and depths; the defaults are VGGT-1B's (1,190.6 M parameters without its tracker).

    The image size is free at run time; ``image_size`` sets the grid of the position embedding, which
    is what the weights were trained at.
    """

    image_size: int = 518
    """Side in pixels of the square image whose patches the position embedding counts."""
    patch_size: int = 14
    embed_dim: int = 1024
    num_heads: int = 16
    """Of the patch encoder's and the alternating blocks."""
    vit_depth: int = 24
    aa_depth: int = 24
    """Pairs of a frame block and a global block."""
    mlp_ratio: int = 4
    num_register_tokens: int = 4
    rope_base: float = 100.0
    camera_trunk_depth: int = 4
    camera_num_heads: int = 16
    camera_iterations: int = 4
    dpt_features: int = 256
    dpt_out_channels: tuple[int, ...] = (256, 512, 1024, 1024)
    dpt_layers: tuple[int, ...] = (4, 11, 17, 23)
    """The pairs, from 0, that feed the dense heads."""
    point_head: bool = True
    """False leaves the point head out: its tensors are then kept beside the model."""
    points: PointSource = "depth"
    """Where :attr:`GeometryOutput.points` come from."""
    gaussian_residuals: bool = False
    """Whether Gaussians may learn to differ from the rule that makes them of points and colours. That adds
    two tensors (``gaussian_head.*``) that upstream does not know."""

    def __post_init__(self) -> None:
        self._check_attention()
        self._check_dense_heads()
        if self.image_size % self.patch_size:
            raise ConfigError(
                f"image_size {self.image_size} is no multiple of the patch of {self.patch_size} px"
            )
        if self.points == "point_head" and not self.point_head:
            raise ConfigError("points come from the point head, but the model is to have none")

    def _check_attention(self) -> None:
        if self.embed_dim % (4 * self.num_heads):
            raise ConfigError(
                f"embed_dim {self.embed_dim} over num_heads {self.num_heads}: a head's width must be a "
                "multiple of 4 for the two-dimensional rotary embedding"
            )
        if 2 * self.embed_dim % self.camera_num_heads:
            raise ConfigError(
                f"the camera head is {2 * self.embed_dim} wide, which camera_num_heads "
                f"{self.camera_num_heads} does not divide"
            )

    def _check_dense_heads(self) -> None:
        if len(self.dpt_layers) != 4 or len(self.dpt_out_channels) != 4:
            raise ConfigError(
                f"a dense head reads 4 layers at 4 widths, got dpt_layers {self.dpt_layers} and "
                f"dpt_out_channels {self.dpt_out_channels}"
            )
        if not all(0 <= layer < self.aa_depth for layer in self.dpt_layers):
            raise ConfigError(f"dpt_layers {self.dpt_layers} of {self.aa_depth} pairs of blocks")
        if self.dpt_features % 8 or any(width % 4 for width in self.dpt_out_channels):
            raise ConfigError(
                f"dpt_features {self.dpt_features} must be a multiple of 8 and dpt_out_channels "
                f"{self.dpt_out_channels} of 4, for the sines and cosines of the pixel positions"
            )

    @classmethod
    def vggt_1b(cls) -> VGGTConfig:
        """The published VGGT-1B, its tracker beside it."""
        return cls()

    @classmethod
    def tiny(cls) -> VGGTConfig:
        """The same architecture in miniature (1 M parameters): to try a pipeline out, not to predict."""
        return cls(
            image_size=56,
            embed_dim=48,
            num_heads=4,
            vit_depth=3,
            aa_depth=4,
            camera_num_heads=4,
            dpt_features=16,
            dpt_out_channels=(8, 16, 32, 32),
            dpt_layers=(0, 1, 2, 3),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> VGGTConfig:
        """The inverse of :meth:`to_json`.

        Raises:
            ConfigError: a field that this version does not know, or a value of the wrong kind.
        """
        defaults = {field.name: field.default for field in fields(cls)}
        if unknown := data.keys() - defaults.keys():
            raise ConfigError(
                f"model settings {sorted(unknown)} are unknown; they are {sorted(defaults)}"
            )
        values: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in data.items()
        }
        wrong = {k: v for k, v in values.items() if not _alike(v, defaults[k])}
        if wrong:
            raise ConfigError(f"model settings of the wrong kind: {wrong}")
        return cls(**values)


def _alike(value: Any, default: Any) -> bool:
    """Whether a value read from JSON is of the kind of a field's default."""
    if isinstance(default, tuple):
        return isinstance(value, tuple) and all(type(v) is int for v in value)
    if isinstance(default, str):
        return value in ("depth", "point_head")
    if isinstance(default, float):
        return type(value) in (int, float)
    return type(value) is type(default)
