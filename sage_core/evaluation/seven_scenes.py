"""RGB-D sequences in the layout of 7-Scenes (Shotton et al. 2013).

``frame-NNNNNN.color.png`` (or jpg), ``.depth.png`` (16 bit, millimetres; 0 and 65535 mean none) and
``.pose.txt`` (4x4, camera to world, metres) in one folder. Depth and colour count as one camera, as is
usual with this set, though its depth was never registered to its colour.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sage_core.errors import MediaError
from sage_core.evaluation.samples import LabelledViews
from sage_core.geometry import invert
from sage_core.types import Reason

Array = npt.NDArray[np.float64]
_INTRINSICS_FILES = ("camera-intrinsics.txt", "intrinsics.K.txt")
_KINECT = np.array([[585.0, 0, 320], [0, 585.0, 240], [0, 0, 1]])
_KINECT_SIZE = (480, 640)
_NO_DEPTH = 65535
_COLOUR_FILE = re.compile(r"frame-(\d+)\.color\.(png|jpg|jpeg)$")


@dataclass(frozen=True)
class Sequence7:
    """One sequence: where its frames are, and their cameras.

    Attributes:
        folder: where the files lie.
        name: scene and sequence, e.g. ``redkitchen/seq-01``.
        colour: each frame's colour picture.
        cam_from_world: float64 [N, 3, 4].
        intrinsics: float64 [3, 3], pixel centres at +0.5.
        lost: frames left out for a pose that is not finite.
        max_depth_m: depth beyond it does not count.
    """

    folder: Path
    name: str
    colour: list[Path]
    cam_from_world: Array
    intrinsics: Array
    lost: int
    max_depth_m: float

    def __len__(self) -> int:
        return len(self.colour)

    def depth(self, index: int) -> npt.NDArray[np.float32]:
        """Depth of a frame in metres, float32 [H, W]; 0 where there is none.

        Raises:
            MediaError: not a 16-bit picture.
        """
        import cv2

        path = _sibling(self.colour[index], "depth.png")
        raw = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if raw is None or raw.dtype != np.uint16:
            raise MediaError(f"{path} is not a 16-bit depth picture (millimetres)")
        metres = raw.astype(np.float32) / 1000
        metres[(raw == _NO_DEPTH) | (metres > self.max_depth_m)] = 0
        return np.asarray(metres)

    def views(self, frames: Sequence[int]) -> LabelledViews:
        """These frames, the first being the reference, as a sample at full size.

        Raises:
            MediaError: a picture that cannot be read, or colour and depth of different size.
        """
        images, depth = [], []
        for frame in frames:
            images.append(_read_colour(self.colour[frame]))
            depth.append(self.depth(frame))
            if images[-1].shape[:2] != depth[-1].shape:
                raise MediaError(
                    f"{self.colour[frame]} is {images[-1].shape[:2]}, its depth {depth[-1].shape} (rows, "
                    "columns): they must be of one size"
                )
        chosen = list(frames)
        return LabelledViews(
            images=np.stack(images),
            depth=np.stack(depth),
            intrinsics=np.repeat(self.intrinsics[None], len(chosen), 0),
            cam_from_world=self.cam_from_world[chosen],
            name=f"{self.name}[{','.join(_number(self.colour[f]) for f in chosen)}]",
        )


def find_sequences(root: str | Path, max_depth_m: float = 10.0) -> list[Sequence7]:
    """All sequences at or below a folder, in order of path.

    Raises:
        MediaError: there is none, or one that lacks files.
    """
    root = Path(root)
    folders = sorted({p.parent for p in root.rglob("frame-*.pose.txt")})
    if not folders:
        raise MediaError(
            f"{root} holds no sequence in the 7-Scenes layout (frame-000000.color.png, .depth.png and "
            ".pose.txt in a folder)",
            reason=Reason.NO_DATA,
        )
    return [open_sequence(folder, max_depth_m) for folder in folders]


def open_sequence(folder: str | Path, max_depth_m: float = 10.0) -> Sequence7:
    """One sequence.

    Raises:
        MediaError: a frame lacks a file, a pose is no rigid motion, or too few frames are left.
    """
    folder = Path(folder)
    colour = sorted(p for p in folder.iterdir() if _COLOUR_FILE.search(p.name))
    _check_complete(folder, colour)
    world_from_cam = [_read_pose(_sibling(path, "pose.txt")) for path in colour]
    finite = [pose is not None for pose in world_from_cam]
    kept = [pose for pose in world_from_cam if pose is not None]
    if len(kept) < 2:
        raise MediaError(f"{folder}: {len(kept)} frames with a finite pose", reason=Reason.NO_DATA)
    return Sequence7(
        folder=folder,
        name=f"{folder.parent.name}/{folder.name}",
        colour=[path for path, good in zip(colour, finite, strict=True) if good],
        cam_from_world=invert(np.stack(kept)),
        intrinsics=_intrinsics(folder, _read_colour(colour[0]).shape[:2]),
        lost=finite.count(False),
        max_depth_m=max_depth_m,
    )


def _number(colour: Path) -> str:
    found = _COLOUR_FILE.search(colour.name)
    assert found is not None
    return str(int(found.group(1)))


def _sibling(colour: Path, kind: str) -> Path:
    return colour.with_name(f"{colour.name.split('.')[0]}.{kind}")


def _check_complete(folder: Path, colour: list[Path]) -> None:
    with_colour = {path.name.split(".")[0] for path in colour}
    for kind in ("depth.png", "pose.txt"):
        with_other = {path.name.split(".")[0] for path in folder.glob(f"frame-*.{kind}")}
        if odd := sorted(with_colour ^ with_other):
            raise MediaError(
                f"{folder}: {odd[0]} lacks its colour picture or its {kind} ({len(odd)} frames do): copy the "
                "sequence again, or remove what is left of these frames",
                reason=Reason.MISSING_INPUT,
            )


def _read_pose(path: Path) -> Array | None:
    """World from camera [3, 4], or None where tracking was lost."""
    try:
        pose = np.loadtxt(path, dtype=np.float64)
    except ValueError as error:
        raise MediaError(f"{path} does not hold 16 numbers: {error}") from error
    if pose.shape != (4, 4):
        raise MediaError(f"{path} holds an array of {pose.shape}, not a 4x4 pose")
    if not np.isfinite(pose).all():
        return None
    if np.abs(pose[:3, :3] @ pose[:3, :3].T - np.eye(3)).max() > 1e-2:
        raise MediaError(f"{path}: its left 3x3 part is no rotation")
    return np.asarray(pose[:3])


def _intrinsics(folder: Path, size: tuple[int, ...]) -> Array:
    for place in (folder, folder.parent):
        for name in _INTRINSICS_FILES:
            if (place / name).is_file():
                return np.asarray(np.loadtxt(place / name, dtype=np.float64).reshape(3, 3))
    if tuple(size) != _KINECT_SIZE:
        raise MediaError(
            f"{folder}: no camera-intrinsics.txt (3x3) beside it, and its pictures are not 640x480 as "
            "those of 7-Scenes",
            reason=Reason.MISSING_INPUT,
        )
    return _KINECT


def _read_colour(path: Path) -> npt.NDArray[np.uint8]:
    import cv2

    image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise MediaError(f"{path} cannot be decoded")
    return np.asarray(image, np.uint8)
