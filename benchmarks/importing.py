"""What the children of :mod:`benchmarks.starts` do; by itself, so that they import nothing else."""

import importlib
from collections.abc import Sequence


def import_all(modules: Sequence[str]) -> int:
    """Import them, and say how many."""
    return len([importlib.import_module(module) for module in modules])
