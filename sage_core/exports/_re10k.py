"""RealEstate10K's camera files (https://google.github.io/realestate10k/download.html): no pixel is in them.

A line for the video's URL, then one a frame: the time stamp in microseconds; fx, fy, cx, cy as shares of the
picture's width and height; two zeros; the 3x4 camera-from-world matrix row by row, OpenCV axes.
"""

from __future__ import annotations

from pathlib import Path

from sage_core.acquisition.credentials import redacted
from sage_core.exports._scene import Scene, appearing
from sage_core.geometry.poses import intrinsics_vector
from sage_core.shards import FrameRecord


def write_camera_file(scene: Scene, out: Path) -> str | None:
    """Write ``<clip>.txt``; returns why there is none for a scene that has no video with a clock."""
    if not scene.info.ordered:
        return "a photo set has no time stamps"
    if "://" not in scene.url:
        return "it has no URL: who reads this form must fetch the video"
    lines = [
        redacted("".join(scene.url.split())),
        *(camera_line(frame) for frame in scene.frames()),
    ]
    with appearing(out / f"{scene.name}.txt") as file:
        file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return None


def camera_line(frame: FrameRecord) -> str:
    """One frame's line; numbers keep all of their digits."""
    fx, fy, cx, cy = (float(value) for value in intrinsics_vector(frame.intrinsics))
    width, height = frame.width, frame.height
    intrinsics = (fx / width, fy / height, cx / width, cy / height)
    pose = (float(value) for value in frame.cam_from_world.reshape(12))
    numbers = " ".join(repr(value) for value in (*intrinsics, 0.0, 0.0, *pose))
    return f"{round(frame.time_s * 1e6)} {numbers}"
