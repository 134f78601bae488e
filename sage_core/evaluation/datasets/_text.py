"""Numbers in text files, and the poses among them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sage_core.errors import MediaError
from sage_core.types import Reason

Array = npt.NDArray[np.float64]
HALF = 0.5
"""Added to a principal point whose data set counts pixel centres from 0."""


def lines_of(path: Path) -> list[str]:
    """A text file's lines.

    Raises:
        MediaError: not there, or no text.
    """
    try:
        return path.read_text().splitlines()
    except FileNotFoundError as error:
        raise MediaError(f"{path} is not there", reason=Reason.MISSING_INPUT) from error
    except UnicodeDecodeError as error:
        raise MediaError(f"{path} is no text file: {error}") from error


def numbers(words: Sequence[str], shape: tuple[int, ...], where: str) -> Array:
    """Words as an array of that shape; ``nan`` and ``inf`` are numbers, too.

    Raises:
        MediaError: other words, or another count.
    """
    wanted = int(np.prod(shape))
    try:
        values = np.array([float(word) for word in words])
    except ValueError as error:
        raise MediaError(f"{where} does not hold {wanted} numbers: {error}") from error
    if len(values) != wanted:
        raise MediaError(f"{where} holds {len(values)} numbers, not {wanted} ({shape})")
    return values.reshape(shape)


def read_matrix(path: Path, shape: tuple[int, ...]) -> Array:
    """A file that holds one matrix and nothing else."""
    return numbers(" ".join(lines_of(path)).split(), shape, str(path))


def rigid(pose: Array, where: str) -> Array | None:
    """The upper 3x4 of a 4x4 pose, or None where tracking was lost (it is not finite).

    Raises:
        MediaError: its left 3x3 part is no rotation.
    """
    if not np.isfinite(pose).all():
        return None
    rotation = pose[:3, :3]
    if np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-2 or np.linalg.det(rotation) < 0:
        raise MediaError(f"{where}: its left 3x3 part is no rotation")
    return np.asarray(pose[:3])


def pinhole(fx: float, fy: float, cx: float, cy: float) -> Array:
    """K [3, 3]."""
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])


def one_size(paths: Sequence[Path]) -> tuple[int, int]:
    """Width and height of the first picture.

    Raises:
        MediaError: it is not there, or cannot be decoded.
    """
    import cv2

    if not paths[0].is_file():
        raise MediaError(f"{paths[0]} is not there", reason=Reason.MISSING_INPUT)
    picture = cv2.imread(str(paths[0]), cv2.IMREAD_UNCHANGED)
    if picture is None:
        raise MediaError(f"{paths[0]} cannot be decoded")
    return picture.shape[1], picture.shape[0]
