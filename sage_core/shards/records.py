"""What a shard holds, in memory: a frame with its anchors, a clip with its index, a trajectory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sage_core.errors import ShardError
from sage_core.geometry.pixels import PixelMap
from sage_core.types import Reason

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Anchors:
    """Sparse SfM points that one frame sees (the paper's sparse depth map), parallel arrays of length N.

    Attributes:
        xy: float32 [N, 2], where the point projects to, in pixels of this frame, +0.5 rule.
        depth: float32 [N], z in this camera, SfM units, above 0.
        point: int64 [N], the point's id in the clip.
        error_px: float32 [N], distance from the projection to the observed feature, pixels of the SfM image.
        track: int32 [N], number of frames that observe the point.
        angle_deg: float32 [N], widest angle between two rays to the point.

    Of anchors that were read without their measures ``point`` is -1, ``track`` 0, and the other two are NaN.
    """

    xy: NDArray[np.float32]
    depth: NDArray[np.float32]
    point: NDArray[np.int64]
    error_px: NDArray[np.float32]
    track: NDArray[np.int32]
    angle_deg: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.depth)

    def select(self, chosen: NDArray[Any]) -> Anchors:
        """Those that a mask or an index array names."""
        return Anchors(
            self.xy[chosen],
            self.depth[chosen],
            self.point[chosen],
            self.error_px[chosen],
            self.track[chosen],
            self.angle_deg[chosen],
        )

    def reliable(
        self, *, max_error_px: float = 1.0, min_track: int = 4, min_angle_deg: float = 5.0
    ) -> Anchors:
        """Those within these limits; the defaults halve the number and the depth error's tail.

        Raises:
            ValueError: they were read without their measures.
        """
        if len(self) and not self.track.any():
            raise ValueError("anchors read without their measures: read them with measures=True")
        return self.select(
            (self.error_px <= max_error_px)
            & (self.track >= min_track)
            & (self.angle_deg >= min_angle_deg)
        )

    def mapped(self, pixels: PixelMap) -> Anchors:
        """Those on the resized or cropped picture, in its pixels."""
        xy = pixels.points(self.xy).astype(np.float32)
        moved = Anchors(xy, self.depth, self.point, self.error_px, self.track, self.angle_deg)
        return moved.select(pixels.inside(xy))


@dataclass(frozen=True)
class FrameRecord:
    """One row of ``frames``: an undistorted picture with its camera.

    Attributes:
        clip: the clip's id.
        frame: source frame index.
        time_s: presentation time in seconds.
        image: the picture as JPEG, ``height`` x ``width``, RGB when decoded.
        intrinsics: float64 [3, 3], pixels of this picture, +0.5 rule, no distortion left.
        cam_from_world: float64 [3, 4], OpenCV axes, SfM units.
        key: whether COLMAP mapped the frame itself (else it was posed against the finished map).
        sharpness: variance of the grey picture's Laplacian, in grey levels squared.
        anchors: SfM points seen by it.
        mask: PNG of the picture's size, not 0 where it shows what is not the static scene; None for nowhere.
    """

    clip: str
    frame: int
    time_s: float
    image: bytes
    width: int
    height: int
    intrinsics: Floats
    cam_from_world: Floats
    key: bool
    sharpness: float
    anchors: Anchors
    mask: bytes | None = None

    def pixels(self) -> NDArray[np.uint8]:
        """The decoded picture, uint8 [height, width, 3], RGB.

        Raises:
            ShardError: the bytes are not a JPEG, or one of another size.
        """
        import cv2

        data = np.frombuffer(self.image, np.uint8)
        jpeg = self.image[:2] == b"\xff\xd8"
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB) if jpeg else None
        if decoded is None:
            raise ShardError(
                f"frame {self.frame} of clip {self.clip} is not a JPEG: assemble the clip again",
                reason=Reason.UNREADABLE,
            )
        if decoded.shape != (self.height, self.width, 3):
            raise ShardError(
                f"frame {self.frame} of clip {self.clip} is {decoded.shape[1]}x{decoded.shape[0]}, "
                f"its row says {self.width}x{self.height}: assemble the clip again",
                reason=Reason.UNREADABLE,
            )
        return np.asarray(decoded, np.uint8)

    def masked(self) -> NDArray[np.bool_] | None:
        """Which pixels [height, width] are not the static scene, or None for none of them.

        Raises:
            ShardError: the mask is not a PNG of the picture's size.
        """
        if self.mask is None:
            return None
        import cv2

        decoded = cv2.imdecode(np.frombuffer(self.mask, np.uint8), cv2.IMREAD_GRAYSCALE)
        if decoded is None or decoded.shape != (self.height, self.width):
            found = "no picture" if decoded is None else f"{decoded.shape[1]}x{decoded.shape[0]}"
            raise ShardError(
                f"the mask of frame {self.frame} of clip {self.clip} is {found}, must be a PNG of "
                f"{self.width}x{self.height}: write it anew, or set adapt.loss.masks=false",
                reason=Reason.UNREADABLE,
            )
        return np.asarray(decoded > 0)


def encode_mask(masked: NDArray[np.bool_]) -> bytes:
    """What :attr:`FrameRecord.mask` holds, from bool [height, width]."""
    import cv2

    done, data = cv2.imencode(".png", masked.astype(np.uint8) * 255)
    assert done
    return bytes(data.tobytes())


@dataclass(frozen=True)
class Trajectory:
    """One training sample of a clip, frames named by row, with what assemble measured of it.

    Attributes:
        context: rows that the model sees, in order of time; the first is the reference view.
        targets: rows that are only rendered.
        mode: how it was drawn (``SamplingConfig.mode``; ``connected`` for photo sets in the modes of time).
        overlap: mean covisibility of neighbouring context views, 0..1.
        parallax: median over neighbouring context views of their distance / median depth.
        sharpness: mean sharpness of all its frames / the clip's median.
        span_s: seconds from the first to the last context view.
        score: how informative it is, 0..1 (:func:`sage_core.shards.trajectories.score`).
    """

    context: list[int]
    targets: list[int]
    mode: str
    overlap: float = 0.0
    parallax: float = 0.0
    sharpness: float = 0.0
    span_s: float = 0.0
    score: float = 0.0

    @property
    def rows(self) -> list[int]:
        """Context, then targets."""
        return [*self.context, *self.targets]


@dataclass(frozen=True)
class Covisibility:
    """How much pairs of frames see of the same SfM points, sparse.

    Attributes:
        i, j: int32 [P], rows, i < j.
        share: float32 [P], shared points / points of the frame that has fewer, 0..1; absent pairs share
            next to nothing.
    """

    i: NDArray[np.int32]
    j: NDArray[np.int32]
    share: NDArray[np.float32]

    def matrix(self, n: int) -> NDArray[np.float32]:
        """Symmetric [n, n] with ones on the diagonal."""
        dense = np.eye(n, dtype=np.float32)
        dense[self.i, self.j] = dense[self.j, self.i] = self.share
        return dense


@dataclass(frozen=True)
class ClipInfo:
    """One row of ``clips`` without its points: all that a sampler needs, and where the clip comes from.

    Attributes:
        clip, video, source: ids, and what the user gave.
        ordered: False for photo sets, whose order and times mean nothing.
        frames: int32 [n], source frame indices, increasing; *row* r is ``frames[r]``.
        times_s: float64 [n], presentation times in seconds.
        sharpness: float32 [n].
        depth_median: float32 [n], median anchor depth of each frame, SfM units.
        cam_from_world: float64 [n, 3, 4], SfM units.
        covisibility: pairs of rows.
        trajectories: scored candidates.
        figures: measured values with their thresholds, by name.
        provenance: config hash, code version, licence, uploader and the like.
    """

    clip: str
    video: str
    source: str
    ordered: bool
    frames: NDArray[np.int32]
    times_s: Floats
    sharpness: NDArray[np.float32]
    depth_median: NDArray[np.float32]
    cam_from_world: Floats
    covisibility: Covisibility
    trajectories: list[Trajectory] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def n_frames(self) -> int:
        return len(self.frames)


@dataclass(frozen=True)
class PointCloud:
    """The SfM points of a clip.

    Attributes:
        ids: int64 [P], as in :attr:`Anchors.point`.
        xyz: float32 [P, 3], world frame, SfM units.
        rgb: uint8 [P, 3].
    """

    ids: NDArray[np.int64]
    xyz: NDArray[np.float32]
    rgb: NDArray[np.uint8]
