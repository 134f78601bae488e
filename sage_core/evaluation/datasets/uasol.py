"""UASOL (Bauer et al. 2019), outdoor walks with a ZED stereo camera.

``SEQUENCE/complete.json`` lists under ``Data`` each frame's ``color_frame_left``, ``depth_frame`` (pictures
in ``Images/``) and ``m``, a 4x4 pose with its translation in millimetres; ``log.txt`` holds the left
camera's intrinsics; depth is 16 bit, millimetres. Published preprocessing takes ``m`` for camera to world
and no second source says so: the variant ``world-to-camera`` takes it the other way round, and ``sage
datasets check`` says which a copy agrees with.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sage_core.errors import MediaError
from sage_core.evaluation.datasets._readers import PictureReader
from sage_core.evaluation.datasets._scene import Frame, Scene
from sage_core.evaluation.datasets._text import HALF, lines_of, pinhole, rigid
from sage_core.geometry import invert
from sage_core.types import Reason

Array = npt.NDArray[np.float64]
_SECTION = "LEFT CAMERA PARAMETERS"
_FIELDS = (
    ("focal length", "x axis"),
    ("focal length", "y axis"),
    ("optical center", "x axis"),
    ("optical center", "y axis"),
)


def find(root: Path, max_depth_m: float, variant: str = "") -> dict[str, Callable[[], Scene]]:
    """Sequences at or below a folder by name, each opened when called.

    Raises:
        MediaError: there is none.
    """
    lists = sorted(root.rglob("complete.json"))
    if not lists:
        raise MediaError(
            f"{root} holds no sequence of UASOL (complete.json, log.txt, Images/)",
            reason=Reason.NO_DATA,
        )
    return {
        path.resolve().parent.name: partial(open_sequence, path.parent, max_depth_m, variant)
        for path in lists
    }


def open_sequence(folder: Path, max_depth_m: float = 20.0, variant: str = "") -> Scene:
    """One sequence; frames are numbered by their place in ``complete.json``.

    Raises:
        MediaError: lists that cannot be read, a listed picture that is not there, or too few frames.
    """
    K = _intrinsics(folder / "log.txt")
    frames, lost = [], []
    for number, entry in enumerate(_entries(folder / "complete.json")):
        image, depth = (
            folder / "Images" / f"{entry[key]}.png" for key in ("color_frame_left", "depth_frame")
        )
        for path in (image, depth):
            if not path.is_file():
                raise MediaError(
                    f"{path} is listed but not there: unpack the sequence again",
                    reason=Reason.MISSING_INPUT,
                )
        pose = _pose(entry["m"], f"{folder / 'complete.json'}: {entry['color_frame_left']}")
        if pose is None:
            lost.append(number)
            continue
        cam_from_world = pose if variant == "world-to-camera" else invert(pose)
        frames.append(Frame(number, image, depth, K, cam_from_world))
    reader = PictureReader(1000, max_depth_m)
    return Scene(folder.resolve().name, folder, tuple(frames), reader, tuple(lost))


def _entries(path: Path) -> list[dict[str, Any]]:
    try:
        entries = json.loads("\n".join(lines_of(path)))["Data"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise MediaError(f"{path} is no list of frames (an object with Data): {error}") from error
    wanted = {"color_frame_left", "depth_frame", "m"}
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict) or wanted - entry.keys():
            raise MediaError(f"{path}: entry {place} lacks one of {', '.join(sorted(wanted))}")
    return list(entries)


def _pose(matrix: object, where: str) -> Array | None:
    """The pose [3, 4] in metres, or None where it is not finite."""
    try:
        pose = np.array(matrix, dtype=np.float64).reshape(4, 4)
    except (TypeError, ValueError) as error:
        raise MediaError(f"{where}: its m is no 4x4 matrix") from error
    pose[:3, 3] /= 1000
    return rigid(pose, where)


def _intrinsics(path: Path) -> Array:
    """Values of the left camera's section, found by the words of their names."""
    lines = [line.strip() for line in lines_of(path)]
    start = next((i for i, line in enumerate(lines) if line.startswith(_SECTION)), None)
    if start is None:
        raise MediaError(f"{path} has no section {_SECTION}")
    pairs = [line.split(":", 1) for line in lines[start:] if ":" in line]
    fx, fy, cx, cy = (_value(pairs, words, path) for words in _FIELDS)
    return pinhole(fx, fy, cx + HALF, cy + HALF)


def _value(pairs: list[list[str]], words: tuple[str, ...], path: Path) -> float:
    for name, value in pairs:
        if all(word in name.lower() for word in words):
            try:
                return float(value.strip().rstrip("."))
            except ValueError:
                continue
    raise MediaError(f"{path} names no {' along the '.join(words)} of the left camera")
