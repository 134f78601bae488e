"""Neural RGB-D (Azinović et al. 2022), nine rendered rooms.

``SCENE/images/imgN.png``, ``depth/depthN.png`` (16 bit, millimetres), ``poses.txt`` (four lines a frame,
camera to world, OpenGL axes: y up, looking down -z), ``focal.txt``. Poses written as ``nan`` are left out
and counted; CUT3R's and Spann3R's suites read them as the identity and use them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sage_core.errors import MediaError
from sage_core.evaluation.datasets._readers import PictureReader
from sage_core.evaluation.datasets._scene import Frame, Scene
from sage_core.evaluation.datasets._text import (
    lines_of,
    numbers,
    one_size,
    pinhole,
    read_matrix,
    rigid,
)
from sage_core.geometry import invert
from sage_core.types import Reason

Array = npt.NDArray[np.float64]
SCENES = (
    *("breakfast_room", "complete_kitchen", "green_room", "grey_white_room", "kitchen"),
    *("morning_apartment", "staircase", "thin_geometry", "whiteroom"),
)
_OPENCV_AXES = np.diag([1.0, -1.0, -1.0, 1.0])
_FOCAL_AT_640 = 554.2562584220408
_IMAGE = re.compile(r"img(\d+)\.png$")


def find(root: Path, max_depth_m: float, variant: str = "") -> dict[str, Callable[[], Scene]]:
    """Scenes at or below a folder by name, each opened when called.

    Raises:
        MediaError: there is none.
    """
    folders = sorted(path.parent for path in root.rglob("poses.txt"))
    if not folders:
        raise MediaError(
            f"{root} holds no scene of Neural RGB-D (images/, depth/, poses.txt)",
            reason=Reason.NO_DATA,
        )
    return {folder.resolve().name: partial(open_scene, folder, max_depth_m) for folder in folders}


def open_scene(folder: Path, max_depth_m: float = 10.0) -> Scene:
    """One scene.

    Raises:
        MediaError: a picture without its depth or pose, a pose that is no rigid motion, or too few frames.
    """
    poses = _poses(folder / "poses.txt")
    images = {
        int(found.group(1)): path
        for path in (folder / "images").glob("img*.png")
        if (found := _IMAGE.search(path.name))
    }
    _check_complete(folder, images, len(poses))
    K = _intrinsics(folder, images)
    frames, lost = [], []
    for number, path in sorted(images.items()):
        pose = rigid(poses[number], f"{folder / 'poses.txt'}: frame {number}")
        if pose is None:
            lost.append(number)
            continue
        depth = folder / "depth" / f"depth{number}.png"
        frames.append(Frame(number, path, depth, K, invert(pose @ _OPENCV_AXES)))
    reader = PictureReader(1000, max_depth_m)
    return Scene(folder.resolve().name, folder, tuple(frames), reader, tuple(lost))


def _poses(path: Path) -> Array:
    words = [word for line in lines_of(path) for word in line.split()]
    return numbers(words, (len(words) // 16, 4, 4), str(path))


def _check_complete(folder: Path, images: dict[int, Path], poses: int) -> None:
    for number in sorted(images):
        if number >= poses:
            raise MediaError(
                f"{folder}: img{number}.png has no pose, poses.txt ends with frame {poses - 1}",
                reason=Reason.MISSING_INPUT,
            )
        if not (folder / "depth" / f"depth{number}.png").is_file():
            raise MediaError(
                f"{folder}: frame {number} lacks depth/depth{number}.png: unpack the scene again",
                reason=Reason.MISSING_INPUT,
            )


def _intrinsics(folder: Path, images: dict[int, Path]) -> Array:
    if not images:
        raise MediaError(f"{folder} holds no images/img0.png", reason=Reason.NO_DATA)
    width, height = one_size(list(images.values()))
    file = folder / "focal.txt"
    focal = float(read_matrix(file, (1,))[0]) if file.is_file() else _FOCAL_AT_640 * width / 640
    return pinhole(focal, focal, width / 2, height / 2)
