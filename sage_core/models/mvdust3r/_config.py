"""Every width of MV-DUSt3R."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from sage_core.errors import ConfigError


@dataclass(frozen=True)
class MVDust3rConfig:
    """Widths and depths; the defaults are the published model's (548 M parameters).

    The image size is free at run time; ``image_size`` only records what the weights were trained at.
    """

    image_size: int = 224
    """Side in pixels of the training images."""
    patch_size: int = 16
    enc_embed_dim: int = 1024
    enc_depth: int = 24
    enc_num_heads: int = 16
    dec_embed_dim: int = 768
    dec_depth: int = 12
    dec_num_heads: int = 12
    mlp_ratio: int = 4
    skip_dim: int = 256
    """Channels of the point head's convolutional skip branch."""
    gs_mlp_dim: int = 768
    """Hidden width of the Gaussian head's MLPs."""
    sh_degree: int = 0
    cross_reference: bool = False
    """True for MV-DUSt3R+: blocks that let the paths of several reference views exchange."""

    def __post_init__(self) -> None:
        for part in ("enc", "dec"):
            dim, heads = getattr(self, f"{part}_embed_dim"), getattr(self, f"{part}_num_heads")
            if dim % (4 * heads):
                raise ConfigError(
                    f"{part}_embed_dim {dim} over {part}_num_heads {heads}: a head's width must be a "
                    "multiple of 4 for the two-dimensional rotary embedding"
                )

    @classmethod
    def mvdust3r(cls) -> MVDust3rConfig:
        """The published MV-DUSt3R."""
        return cls()

    @classmethod
    def mvdust3r_plus(cls) -> MVDust3rConfig:
        """The published MV-DUSt3R+ (661 M parameters)."""
        return cls(cross_reference=True)

    @classmethod
    def mini(cls) -> MVDust3rConfig:
        """The same architecture, small enough to be trained on two CPU cores (3.3 M parameters)."""
        return cls(
            image_size=64,
            patch_size=8,
            enc_embed_dim=128,
            enc_depth=4,
            enc_num_heads=4,
            dec_embed_dim=128,
            dec_depth=4,
            dec_num_heads=4,
            skip_dim=16,
            gs_mlp_dim=128,
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> MVDust3rConfig:
        """The inverse of :meth:`to_json`.

        Raises:
            ConfigError: a field that this version does not know, or a value that is no number.
        """
        known = {field.name for field in fields(cls)}
        if unknown := data.keys() - known:
            raise ConfigError(
                f"model settings {sorted(unknown)} are unknown; they are {sorted(known)}"
            )
        wrong = {key: value for key, value in data.items() if not isinstance(value, int)}
        if wrong:
            raise ConfigError(f"model settings must be whole numbers, got {wrong}")
        return cls(**data)
