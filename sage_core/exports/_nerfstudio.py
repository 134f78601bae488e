"""nerfstudio's ``transforms.json``, with pictures and a point cloud beside it.

Its cameras look along -z with y up (OpenGL), and a matrix is world-from-camera:
``transform_matrix = inverse(cam_from_world) @ diag(1, -1, -1, 1)``. Pixel centres are at +0.5, as here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sage_core.exports._scene import Scene, appearing, picture_name
from sage_core.geometry.poses import intrinsics_vector
from sage_core.shards import FrameRecord
from sage_core.shards.records import PointCloud

OPENGL_FROM_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])


def write_nerfstudio(scene: Scene, out: Path) -> None:
    """Write ``<clip>/transforms.json``, ``<clip>/images/*.jpg`` and ``<clip>/points.ply``."""
    with appearing(out / scene.name) as folder:
        (folder / "images").mkdir(parents=True)
        frames = []
        for frame in scene.frames():
            (folder / "images" / picture_name(frame)).write_bytes(frame.image)
            frames.append(_frame(frame))
        (folder / "points.ply").write_bytes(_ply(scene.points()))
        found = {"camera_model": "OPENCV", "ply_file_path": "points.ply", "frames": frames}
        (folder / "transforms.json").write_text(json.dumps(found, indent=1) + "\n")


def opengl_world_from_camera(cam_from_world: NDArray[np.float64]) -> NDArray[np.float64]:
    """4x4 matrix of a camera with OpenGL's axes, from a 3x4 of OpenCV's."""
    whole = np.vstack([cam_from_world, [0.0, 0.0, 0.0, 1.0]])
    return np.asarray(np.linalg.inv(whole) @ OPENGL_FROM_OPENCV)


def _frame(frame: FrameRecord) -> dict[str, Any]:
    fx, fy, cx, cy = (float(value) for value in intrinsics_vector(frame.intrinsics))
    return {
        "file_path": f"images/{picture_name(frame)}",
        "transform_matrix": opengl_world_from_camera(frame.cam_from_world).tolist(),
        "time": frame.time_s,
        "fl_x": fx,
        "fl_y": fy,
        "cx": cx,
        "cy": cy,
        **dict.fromkeys(("k1", "k2", "p1", "p2"), 0.0),
        "w": frame.width,
        "h": frame.height,
    }


def _ply(points: PointCloud) -> bytes:
    """The points in binary PLY, little-endian."""
    fields = [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("r", "u1"), ("g", "u1"), ("b", "u1")]
    rows = np.empty(len(points.ids), fields)
    for name, values in zip("xyz", points.xyz.T, strict=True):
        rows[name] = values
    for name, values in zip("rgb", points.rgb.T, strict=True):
        rows[name] = values
    colours = "".join(f"property uchar {name}\n" for name in ("red", "green", "blue"))
    places = "".join(f"property float {name}\n" for name in "xyz")
    head = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(rows)}\n{places}{colours}end_header\n"
    return head.encode() + rows.tobytes()
