"""What is computed in bfloat16: the trunk, under autocast. All else is float32, weights included."""

from __future__ import annotations

import torch

from sage_core.config.adapt import AdaptConfig


def half(adapt: AdaptConfig, device: torch.device) -> bool:
    """Whether the trunk computes in bfloat16 on this device."""
    if adapt.precision == "auto":
        return device.type == "cuda"
    return adapt.precision == "bfloat16"


def trunk_autocast(device: torch.device, enabled: bool) -> torch.autocast:
    """Around a model's forward pass; a model switches it off for its heads itself."""
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)
