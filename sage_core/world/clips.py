"""Shards of procedural rooms with exact cameras and anchors: what mining would give if it made no error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sage_core.geometry import invert, pixel_centres, project, transform, unproject
from sage_core.shards import Anchors, ClipInfo, Covisibility, FrameRecord, ShardWriter
from sage_core.shards.records import PointCloud
from sage_core.world.cameras import camera_path, pinhole
from sage_core.world.furniture import build_scene
from sage_core.world.render import render_views

Floats = npt.NDArray[np.float64]
_DEPTH_TOLERANCE = 0.02
_FRAME_STEP = 5
_NEAR = 0.1


@dataclass(frozen=True)
class RoomClip:
    """A walk through a room of family V.

    Attributes:
        seed: of room and walk.
        frames: along the walk, ``fps`` of them a second.
        points: SfM points started in every third frame.
        width, height: of the pictures.
        unit_m: metres in one unit of the clip; SfM's scale is arbitrary, so not 1.
    """

    seed: int
    frames: int = 24
    points: int = 150
    fps: float = 6.0
    width: int = 96
    height: int = 72
    unit_m: float = 0.37

    @property
    def name(self) -> str:
        """The clip's id."""
        return f"v{self.seed:016x}_000000_{self.frames * _FRAME_STEP:06d}"

    def rendered(self) -> tuple[npt.NDArray[np.uint8], Floats, Floats, Floats]:
        """Images [n, h, w, 3], depths [n, h, w], poses [n, 3, 4] (both in the clip's unit), K [n, 3, 3]."""
        scene = build_scene(self.seed, "V")
        poses = camera_path(scene, "walkthrough", self.frames, self.fps, self.seed)
        K = np.broadcast_to(pinhole(60, self.height, self.width), (self.frames, 3, 3))
        images, depths = render_views(scene, poses, K, self.height, self.width, smooth_edges=False)
        scaled = np.concatenate([poses[..., :3], poses[..., 3:] / self.unit_m], -1)
        return images, np.asarray(depths / self.unit_m, np.float64), scaled, K

    def records(self) -> tuple[ClipInfo, list[FrameRecord], PointCloud]:
        """The clip as :class:`ShardWriter` takes it."""
        images, depths, poses, K = self.rendered()
        cloud = _cloud(self, poses, K, images, depths)
        records = [
            FrameRecord(
                clip=self.name,
                frame=_FRAME_STEP * i,
                time_s=i / self.fps,
                image=_jpeg(images[i]),
                width=self.width,
                height=self.height,
                intrinsics=K[i],
                cam_from_world=poses[i],
                key=True,
                sharpness=_sharpness(images[i]),
                anchors=_anchors(cloud, poses[i], K[i], depths[i]),
            )
            for i in range(self.frames)
        ]
        return _info(self.name, records), records, cloud


def write_room_shard(
    folder: Path, clips: Sequence[RoomClip], shard: str = "rooms"
) -> tuple[Path, list[str]]:
    """One shard of these clips in the folder; gives its frames file and the clips' ids."""
    with ShardWriter(folder, shard) as writer:
        for clip in clips:
            writer.add(*clip.records())
        return writer.frames_path, [clip.name for clip in clips]


def _cloud(
    clip: RoomClip, poses: Floats, K: Floats, images: npt.NDArray[np.uint8], depths: Floats
) -> PointCloud:
    rng = np.random.default_rng(clip.seed)
    xyz, rgb = [], []
    grid = pixel_centres(clip.width, clip.height)
    for i in range(0, len(poses), 3):
        row = rng.integers(clip.height, size=clip.points)
        column = rng.integers(clip.width, size=clip.points)
        camera = unproject(K[i], grid[row, column], depths[i, row, column])
        xyz.append(transform(invert(poses[i]), camera))
        rgb.append(images[i, row, column])
    points = np.concatenate(xyz).astype(np.float32)
    return PointCloud(np.arange(len(points)), points, np.concatenate(rgb))


def _anchors(cloud: PointCloud, pose: Floats, K: Floats, depth: Floats) -> Anchors:
    """The points that are inside the picture and not hidden."""
    height, width = depth.shape
    xy, z = project(K, transform(pose, cloud.xyz))
    inside = (z > _NEAR) & (xy >= 0).all(-1) & (xy < (width, height)).all(-1)
    at = np.flatnonzero(inside)
    column, row = np.floor(xy[at]).astype(int).T
    seen = at[np.abs(depth[row, column] / z[at] - 1) < _DEPTH_TOLERANCE]
    n = len(seen)
    return Anchors(
        xy[seen].astype(np.float32),
        z[seen].astype(np.float32),
        cloud.ids[seen],
        np.full(n, 0.3, np.float32),
        np.full(n, 8, np.int32),
        np.full(n, 12, np.float32),
    )


def _info(name: str, records: Sequence[FrameRecord]) -> ClipInfo:
    seen = [set(r.anchors.point.tolist()) for r in records]
    i, j = np.triu_indices(len(records), 1)
    share = [
        len(seen[a] & seen[b]) / max(1, min(len(seen[a]), len(seen[b])))
        for a, b in zip(i, j, strict=True)
    ]
    return ClipInfo(
        clip=name,
        video=name.partition("_")[0],
        source="rooms",
        ordered=True,
        frames=np.array([r.frame for r in records], np.int32),
        times_s=np.array([r.time_s for r in records]),
        sharpness=np.array([r.sharpness for r in records], np.float32),
        depth_median=np.array([np.median(r.anchors.depth) for r in records], np.float32),
        cam_from_world=np.stack([r.cam_from_world for r in records]),
        covisibility=Covisibility(
            i.astype(np.int32), j.astype(np.int32), np.array(share, np.float32)
        ),
    )


def _jpeg(image: npt.NDArray[np.uint8]) -> bytes:
    import cv2

    done, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
    assert done
    return bytes(data.tobytes())


def _sharpness(image: npt.NDArray[np.uint8]) -> float:
    import cv2

    return float(cv2.Laplacian(image, cv2.CV_64F).var())
