"""Metrics as TensorBoard events."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sage_core.errors import ConfigError

_FAMILIES = {"terms": "loss", "grad_norms": "grad_norm", "lrs": "lr"}
_SINGLE = {
    "grad_norm": "grad_norm/total",
    "samples_per_s": "speed/samples_per_s",
    "mfu": "speed/mfu",
    "data_wait_share": "speed/data_wait_share",
    "memory_mb": "memory/mb",
    "views": "views",
    "skipped": "skipped",
}


def check_tensorboard() -> None:
    """Find out before training starts whether events can be written.

    Raises:
        ConfigError: the package is not there.
    """
    try:
        from torch.utils import tensorboard  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "adapt.tensorboard is on and the package tensorboard is not installed: install SAGE's extra "
            "'viewer' (python -m pip install 'sage-video3d[viewer]'), or switch it off; metrics.jsonl holds "
            "the same figures"
        ) from error


class Board:
    """Event files in a folder; a resumed run hides the events of the steps that it does again."""

    def __init__(self, folder: Path, next_step: int) -> None:
        """Begin a new event file.

        Raises:
            ConfigError: the package tensorboard is not there.
        """
        check_tensorboard()
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder), purge_step=next_step or None)

    def write(self, line: Mapping[str, Any]) -> None:
        """One line of ``metrics.jsonl`` as scalars."""
        step = line["step"]
        for field, family in _FAMILIES.items():
            for name, value in line[field].items():
                self._writer.add_scalar(f"{family}/{name}", value, step)
        for field, tag in _SINGLE.items():
            if line.get(field) is not None:
                self._writer.add_scalar(tag, float(line[field]), step)

    def picture(self, step: int, image: NDArray[np.uint8]) -> None:
        """An RGB image [H, W, 3]."""
        self._writer.add_image("targets_and_renders", image, step, dataformats="HWC")

    def close(self) -> None:
        """Write out what is pending."""
        self._writer.close()
