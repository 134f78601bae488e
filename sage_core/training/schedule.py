"""The learning rate over a run: linear warm-up, then half a cosine."""

from __future__ import annotations

import math


def lr_share(step: int, steps: int, warmup: int, floor: float = 0.0) -> float:
    """Share of the peak learning rate at an optimiser step (0-based).

    Linear from 1/warmup to 1 over the first ``warmup`` steps, then half a cosine that reaches
    ``floor`` (itself a share of the peak) at the last step.
    """
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(steps - 1 - warmup, 1)
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))
