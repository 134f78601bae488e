"""7-Scenes (Shotton et al. 2013), and other recordings in its layout.

``SCENE/seq-XX/frame-NNNNNN.color.png`` (or jpg), ``.depth.png`` (16 bit, millimetres; 0 and 65535 mean
none), ``.pose.txt`` (4x4, camera to world, metres); ``SCENE/TestSplit.txt``. The depth camera has a focal
length of 585, the colour camera of 525, and ``.depth.png`` is *not* registered to colour. Published suites
read ``.depth.proj.png``, which is; where it is missing, depth is moved into the colour camera here. The
variant ``raw`` takes both for one camera, as is common elsewhere, and reads its intrinsics beside the
sequence.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sage_core.errors import MediaError
from sage_core.evaluation.datasets._readers import PictureReader, Reader, RegisteringReader
from sage_core.evaluation.datasets._scene import Frame, Scene
from sage_core.evaluation.datasets._text import lines_of, one_size, pinhole, read_matrix, rigid
from sage_core.geometry import invert
from sage_core.types import Reason

Array = npt.NDArray[np.float64]
_INTRINSICS_FILES = ("camera-intrinsics.txt", "intrinsics.K.txt")
_DEPTH_CAMERA = pinhole(585, 585, 320, 240)
_COLOUR_CAMERA = pinhole(525, 525, 320, 240)
_KINECT_SIZE = (640, 480)
_COLOUR_FROM_DEPTH = np.array(
    [
        [0.99996518012567637, 0.00267651264689503, -0.00790410123130009, -0.025558943178152542],
        [-0.00274093112813167, 0.99996302803027592, -0.00815045207780133, 0.000101096362680617],
        [0.00788199421304453, 0.00817183287718906, 0.99993554558014031, 0.002031832172948704],
    ]
)
"""A Kinect's calibration by LIRIS, which the published preprocessing of 7-Scenes takes, too."""
_COLOUR_FILE = re.compile(r"frame-(\d+)\.color\.(png|jpg|jpeg)$")
TEST_SEQUENCES = (
    *("chess/seq-03", "chess/seq-05", "fire/seq-03", "fire/seq-04", "heads/seq-01"),
    *("office/seq-02", "office/seq-06", "office/seq-07", "office/seq-09"),
    *("pumpkin/seq-01", "pumpkin/seq-07", "redkitchen/seq-03", "redkitchen/seq-04"),
    *(
        "redkitchen/seq-06",
        "redkitchen/seq-12",
        "redkitchen/seq-14",
        "stairs/seq-01",
        "stairs/seq-04",
    ),
)
"""The 18 sequences of the ``TestSplit.txt`` files."""


def find(root: Path, max_depth_m: float, variant: str = "") -> dict[str, Callable[[], Scene]]:
    """Sequences at or below a folder by name, each opened when called.

    Raises:
        MediaError: there is none.
    """
    folders = sorted({path.parent for path in root.rglob("frame-*.pose.txt")})
    if not folders:
        raise MediaError(
            f"{root} holds no sequence in the 7-Scenes layout (frame-000000.color.png, .depth.png and "
            ".pose.txt in a folder)",
            reason=Reason.NO_DATA,
        )
    opened = open_sequence if variant == "raw" else open_registered
    return {_name(folder): partial(opened, folder, max_depth_m) for folder in folders}


def find_sequences(root: str | Path, max_depth_m: float = 10.0) -> list[Scene]:
    """All sequences at or below a folder, in order of path, depth and colour taken for one camera.

    Raises:
        MediaError: there is none, or one that lacks files.
    """
    folders = sorted({path.parent for path in Path(root).rglob("frame-*.pose.txt")})
    if not folders:
        find(Path(root), max_depth_m)
    return [open_sequence(folder, max_depth_m) for folder in folders]


def test_split(root: Path) -> list[str]:
    """The test sequences by the ``TestSplit.txt`` files below a folder, else those of the original set."""
    named = [
        f"{file.parent.name}/seq-{int(''.join(filter(str.isdigit, line))):02d}"
        for file in sorted(root.rglob("TestSplit.txt"))
        for line in lines_of(file)
        if line.strip()
    ]
    return named or list(TEST_SEQUENCES)


test_split.__test__ = False  # type: ignore[attr-defined]  # no test, for all its name


def open_sequence(folder: str | Path, max_depth_m: float = 10.0) -> Scene:
    """One sequence, depth and colour taken for one camera.

    Raises:
        MediaError: a frame lacks a file, a pose is no rigid motion, or too few frames are left.
    """
    folder = Path(folder)
    colour = _colour_files(folder, "depth.png")
    K = _intrinsics(folder, colour)
    reader = PictureReader(1000, max_depth_m, no_depth=65535)
    return _scene(folder, colour, "depth.png", K, reader, "depth and colour taken for one camera")


def open_registered(folder: Path, max_depth_m: float) -> Scene:
    """One sequence of a Kinect, depth registered to colour, as published suites have it.

    Raises:
        MediaError: as :func:`open_sequence`; pictures that are not a Kinect's 640x480.
    """
    projected = any(folder.glob("frame-*.depth.proj.png"))
    kind = "depth.proj.png" if projected else "depth.png"
    colour = _colour_files(folder, kind)
    if (size := one_size(colour)) != _KINECT_SIZE:
        raise MediaError(
            f"{folder}: pictures of {size[0]}x{size[1]} are not those of 7-Scenes (640x480); for "
            "other recordings in its layout use the data set 7scenes:raw"
        )
    source = PictureReader(1000, max_depth_m, no_depth=65535)
    if projected:
        return _scene(folder, colour, kind, _COLOUR_CAMERA, source, "depth.proj.png")
    reader = RegisteringReader(source, _DEPTH_CAMERA, _COLOUR_CAMERA, _COLOUR_FROM_DEPTH)
    note = "depth registered to colour by SAGE, since there is no depth.proj.png"
    return _scene(folder, colour, kind, _COLOUR_CAMERA, reader, note)


def _scene(
    folder: Path, colour: list[Path], kind: str, K: Array, reader: Reader, note: str
) -> Scene:
    frames, lost = [], []
    for path in colour:
        pose_file = _sibling(path, "pose.txt")
        pose = rigid(read_matrix(pose_file, (4, 4)), str(pose_file))
        if pose is None:
            lost.append(_number(path))
        else:
            frames.append(Frame(_number(path), path, _sibling(path, kind), K, invert(pose)))
    return Scene(_name(folder), folder, tuple(frames), reader, tuple(lost), note)


def _name(folder: Path) -> str:
    return f"{folder.resolve().parent.name}/{folder.resolve().name}"


def _number(colour: Path) -> int:
    found = _COLOUR_FILE.search(colour.name)
    assert found is not None
    return int(found.group(1))


def _sibling(colour: Path, kind: str) -> Path:
    return colour.with_name(f"{colour.name.split('.')[0]}.{kind}")


def _colour_files(folder: Path, depth: str) -> list[Path]:
    """Colour pictures in order; every frame must have all its files."""
    colour = sorted(p for p in folder.iterdir() if _COLOUR_FILE.search(p.name))
    with_colour = {path.name.split(".")[0] for path in colour}
    for kind in (depth, "pose.txt"):
        with_other = {path.name.split(".")[0] for path in folder.glob(f"frame-*.{kind}")}
        if odd := sorted(with_colour ^ with_other):
            raise MediaError(
                f"{folder}: {odd[0]} lacks its colour picture or its {kind} ({len(odd)} frames do): copy the "
                "sequence again, or remove what is left of these frames",
                reason=Reason.MISSING_INPUT,
            )
    return colour


def _intrinsics(folder: Path, colour: list[Path]) -> Array:
    for place in (folder, folder.parent):
        for name in _INTRINSICS_FILES:
            if (place / name).is_file():
                return read_matrix(place / name, (3, 3))
    if one_size(colour) != _KINECT_SIZE:
        raise MediaError(
            f"{folder}: no camera-intrinsics.txt (3x3) beside it, and its pictures are not 640x480 as "
            "those of 7-Scenes",
            reason=Reason.MISSING_INPUT,
        )
    return _DEPTH_CAMERA
