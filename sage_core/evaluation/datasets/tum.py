"""TUM RGB-D (Sturm et al. 2012).

``rgb.txt`` and ``depth.txt`` (time, file), ``groundtruth.txt`` (time, tx ty tz qx qy qz qw, camera to
world, metres); depth of 16 bits, 5000 a metre, 0 for none, registered to colour. The clocks differ, so
pictures and poses are put together by nearest time. Colour of freiburg1 and freiburg2 is distorted, and
depth with it; both are straightened here. The depth factors of the set's page
(1.035 for freiburg1) are in the files already and are not applied.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from sage_core.errors import MediaError
from sage_core.evaluation.datasets._readers import PictureReader, Reader, StraighteningReader
from sage_core.evaluation.datasets._scene import Frame, Scene
from sage_core.evaluation.datasets._text import HALF, lines_of, numbers, one_size, pinhole
from sage_core.geometry import invert
from sage_core.types import Reason

Array = npt.NDArray[np.float64]
MOST_APART_S = 0.02
"""Pictures and poses further apart in time do not belong together, as in the set's own tools."""
_SIZE = (640, 480)
_LENSES = {
    "freiburg1": (
        (517.3, 516.5, 318.6, 255.3),
        (0.2624, -0.9531, -0.0054, 0.0026, 1.1633),
    ),
    "freiburg2": (
        (520.9, 521.0, 325.1, 249.7),
        (0.2312, -0.7849, -0.0033, -0.0001, 0.9172),
    ),
    "freiburg3": ((535.4, 539.2, 320.1, 247.6), None),
}
_DEFAULT = ((525.0, 525.0, 319.5, 239.5), None)
"""ROS's default, which the set's page names where a calibration is not known."""


def find(root: Path, max_depth_m: float, variant: str = "") -> dict[str, Callable[[], Scene]]:
    """Sequences at or below a folder by name, each opened when called.

    Raises:
        MediaError: there is none.
    """
    folders = sorted(path.parent for path in root.rglob("groundtruth.txt"))
    if not folders:
        raise MediaError(
            f"{root} holds no sequence in the layout of TUM RGB-D (rgb.txt, depth.txt, groundtruth.txt)",
            reason=Reason.NO_DATA,
        )
    return {
        folder.resolve().name: partial(open_sequence, folder, max_depth_m) for folder in folders
    }


def open_sequence(folder: Path, max_depth_m: float = 10.0) -> Scene:
    """One sequence; frames are numbered by their place in ``rgb.txt``.

    Raises:
        MediaError: a list that lacks or garbles something, a listed picture that is not there, or too few
            colour pictures with depth and pose within 0.02 s.
    """
    rgb, depth = _list(folder / "rgb.txt"), _list(folder / "depth.txt")
    poses = _poses(folder / "groundtruth.txt")
    K, reader = _camera(folder.resolve().name, max_depth_m)
    if (size := one_size([folder / rgb[1][0]])) != _SIZE:
        raise MediaError(
            f"{folder}: pictures of {size[0]}x{size[1]} are not those of TUM RGB-D (640x480), whose "
            "intrinsics are known by name"
        )
    of_depth = _nearest(rgb[0], depth[0])
    of_pose = _nearest(rgb[0], poses[0])
    frames, lost = [], []
    for number, (d, p) in enumerate(zip(of_depth, of_pose, strict=True)):
        if d < 0 or p < 0:
            continue
        pose = _matrix(poses[1][p])
        if pose is None:
            lost.append(number)
            continue
        image, depth_file = folder / rgb[1][number], folder / depth[1][d]
        _must_be_there(image, depth_file)
        frames.append(Frame(number, image, depth_file, K, invert(pose)))
    apart = len(rgb[0]) - len(frames) - len(lost)
    note = (
        f"{apart} colour pictures have no depth or pose within {MOST_APART_S:g} s" if apart else ""
    )
    return Scene(folder.resolve().name, folder, tuple(frames), reader, tuple(lost), note)


def _list(path: Path) -> tuple[Array, list[str]]:
    """Times and files."""
    rows = [line.split() for line in lines_of(path) if line.strip() and not line.startswith("#")]
    if not rows or any(len(row) != 2 for row in rows):
        raise MediaError(f"{path} does not list a time and a file a line")
    return numbers([row[0] for row in rows], (len(rows),), str(path)), [row[1] for row in rows]


def _poses(path: Path) -> tuple[Array, Array]:
    """Times [N] and tx ty tz qx qy qz qw [N, 7]."""
    words = [line.split() for line in lines_of(path) if line.strip() and not line.startswith("#")]
    if not words:
        raise MediaError(f"{path} holds no pose", reason=Reason.NO_DATA)
    table = numbers([word for row in words for word in row], (len(words), 8), str(path))
    return table[:, 0], table[:, 1:]


def _nearest(times: Array, others: Array) -> npt.NDArray[np.int64]:
    """For each time the place of the nearest other, -1 where it is further off than allowed."""
    order = np.argsort(others)
    after = np.searchsorted(others[order], times).clip(1, max(len(others) - 1, 1))
    pair = np.stack([after - 1, after.clip(max=len(others) - 1)])
    gaps = np.abs(others[order][pair] - times)
    best = pair[gaps.argmin(0), np.arange(len(times))]
    return np.where(gaps.min(0) <= MOST_APART_S, order[best], -1)


def _matrix(pose: Array) -> Array | None:
    """World from camera [3, 4]; None where it is not finite or its quaternion is 0."""
    length = np.linalg.norm(pose[3:])
    if not np.isfinite(pose).all() or length < 0.5:
        return None
    x, y, z, w = pose[3:] / length
    rotation = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.concatenate([np.array(rotation), pose[:3, None]], axis=1)


def _camera(name: str, max_depth_m: float) -> tuple[Array, Reader]:
    known = next((lens for key, lens in _LENSES.items() if key in name), _DEFAULT)
    (fx, fy, cx, cy), distortion = known
    source = PictureReader(5000, max_depth_m)
    if distortion is None:
        return pinhole(fx, fy, cx + HALF, cy + HALF), source
    matrix = pinhole(fx, fy, cx, cy)
    straight, _ = cv2.getOptimalNewCameraMatrix(matrix, np.array(distortion), _SIZE, 0)
    K = straight + np.array([[0, 0, HALF], [0, 0, HALF], [0, 0, 0]])
    return K, StraighteningReader(source, matrix, straight, distortion)


def _must_be_there(*paths: Path) -> None:
    for path in paths:
        if not path.is_file():
            raise MediaError(
                f"{path} is listed but not there: unpack the sequence again, or take its line out",
                reason=Reason.MISSING_INPUT,
            )
