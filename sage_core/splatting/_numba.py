"""How this package's kernels are compiled.

Numba's cache knows a kernel's own file only. Who changes what kernels call from another file (the lanes, the
tiles, a constant) has to delete ``__pycache__`` to see it.
"""

from __future__ import annotations

from typing import Any

import numba
import torch

_OPTIONS: dict[str, Any] = {
    "cache": True,
    # Division by zero gives inf or nan, as everywhere in torch, and costs no branch.
    "error_model": "numpy",
    # Never "fastmath", not even fused multiply-adds: which are fused is the compiler's mood, and kernels
    # read from the cache then gave other bits than the same kernels compiled just now.
    "fastmath": False,
}

kernel = numba.njit(**_OPTIONS)
# Pasted into its callers: a call that stays one counts references to its arrays, atomically.
inlined = numba.njit(inline="always", **_OPTIONS)
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
