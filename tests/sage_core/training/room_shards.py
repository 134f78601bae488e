"""Shards of procedural rooms with exact cameras and points: what mining would give if it made no error."""

import cv2
import numpy as np
import torch

from sage_core.geometry import camera_centres, invert, pixel_centres, project, transform, unproject
from sage_core.shards import Anchors, ClipInfo, Covisibility, FrameRecord, ShardWriter
from sage_core.shards.records import PointCloud
from sage_core.world import build_scene, camera_path, pinhole, render_views

# Small pictures: more threads would only wait for each other.
torch.set_num_threads(1)

WIDTH, HEIGHT = 96, 72
FPS = 6.0
FRAMES = 24
UNIT_M = 0.37
"""Metres in one unit of these clips: SfM's scale is arbitrary, so not 1."""


def write_room_shard(folder, clips=2, frames=FRAMES, points=150):
    """A shard ``rooms`` in the folder; returns the paths of its frames file and the clips' ids."""
    names = []
    with ShardWriter(folder, "rooms") as writer:
        for seed in range(clips):
            info, records, cloud = room_clip(seed, frames, points)
            writer.add(info, records, cloud)
            names.append(info.clip)
    return folder / "frames-rooms.parquet", names


def room_clip(seed, frames, points):
    scene = build_scene(seed, "V")
    poses = camera_path(scene, "walkthrough", frames, FPS, seed)
    K = np.broadcast_to(pinhole(60, HEIGHT, WIDTH), (frames, 3, 3))
    images, depths = render_views(scene, poses, K, HEIGHT, WIDTH, smooth_edges=False)
    depths = depths / UNIT_M
    poses = np.concatenate([poses[..., :3], poses[..., 3:] / UNIT_M], -1)
    cloud = _cloud(np.random.default_rng(seed), poses, K, images, depths, points)
    name = f"v{seed:016x}_000000_{frames * 5:06d}"
    records = [
        FrameRecord(
            clip=name,
            frame=5 * i,
            time_s=i / FPS,
            image=_jpeg(images[i]),
            width=WIDTH,
            height=HEIGHT,
            intrinsics=K[i],
            cam_from_world=poses[i],
            key=True,
            sharpness=float(cv2.Laplacian(images[i], cv2.CV_64F).var()),
            anchors=_anchors(cloud, poses[i], K[i], depths[i]),
        )
        for i in range(frames)
    ]
    return _info(name, records), records, cloud


def _cloud(rng, poses, K, images, depths, points):
    xyz, rgb = [], []
    grid = pixel_centres(WIDTH, HEIGHT)
    for i in range(0, len(poses), 3):
        row, column = rng.integers(HEIGHT, size=points), rng.integers(WIDTH, size=points)
        camera = unproject(K[i], grid[row, column], depths[i, row, column])
        xyz.append(transform(invert(poses[i]), camera))
        rgb.append(images[i, row, column])
    xyz = np.concatenate(xyz).astype(np.float32)
    return PointCloud(np.arange(len(xyz)), xyz, np.concatenate(rgb))


def _anchors(cloud, pose, K, depth):
    xy, z = project(K, transform(pose, cloud.xyz))
    inside = (z > 0.1) & (xy >= 0).all(-1) & (xy < (WIDTH, HEIGHT)).all(-1)
    at = np.flatnonzero(inside)
    column, row = np.floor(xy[at]).astype(int).T
    seen = at[np.abs(depth[row, column] / z[at] - 1) < 0.02]
    n = len(seen)
    return Anchors(
        xy[seen].astype(np.float32),
        z[seen].astype(np.float32),
        cloud.ids[seen],
        np.full(n, 0.3, np.float32),
        np.full(n, 8, np.int32),
        np.full(n, 12, np.float32),
    )


def _info(name, records):
    seen = [set(r.anchors.point.tolist()) for r in records]
    n = len(records)
    i, j = np.triu_indices(n, 1)
    share = [
        len(seen[a] & seen[b]) / max(1, min(len(seen[a]), len(seen[b])))
        for a, b in zip(i, j, strict=True)
    ]
    poses = np.stack([r.cam_from_world for r in records])
    assert np.linalg.norm(np.ptp(camera_centres(poses), axis=0)) > 0.3
    return ClipInfo(
        clip=name,
        video=name[:17],
        source="rooms",
        ordered=True,
        frames=np.array([r.frame for r in records], np.int32),
        times_s=np.array([r.time_s for r in records]),
        sharpness=np.array([r.sharpness for r in records], np.float32),
        depth_median=np.array([np.median(r.anchors.depth) for r in records], np.float32),
        cam_from_world=poses,
        covisibility=Covisibility(
            i.astype(np.int32), j.astype(np.int32), np.array(share, np.float32)
        ),
    )


def _jpeg(image):
    done, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
    assert done
    return data.tobytes()
