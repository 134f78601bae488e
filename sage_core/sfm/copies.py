"""Copies of COLMAP's models with fewer frames, or with other cameras. Child process only.

A frame that lost its pose stays in COLMAP's model, and the covariance of the adjustment refuses models with
such frames: a copy knows only those that have one.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

_FEWEST_VIEWS = 2


def posed_images(model: Any) -> list[Any]:
    """The images of a model that have a pose."""
    return [image for image in model.images.values() if image.has_pose]


def only(model: Any, names: Collection[str]) -> Any:
    """A copy with these images alone; the model itself where it has no others."""
    images = [image for image in posed_images(model) if str(image.name) in names]
    if len(images) == len(model.images):
        return model
    return copied(model, images, [image.camera_id for image in images], model.cameras)


def with_cameras(model: Any, images: Sequence[Any], groups: Sequence[int]) -> Any:
    """A copy in which each group of images, counted from 1, has its own copy of the model's only camera."""
    (camera,) = model.cameras.values()
    return copied(model, images, groups, dict.fromkeys(set(groups), camera))


def copied(model: Any, images: Sequence[Any], camera_ids: Sequence[int], cameras: Any) -> Any:
    """These images with their poses and the points that two of them see.

    Args:
        camera_ids: of each image.
        cameras: what to copy for each of these ids.
    """
    import pycolmap

    made = pycolmap.Reconstruction()
    for camera_id in sorted(set(camera_ids)):
        own = copy.deepcopy(cameras[camera_id])
        own.camera_id = camera_id
        made.add_camera_with_trivial_rig(own)
    seen = [[p for p in image.points2D if p.has_point3D()] for image in images]
    ids = [np.array([p.point3D_id for p in points], np.int64) for points in seen]
    every, views = np.unique(np.concatenate([*ids, np.empty(0, np.int64)]), return_counts=True)
    kept = set(every[views >= _FEWEST_VIEWS].tolist())
    for point_id in sorted(kept):
        point = model.points3D[point_id]
        made.add_point3D_with_id(point_id, pycolmap.Point3D(xyz=point.xyz, error=point.error))
    for image, camera_id, points in zip(images, camera_ids, seen, strict=True):
        points = [point for point in points if point.point3D_id in kept]
        added = pycolmap.Image(
            name=image.name,
            keypoints=np.array([point.xy for point in points]).reshape(-1, 2),
            camera_id=camera_id,
            image_id=image.image_id,
        )
        made.add_image_with_trivial_frame(added, image.cam_from_world())
        for row, point in enumerate(points):
            made.add_observation(point.point3D_id, pycolmap.TrackElement(image.image_id, row))
    return made
