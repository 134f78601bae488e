"""COLMAP's binary text: cameras, images and points of a clip, with its pictures."""

from __future__ import annotations

import struct
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sage_core.exports._scene import Scene, appearing, picture_name
from sage_core.geometry.poses import intrinsics_vector
from sage_core.shards import FrameRecord
from sage_core.shards.records import PointCloud

_PINHOLE = 1
_NO_POINT = 2**64 - 1
_Camera = tuple[int, int, tuple[float, ...]]


@dataclass
class _Model:
    """What goes into the three files, in order of frames."""

    cameras: dict[_Camera, int] = field(default_factory=dict)
    images: list[bytes] = field(default_factory=list)
    tracks: dict[int, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    errors: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, frame: FrameRecord, known: set[int]) -> None:
        """Take in a frame: its camera (equal ones once), its pose, its anchors as observations."""
        intrinsics = tuple(float(v) for v in intrinsics_vector(frame.intrinsics))
        camera = (frame.width, frame.height, intrinsics)
        number = self.cameras.setdefault(camera, len(self.cameras) + 1)
        image = len(self.images) + 1
        rotation = _quaternion(frame.cam_from_world[:, :3])
        head = struct.pack("<I7dI", image, *rotation, *frame.cam_from_world[:, 3], number)
        anchors = frame.anchors
        rows = [struct.pack("<Q", len(anchors))]
        for at, (xy, point, error) in enumerate(
            zip(anchors.xy.tolist(), anchors.point.tolist(), anchors.error_px.tolist(), strict=True)
        ):
            seen = point in known
            rows.append(struct.pack("<ddQ", *xy, point if seen else _NO_POINT))
            if seen:
                self.tracks[point].append((image, at))
                self.errors[point].append(error)
        self.images.append(head + picture_name(frame).encode() + b"\0" + b"".join(rows))


def write_colmap(scene: Scene, out: Path) -> None:
    """Write ``<clip>/images/*.jpg`` and ``<clip>/sparse/0/{cameras,images,points3D}.bin``.

    Points are those of the reconstruction; their tracks, the anchors that the shard keeps of them, in pixels
    of the stored pictures.
    """
    with appearing(out / scene.name) as folder:
        (folder / "images").mkdir(parents=True)
        sparse = folder / "sparse" / "0"
        sparse.mkdir(parents=True)
        model, points = _Model(), scene.points()
        known = set(points.ids.tolist())
        for frame in scene.frames():
            (folder / "images" / picture_name(frame)).write_bytes(frame.image)
            model.add(frame, known)
        (sparse / "cameras.bin").write_bytes(_cameras(model))
        (sparse / "images.bin").write_bytes(
            struct.pack("<Q", len(model.images)) + b"".join(model.images)
        )
        (sparse / "points3D.bin").write_bytes(_points(points, model))


def _quaternion(R: NDArray[np.float64]) -> list[float]:
    """(w, x, y, z) with w >= 0 of a rotation matrix: the eigenvector of Bar-Itzhack's symmetric matrix."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = R.tolist()
    K = [
        [xx + yy + zz, zy - yz, xz - zx, yx - xy],
        [zy - yz, xx - yy - zz, xy + yx, xz + zx],
        [xz - zx, xy + yx, yy - xx - zz, yz + zy],
        [yx - xy, xz + zx, yz + zy, zz - xx - yy],
    ]
    found = np.linalg.eigh(np.array(K))[1][:, -1]
    return [float(value) for value in (found if found[0] >= 0 else -found)]


def _cameras(model: _Model) -> bytes:
    rows = [
        struct.pack("<IiQQ4d", number, _PINHOLE, width, height, *intrinsics)
        for (width, height, intrinsics), number in model.cameras.items()
    ]
    return struct.pack("<Q", len(rows)) + b"".join(rows)


def _points(points: PointCloud, model: _Model) -> bytes:
    rows = [struct.pack("<Q", len(points.ids))]
    for key, xyz, rgb in zip(
        points.ids.tolist(), points.xyz.tolist(), points.rgb.tolist(), strict=True
    ):
        track = model.tracks.get(key, [])
        error = float(np.mean(model.errors[key])) if track else -1.0
        head = struct.pack("<Q3d3BdQ", key, *xyz, *rgb, error, len(track))
        rows.append(head + b"".join(struct.pack("<II", *element) for element in track))
    return b"".join(rows)
