"""Differentiable 3D Gaussian splatting: one function, a CPU and a GPU backend."""

from sage_core.splatting._constants import RasterConstants
from sage_core.splatting._render import Backend, missing_backend, render

__all__ = ["Backend", "RasterConstants", "missing_backend", "render"]
