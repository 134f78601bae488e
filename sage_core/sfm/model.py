"""A sparse model on disk: COLMAP's binary files, plus ``frames.parquet`` with how each frame was posed.

Reading is plain numpy: what comes after reconstruction needs no COLMAP.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sage_core.errors import SageError
from sage_core.geometry import Camera, camera_centres
from sage_core.types import Reason

Array = NDArray[np.float64]

_MODELS = {
    0: ("SIMPLE_PINHOLE", 3),
    1: ("PINHOLE", 4),
    2: ("SIMPLE_RADIAL", 4),
    3: ("RADIAL", 5),
    4: ("OPENCV", 8),
}


@dataclass(frozen=True)
class PosedFrame:
    """One frame of the model.

    Attributes:
        frame: source frame index.
        mapped: True where COLMAP mapped it; False where it was registered into the finished map.
        cam_from_world: [3, 4].
        camera: with distortion, in pixels of the SfM images.
        xy: [N, 2] observed pixels (+0.5 rule, distorted as in the SfM image).
        point: int64 [N] rows of :attr:`SparseModel.xyz` that they observe.
    """

    frame: int
    mapped: bool
    cam_from_world: Array
    camera: Camera
    xy: Array
    point: NDArray[np.int64]


@dataclass(frozen=True)
class SparseModel:
    """Posed frames in source order, and points.

    Attributes:
        xyz: [P, 3] in SfM units (the scale is arbitrary).
        rgb: uint8 [P, 3].
        error_px: [P] mean reprojection error over the mapped frames.
        ids: int64 [P] COLMAP's point ids.
    """

    frames: list[PosedFrame]
    xyz: Array
    rgb: NDArray[np.uint8]
    error_px: Array
    ids: NDArray[np.int64]

    def track_lengths(self) -> NDArray[np.int64]:
        """In how many mapped frames each point was seen, [P]; frames registered later do not count."""
        counts = np.zeros(len(self.xyz), np.int64)
        for frame in self.frames:
            if frame.mapped:
                np.add.at(counts, frame.point, 1)
        return counts

    def triangulation_angles(self) -> Array:
        """Widest angle in degrees between two rays from mapped frames to each point, [P]."""
        mapped = [frame for frame in self.frames if frame.mapped]
        centres = [camera_centres(frame.cam_from_world) for frame in mapped]
        seen_by: list[list[Array]] = [[] for _ in self.xyz]
        for frame, centre in zip(mapped, centres, strict=True):
            for point in frame.point.tolist():
                seen_by[point].append(centre)
        return widest_angles(self.xyz, seen_by)


def widest_angles(xyz: Array, centres: Sequence[Sequence[Array] | Array]) -> Array:
    """Widest angle in degrees at each point [P, 3] between rays to its own list of camera centres."""
    angles = np.zeros(len(xyz))
    for row, (point, seen_from) in enumerate(zip(xyz, centres, strict=True)):
        if len(seen_from) > 1:
            rays = np.asarray(seen_from) - point
            rays /= np.linalg.norm(rays, axis=1, keepdims=True)
            angles[row] = np.arccos(np.clip((rays @ rays.T).min(), -1, 1))
    return np.degrees(angles)


def frame_name(frame: int) -> str:
    """The image file of a source frame."""
    return f"frame_{frame:06d}.jpg"


def frame_of(name: str) -> int:
    """The source frame index of an image file."""
    return int(name.removeprefix("frame_").removesuffix(".jpg"))


def read_model(sparse: Path, mapped: Mapping[int, bool] | None = None) -> SparseModel:
    """Read ``cameras.bin``, ``images.bin`` and ``points3D.bin`` of a folder.

    Args:
        sparse: the folder, e.g. ``sfm/<clip>/sparse/0``.
        mapped: by source frame, whether COLMAP mapped it; all frames by default.

    Raises:
        SageError: files that are missing, cut off, or of an unknown camera model.
    """
    try:
        cameras = _cameras((sparse / "cameras.bin").read_bytes())
        ids, xyz, rgb, error = _points((sparse / "points3D.bin").read_bytes())
        frames = _frames((sparse / "images.bin").read_bytes(), cameras, ids, mapped)
    except (OSError, struct.error, KeyError, ValueError, IndexError) as error_:
        raise SageError(
            f"{sparse} holds no readable COLMAP model ({type(error_).__name__}: {error_}): "
            "reconstruct the clip again",
            reason=Reason.MISSING_INPUT,
        ) from error_
    return SparseModel(frames, xyz, rgb, error, ids)


def load_clip_model(folder: Path) -> SparseModel:
    """The published model of a clip (``sfm/<clip>``), with ``frames.parquet`` telling mapped frames."""
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(folder / "frames.parquet", columns=["frame", "key"]).to_pydict()
    except (OSError, ValueError) as error:
        raise SageError(
            f"{folder} has no readable frames.parquet ({error}): reconstruct the clip again",
            reason=Reason.MISSING_INPUT,
        ) from error
    return read_model(folder / "sparse" / "0", dict(zip(rows["frame"], rows["key"], strict=True)))


class _Cursor:
    """Little-endian fields, one after the other."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return values

    def text(self) -> str:
        end = self.data.index(b"\0", self.at)
        value = self.data[self.at : end].decode()
        self.at = end + 1
        return value

    def array(self, dtype: Any, count: int) -> NDArray[Any]:
        values = np.frombuffer(self.data, dtype, count, self.at)
        self.at += values.nbytes
        return values


def _cameras(data: bytes) -> dict[int, Camera]:
    cursor, cameras = _Cursor(data), {}
    for _ in range(cursor.take("Q")[0]):
        key, kind, width, height = cursor.take("IiQQ")
        name, n_params = _MODELS[kind]
        cameras[key] = Camera.from_colmap(name, width, height, cursor.take("d" * n_params))
    return cameras


def _points(data: bytes) -> tuple[NDArray[np.int64], Array, NDArray[np.uint8], Array]:
    cursor = _Cursor(data)
    rows = []
    for _ in range(cursor.take("Q")[0]):
        rows.append(cursor.take("Qddd3BdQ"))
        cursor.at += 8 * rows[-1][-1]
    rows.sort()
    table = np.array(rows, np.float64).reshape(-1, 9)
    ids = np.array([row[0] for row in rows], np.int64)
    return ids, table[:, 1:4].copy(), table[:, 4:7].astype(np.uint8), table[:, 7].copy()


_OBSERVATION = np.dtype([("x", "<f8"), ("y", "<f8"), ("point", "<i8")])


def _frames(
    data: bytes,
    cameras: Mapping[int, Camera],
    ids: NDArray[np.int64],
    mapped: Mapping[int, bool] | None,
) -> list[PosedFrame]:
    cursor, frames = _Cursor(data), []
    for _ in range(cursor.take("Q")[0]):
        _, *pose, camera = cursor.take("I7dI")
        frame = frame_of(cursor.text())
        seen = cursor.array(_OBSERVATION, cursor.take("Q")[0])
        seen = seen[seen["point"] >= 0]  # COLMAP marks key points without a point by -1
        xy = np.stack([seen["x"], seen["y"]], -1)
        point = np.searchsorted(ids, seen["point"]).astype(np.int64)
        known = True if mapped is None else mapped[frame]
        frames.append(PosedFrame(frame, known, _matrix(pose), cameras[camera], xy, point))
    return sorted(frames, key=lambda posed: posed.frame)


def _matrix(pose: Sequence[float]) -> Array:
    """[3, 4] from COLMAP's quaternion (w, x, y, z) and translation."""
    w, x, y, z = np.array(pose[:4]) / np.linalg.norm(pose[:4])
    R = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.concatenate([np.array(R), np.array(pose[4:])[:, None]], 1)


def write_model(model: SparseModel, sparse: Path) -> None:
    """Write a model through COLMAP, with image ids in the order of the frames.

    Observations are those that see a point; COLMAP's unmatched key points are left out. Child process
    only.
    """
    import pycolmap

    reconstruction = pycolmap.Reconstruction()
    camera_ids = _add_cameras(reconstruction, [frame.camera for frame in model.frames])
    for point, (xyz, rgb) in enumerate(zip(model.xyz, model.rgb, strict=True)):
        added = pycolmap.Point3D(xyz=xyz, color=rgb, error=float(model.error_px[point]))
        reconstruction.add_point3D_with_id(int(model.ids[point]), added)
    for image_id, frame in enumerate(model.frames, start=1):
        image = pycolmap.Image(
            name=frame_name(frame.frame),
            keypoints=frame.xy,
            camera_id=camera_ids[frame.camera],
            image_id=image_id,
        )
        pose = pycolmap.Rigid3d(frame.cam_from_world)
        reconstruction.add_image_with_trivial_frame(image, pose)
        for row, point in enumerate(model.ids[frame.point].tolist()):
            reconstruction.add_observation(point, pycolmap.TrackElement(image_id, row))
    sparse.mkdir(parents=True, exist_ok=True)
    reconstruction.write_binary(sparse)


def _add_cameras(reconstruction: Any, cameras: Sequence[Camera]) -> dict[Camera, int]:
    camera_ids: dict[Camera, int] = {}
    for camera in cameras:
        if camera not in camera_ids:
            camera_ids[camera] = len(camera_ids) + 1
            colmap = colmap_camera(camera, camera_ids[camera])
            reconstruction.add_camera_with_trivial_rig(colmap)
    return camera_ids


def colmap_camera(camera: Camera, camera_id: int = 1) -> Any:
    """``pycolmap.Camera`` of kind SIMPLE_RADIAL, the one kind that reconstruct estimates."""
    import pycolmap

    return pycolmap.Camera(
        camera_id=camera_id,
        model="SIMPLE_RADIAL",
        width=camera.width,
        height=camera.height,
        params=[camera.fx, camera.cx, camera.cy, camera.k1],
    )
