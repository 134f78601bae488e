"""A filmed and reconstructed clip whose truth is known: bright dots seen through a lens with distortion.

The dots are drawn into a letterboxed mp4 where the distorted camera sees them; the model is written by
COLMAP with the very same cameras. So every stored anchor must lie in the middle of a dot.
"""

import subprocess
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sage_core.geometry import Camera, PixelMap, transform
from sage_core.sfm.model import PosedFrame, SparseModel, write_model
from sage_core.types import Clip

SOURCE = (480, 360)
CROP = (0, 20, 480, 320)
FRAMES = 70
FPS = 30.0
CAMERA = Camera(240, 160, 200.0, 200.0, 121.0, 79.0, k1=-0.12)


def dots(seed):
    """Points on a jittered grid, far enough apart to be told from each other."""
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(np.arange(-2.4, 5.2, 0.34), np.arange(-1.5, 1.6, 0.34))
    xyz = np.stack([x.ravel(), y.ravel(), rng.uniform(3.6, 4.4, x.size)], -1)
    xyz[:, :2] += rng.uniform(-0.06, 0.06, (x.size, 2))
    return xyz


def pose(k):
    R = cv2.Rodrigues(np.array([0.02 * np.cos(k / 9), 0.08 * np.sin(k / 20), 0.0]))[0]
    centre = np.array([2.8 * k / FRAMES, 0.1 * np.sin(k / 15), 0.0])
    return np.concatenate([R, -R @ centre[:, None]], 1)


def draw(xyz, k):
    """The source picture: grey ground, letterbox bars, a white dot where each point is seen."""
    picture = np.full((SOURCE[1], SOURCE[0]), 60, np.uint8)
    camera = CAMERA.mapped(PixelMap.resize((240, 160), CROP[2:]))
    for x, y in camera.project(transform(pose(k), xyz)):
        at = (round((x + CROP[0] - 0.5) * 16), round((y + CROP[1] - 0.5) * 16))
        cv2.circle(picture, at, 4 * 16, 230, -1, cv2.LINE_AA, 4)
    picture[: CROP[1]] = picture[CROP[1] + CROP[3] :] = 0
    return picture


def film(path: Path, xyz, frames=FRAMES):
    size = f"{SOURCE[0]}x{SOURCE[1]}"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", "-f", "rawvideo"]
    command += ["-pix_fmt", "gray", "-s", size, "-r", str(FPS), "-i", "-", "-pix_fmt", "yuv420p"]
    command += ["-c:v", "libx264", "-preset", "ultrafast", "-qp", "8", str(path)]
    pictures = b"".join(draw(xyz, k).tobytes() for k in range(frames))
    subprocess.run(command, input=pictures, check=True)


def reconstruct(folder: Path, xyz, seed):
    rng = np.random.default_rng(seed)
    frames = []
    for k in range(FRAMES):
        points = transform(pose(k), xyz)
        xy = CAMERA.project(points)
        seen = np.flatnonzero(((xy > 1) & (xy < (239, 159))).all(1))
        observed = xy[seen] + rng.normal(0, 0.2, (len(seen), 2))
        frames.append(PosedFrame(k, k % 5 == 0, pose(k), CAMERA, observed, seen))
    rgb = np.full((len(xyz), 3), 230, np.uint8)
    ids = np.arange(1, len(xyz) + 1)
    write_model(SparseModel(frames, xyz, rgb, np.full(len(xyz), 0.3), ids), folder / "sparse" / "0")
    rows = {"frame": list(range(FRAMES)), "key": [frame.mapped for frame in frames]}
    pq.write_table(pa.table(rows), folder / "frames.parquet")


def make_clip(video="v00000000000000aa"):
    frames = list(range(FRAMES))
    return Clip(
        item=f"{video}_000000_{FRAMES:06d}",
        video=video,
        start_frame=0,
        end_frame=FRAMES,
        start_s=0.0,
        end_s=FRAMES / FPS,
        fps=FPS,
        width=SOURCE[0],
        height=SOURCE[1],
        key_frames=frames[::5],
        pose_frames=frames,
        times_s=[k / FPS for k in frames],
        crop=CROP,
    )
