"""How this package's kernels are compiled."""

from __future__ import annotations

from typing import Any

import numba
import torch

_OPTIONS: dict[str, Any] = {
    "cache": True,
    # Division by zero gives inf or nan, as everywhere in torch, and costs no branch.
    "error_model": "numpy",
    # Multiply-adds may be fused. Sums keep their order, or results would depend on the compiler's mood.
    "fastmath": {"contract"},
}

kernel = numba.njit(**_OPTIONS)
parallel_kernel = numba.njit(parallel=True, **_OPTIONS)


def share_threads() -> None:
    """Let the kernels use as many threads as torch does now, as far as numba has them.

    The first call starts numba's pool, which sets OpenMP's thread count, and with it torch's, to all
    cores. So that is put back here, and nobody else has to know.
    """
    wanted = torch.get_num_threads()
    numba.set_num_threads(min(wanted, numba.config.NUMBA_NUM_THREADS))
    if torch.get_num_threads() != wanted:
        torch.set_num_threads(wanted)
