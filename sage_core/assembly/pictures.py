"""Frames at training resolution, freed of lens distortion, with cameras and anchors moved along."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sage_core.config.assemble import AssembleConfig
from sage_core.errors import SageError
from sage_core.geometry import Camera, PixelMap
from sage_core.masks import FOLDER, covered, read_mask, resized
from sage_core.sfm.anchors import Anchors as SfmAnchors
from sage_core.sfm.model import PosedFrame, frame_name
from sage_core.shards import Anchors, FrameRecord, encode_mask
from sage_core.types import Clip, Reason
from sage_core.video.frames import Frame, load_image, read_frames, scaled_size, shrink

_SHAPE_TOLERANCE = 0.02
_ONE_STEP = 1.5
"""Up to this factor pictures are reduced and straightened in one step: averaging before costs a quarter of
their sharpness."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class AnchoredFrame:
    """A posed frame of the model and its anchors, both in pixels of the SfM image."""

    posed: PosedFrame
    anchors: SfmAnchors


def frame_records(
    clip: Clip, media: Path, frames: Sequence[AnchoredFrame], model: Path, config: AssembleConfig
) -> Iterator[FrameRecord]:
    """The rows of a clip's frames, one decoded picture in memory at a time.

    Pictures come from the images that reconstruct left (JPEG, quality 95) where these are as large as
    wanted, which saves decoding the video once more, else from the video.

    Args:
        model: the folder that reconstruct left; neither ``images`` nor ``masks`` need be in it.

    Raises:
        MediaError: the video does not decode to its end, or an image cannot be read.
        SageError: pictures of another shape than those the model was made from.
    """
    for frame, picture in zip(frames, _pictures(clip, media, frames, model, config), strict=True):
        mask = read_mask(model / FOLDER, frame.posed.frame)
        yield _record(clip.item, frame, picture, mask, config)


def _pictures(
    clip: Clip, media: Path, frames: Sequence[AnchoredFrame], model: Path, config: AssembleConfig
) -> Iterator[Frame]:
    indices = [frame.posed.frame for frame in frames]
    images = model / "images"
    if _fine_enough(frames, config.long_side_px) and images.is_dir():
        return _written(clip, indices, images, config.long_side_px)
    return read_frames(media, indices, config.long_side_px, clip.crop, clip.entry)


def _fine_enough(frames: Sequence[AnchoredFrame], long_side_px: int) -> bool:
    sides = [max(frame.posed.camera.width, frame.posed.camera.height) for frame in frames]
    return all(long_side_px <= side for side in sides)


def _written(
    clip: Clip, indices: Sequence[int], images: Path, long_side_px: int
) -> Iterator[Frame]:
    times = dict(zip(clip.pose_frames, clip.times_s, strict=True))
    for index in indices:
        image = load_image(images / frame_name(index))
        if max(image.shape) > _ONE_STEP * long_side_px:
            image = shrink(image, long_side_px)
        yield Frame(index, times[index], image)


def sharpness(image: NDArray[np.uint8]) -> float:
    """Variance of the Laplacian of the grey picture, grey levels squared."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(grey, cv2.CV_32F).var())


def _record(
    clip: str, frame: AnchoredFrame, picture: Frame, mask: Mask | None, config: AssembleConfig
) -> FrameRecord:
    height, width = picture.image.shape[:2]
    width, height = scaled_size(width, height, config.long_side_px)
    camera, pixels = frame.posed.camera, _to_training(frame.posed, (width, height))
    image = _straighten(picture.image, camera.mapped(pixels))
    anchors = _moved(frame.anchors, pixels)
    if mask is not None:
        mask = _straight_mask(mask, camera.mapped(pixels))
        anchors = anchors.select(~covered(mask, anchors.xy, (width, height)))
    return FrameRecord(
        clip=clip,
        frame=frame.posed.frame,
        time_s=picture.time_s,
        image=_jpeg(image, config.jpeg_quality),
        width=width,
        height=height,
        intrinsics=_pinhole(camera).mapped(pixels).K,
        cam_from_world=frame.posed.cam_from_world,
        key=frame.posed.mapped,
        sharpness=sharpness(image),
        anchors=anchors,
        mask=encode_mask(mask) if mask is not None and mask.any() else None,
    )


def _to_training(posed: PosedFrame, size: tuple[int, int]) -> PixelMap:
    """Both pictures are the same source rectangle, stretched, so one is the other stretched."""
    old = (posed.camera.width, posed.camera.height)
    if abs(np.log(old[0] * size[1] / (old[1] * size[0]))) > _SHAPE_TOLERANCE:
        raise SageError(
            f"frame {posed.frame} was reconstructed at {old[0]}x{old[1]} but decodes to "
            f"{size[0]}x{size[1]}, another shape: the media file was replaced; reconstruct again",
            reason=Reason.MISSING_INPUT,
        )
    return PixelMap.resize(old, size)


def _moved(anchors: SfmAnchors, pixels: PixelMap) -> Anchors:
    return Anchors(
        xy=anchors.xy.astype(np.float32),
        depth=anchors.depth.astype(np.float32),
        point=anchors.point,
        error_px=anchors.error_px.astype(np.float32),
        track=anchors.track.astype(np.int32),
        angle_deg=anchors.angle_deg.astype(np.float32),
    ).mapped(pixels)


@lru_cache(maxsize=64)
def _pinhole(camera: Camera) -> Camera:
    return camera.pinhole()


@lru_cache(maxsize=2)
def _undistortion(
    camera: Camera, width: int, height: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Where ``camera.pinhole()`` sees what, in OpenCV's pixels of a picture of any size that it took."""
    x, y = camera.undistortion_map()
    right, down = width / camera.width, height / camera.height
    return (x + np.float32(0.5)) * right - 0.5, (y + np.float32(0.5)) * down - 0.5


def _straighten(image: NDArray[np.uint8], camera: Camera) -> NDArray[np.uint8]:
    """The picture as ``camera.pinhole()`` would have taken it, at the camera's size, resampled once."""
    if not camera.distorted:
        return shrink(image, max(camera.width, camera.height))
    map_x, map_y = _undistortion(camera, image.shape[1], image.shape[0])
    # The widest view without empty pixels may still reach a fraction of a pixel over the edge.
    straight = cv2.remap(image, map_x, map_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(straight, np.uint8)


def _straight_mask(mask: Mask, camera: Camera) -> Mask:
    """The mask of a picture of any size of that shape, as the straightened picture's."""
    whole = resized(mask, (camera.width, camera.height))
    if not camera.distorted:
        return whole
    map_x, map_y = _undistortion(camera, camera.width, camera.height)
    # What reaches beyond the picture is what its border is, as in the picture itself.
    straight = cv2.remap(
        whole.astype(np.uint8), map_x, map_y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(straight > 0)


def _jpeg(image: NDArray[np.uint8], quality: int) -> bytes:
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done, "OpenCV encodes any uint8 picture as JPEG"
    return bytes(data)
