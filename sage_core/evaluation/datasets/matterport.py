"""Matterport3D (Chang et al. 2017), its undistorted pictures.

``HOUSE/undistorted_camera_parameters/HOUSE.conf`` lists ``intrinsics_matrix`` and, for the pictures that
share it, ``scan DEPTH COLOUR`` and a 4x4 pose (camera to world, metres) of a camera that looks down -z with
y up. Depth is z, 16 bit, 0.25 mm a step, 0 for none. The set's own page says that pictures have their
origin at the bottom left, so the principal point's y is counted from below; published preprocessing (CUT3R)
takes it as it is, and so does the variant ``cy-top``. ``sage datasets check`` says which of them a copy
agrees with.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sage_core.errors import MediaError
from sage_core.evaluation.datasets._readers import PictureReader
from sage_core.evaluation.datasets._scene import Frame, Scene
from sage_core.evaluation.datasets._text import HALF, lines_of, numbers, one_size, pinhole, rigid
from sage_core.geometry import invert
from sage_core.types import Reason

Array = npt.NDArray[np.float64]
_OPENCV_AXES = np.diag([1.0, -1.0, -1.0, 1.0])


def find(root: Path, max_depth_m: float, variant: str = "") -> dict[str, Callable[[], Scene]]:
    """Houses at or below a folder by name, each opened when called.

    Raises:
        MediaError: there is none.
    """
    lists = sorted(root.rglob("undistorted_camera_parameters/*.conf"))
    if not lists:
        raise MediaError(
            f"{root} holds no house of Matterport3D (undistorted_camera_parameters/HOUSE.conf, beside "
            "undistorted_color_images/ and undistorted_depth_images/)",
            reason=Reason.NO_DATA,
        )
    return {path.stem: partial(open_house, path, max_depth_m, variant) for path in lists}


def open_house(conf: Path, max_depth_m: float = 10.0, variant: str = "") -> Scene:
    """One house by its ``.conf``; frames are numbered by their place in it.

    Raises:
        MediaError: a line that cannot be read, a listed picture that is not there, or too few frames.
    """
    folder = conf.parent.parent
    matrix: Array | None = None
    frames: list[Frame] = []
    lost: list[int] = []
    height = 0
    for words in (line.split() for line in lines_of(conf)):
        if words[:1] == ["intrinsics_matrix"]:
            matrix = numbers(words[1:], (3, 3), f"{conf}: intrinsics_matrix")
        elif words[:1] == ["scan"]:
            number = len(frames) + len(lost)
            depth, colour = _files(folder, words, conf)
            height = height or one_size([depth])[1]
            pose = rigid(numbers(words[3:], (4, 4), f"{conf}: {words[2]}"), f"{conf}: {words[2]}")
            if pose is None:
                lost.append(number)
                continue
            K = _intrinsics(matrix, height, variant, conf)
            frames.append(Frame(number, colour, depth, K, invert(pose @ _OPENCV_AXES)))
    reader = PictureReader(4000, max_depth_m)
    return Scene(conf.stem, folder, tuple(frames), reader, tuple(lost))


def _files(folder: Path, words: list[str], conf: Path) -> tuple[Path, Path]:
    if len(words) < 3:
        raise MediaError(f"{conf}: a scan line without its two pictures")
    depth = folder / "undistorted_depth_images" / words[1]
    colour = folder / "undistorted_color_images" / words[2]
    for path in (depth, colour):
        if not path.is_file():
            raise MediaError(
                f"{path} is listed but not there: unpack the house again, or take its line out",
                reason=Reason.MISSING_INPUT,
            )
    return depth, colour


def _intrinsics(matrix: Array | None, height: int, variant: str, conf: Path) -> Array:
    if matrix is None:
        raise MediaError(f"{conf}: a scan line comes before any intrinsics_matrix")
    fx, cx, fy, cy = matrix[0, 0], matrix[0, 2], matrix[1, 1], matrix[1, 2]
    if variant != "cy-top":
        cy = height - 1 - cy
    return pinhole(fx, fy, cx + HALF, cy + HALF)
