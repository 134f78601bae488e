"""One scene of any RGB-D data set, under the project's conventions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sage_core.errors import MediaError
from sage_core.evaluation.datasets._readers import Reader
from sage_core.evaluation.samples import LabelledViews
from sage_core.types import Reason

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Frame:
    """One view.

    Attributes:
        number: the data set's own number; the place in its list where it has none.
        image: colour picture.
        depth: depth picture, or None where the data set has none for this view.
        intrinsics: float64 [3, 3] in pixels of the depth picture, which the colour picture is brought to;
            pixel centres at +0.5.
        cam_from_world: float64 [3, 4], OpenCV axes, metres.
    """

    number: int
    image: Path
    depth: Path | None
    intrinsics: Array
    cam_from_world: Array


@dataclass(frozen=True)
class Scene:
    """One sequence or place.

    Attributes:
        name: unique within the data set, e.g. ``redkitchen/seq-01``.
        folder: where it lies.
        frames: in order of their numbers.
        reader: how its files become pictures and metres.
        lost: numbers of frames left out because their pose is not finite.
        note: what a reader of its numbers must know, or nothing.
    """

    name: str
    folder: Path
    frames: tuple[Frame, ...]
    reader: Reader
    lost: tuple[int, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        if len(self.frames) < 2:
            raise MediaError(
                f"{self.folder}: {len(self.frames)} frames with a finite pose, and a scene needs two "
                f"({len(self.lost)} were left out for theirs)",
                reason=Reason.NO_DATA,
            )

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def cam_from_world(self) -> Array:
        """All cameras, float64 [N, 3, 4]."""
        return np.stack([frame.cam_from_world for frame in self.frames])

    @property
    def missing(self) -> list[int]:
        """Numbers between 0 and the last frame's of which there is nothing at all."""
        there = {frame.number for frame in self.frames} | set(self.lost)
        return sorted(set(range(max(there) + 1)) - there)

    def select(self, places: Sequence[int]) -> Scene:
        """The same scene with only these frames (places in ``frames``), in this order."""
        return replace(self, frames=tuple(self.frames[int(place)] for place in places))

    def depth(self, place: int) -> npt.NDArray[np.float32]:
        """Depth z of a frame in metres, float32 [H, W]; 0 where there is none.

        Raises:
            MediaError: no depth picture of 16 bits, or none at all.
        """
        return self.reader.depth(_depth_file(self.frames[place]))

    def views(self, places: Sequence[int]) -> LabelledViews:
        """These frames, the first being the reference, as a sample at the depth's size.

        Raises:
            MediaError: a picture that cannot be read, or colour and depth that do not fit.
        """
        chosen = [self.frames[int(place)] for place in places]
        depth = [self.reader.depth(_depth_file(frame)) for frame in chosen]
        images = [
            self.reader.colour(frame.image, (d.shape[1], d.shape[0]))
            for frame, d in zip(chosen, depth, strict=True)
        ]
        return LabelledViews(
            images=np.stack(images),
            depth=np.stack(depth),
            intrinsics=np.stack([frame.intrinsics for frame in chosen]),
            cam_from_world=np.stack([frame.cam_from_world for frame in chosen]),
            name=f"{self.name}[{','.join(str(frame.number) for frame in chosen)}]",
        )


def _depth_file(frame: Frame) -> Path:
    if frame.depth is None:
        raise MediaError(f"{frame.image} has no depth picture", reason=Reason.MISSING_INPUT)
    return frame.depth
