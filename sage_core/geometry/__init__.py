"""Cameras, poses and pixels, under one set of conventions (``docs/conventions.md``).

OpenCV axes; ``cam_from_world`` is 3x4 ``[R | t]``; intrinsics in pixels with pixel centres at +0.5.
numpy here; :mod:`sage_core.geometry.batched` holds the torch twins that training differentiates through.
"""

from sage_core.geometry.cameras import Camera
from sage_core.geometry.pixels import PixelMap, fit_long_side
from sage_core.geometry.poses import (
    Sim3,
    camera_centres,
    compose,
    intrinsics_matrix,
    intrinsics_vector,
    invert,
    pixel_centres,
    project,
    relative,
    rotation_angle_deg,
    transform,
    umeyama,
    unproject,
)
from sage_core.geometry.sizes import SizeKind, SizeRule

__all__ = [
    "Camera",
    "PixelMap",
    "Sim3",
    "SizeKind",
    "SizeRule",
    "camera_centres",
    "compose",
    "fit_long_side",
    "intrinsics_matrix",
    "intrinsics_vector",
    "invert",
    "pixel_centres",
    "project",
    "relative",
    "rotation_angle_deg",
    "transform",
    "umeyama",
    "unproject",
]
