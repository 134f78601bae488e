"""A clip with an exact geometry: a camera that glides past a cloud of points and turns a little."""

import cv2
import numpy as np

from sage_core.geometry import Camera, intrinsics_matrix, project, transform
from sage_core.shards import Anchors, ClipInfo, Covisibility, FrameRecord
from sage_core.shards.records import PointCloud

WIDTH, HEIGHT = 96, 64
K = intrinsics_matrix([80.0, 80.0, WIDTH / 2, HEIGHT / 2])


def cloud(n=600, seed=0):
    rng = np.random.default_rng(seed)
    xyz = rng.uniform((-2, -1, 2.5), (18, 1, 4), (n, 3)).astype(np.float32)
    return PointCloud(np.arange(10, 10 + n), xyz, rng.integers(0, 255, (n, 3), np.uint8))


def pose(k, n):
    centre = np.array([16.0 * k / max(1, n - 1), 0.0, 0.0])
    R = cv2.Rodrigues(np.array([0.0, 0.1 * np.sin(k / 5), 0.0]))[0]
    return np.concatenate([R, -R @ centre[:, None]], 1)


def frame_record(clip, index, time_s, cam_from_world, points, seed):
    xy, depth = project(K, transform(cam_from_world, points.xyz))
    seen = (depth > 0.1) & (xy >= 0).all(-1) & (xy < (WIDTH, HEIGHT)).all(-1)
    rng = np.random.default_rng(seed)
    image = cv2.GaussianBlur(rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8), (5, 5), 0)
    n = int(seen.sum())
    anchors = Anchors(
        xy[seen].astype(np.float32),
        depth[seen].astype(np.float32),
        points.ids[seen],
        rng.uniform(0, 2, n).astype(np.float32),
        rng.integers(2, 9, n).astype(np.int32),
        rng.uniform(1, 20, n).astype(np.float32),
    )
    jpeg = cv2.imencode(".jpg", image)[1].tobytes()
    return FrameRecord(
        clip, index, time_s, jpeg, WIDTH, HEIGHT, K, cam_from_world, index % 10 == 0, 50.0, anchors
    )


def share_matrix(frames, points):
    sees = np.stack([np.isin(points.ids, f.anchors.point) for f in frames]).astype(float)
    shared = sees @ sees.T
    return shared / np.minimum.outer(np.diag(shared), np.diag(shared))


def make_clip(name="v0_000000_000200", n=60, step=5, fps=30.0, seed=0, ordered=True):
    """Clip info, frames, points; frames are ``step`` source frames apart."""
    points = cloud(seed=seed)
    frames = [
        frame_record(name, k * step, k * step / fps, pose(k, n), points, 1000 * seed + k)
        for k in range(n)
    ]
    share = share_matrix(frames, points)
    i, j = np.nonzero(np.triu(share, 1) >= 0.01)
    info = ClipInfo(
        clip=name,
        video=name.split("_")[0],
        source="file.mp4",
        ordered=ordered,
        frames=np.array([f.frame for f in frames], np.int32),
        times_s=np.array([f.time_s for f in frames]),
        sharpness=np.array([f.sharpness for f in frames], np.float32),
        depth_median=np.array([np.median(f.anchors.depth) for f in frames], np.float32),
        cam_from_world=np.stack([f.cam_from_world for f in frames]),
        covisibility=Covisibility(
            i.astype(np.int32), j.astype(np.int32), share[i, j].astype(np.float32)
        ),
        figures={"reprojection_px": {"value": 0.5, "threshold": 0.9, "rule": "<="}},
        provenance={"licence": "CC-BY"},
    )
    return info, frames, points


def camera():
    return Camera(WIDTH, HEIGHT, 80.0, 80.0, WIDTH / 2, HEIGHT / 2)
