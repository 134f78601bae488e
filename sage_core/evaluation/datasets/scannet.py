"""ScanNet (Dai et al. 2017) as its own tool exports it.

``SCENE/color/N.jpg`` (1296x968), ``depth/N.png`` (640x480, 16 bit, millimetres), ``pose/N.txt`` (4x4,
camera to world; not finite where tracking was lost), ``intrinsic/intrinsic_depth.txt`` (4x4). Colour is
brought to the depth's size and both share the depth's intrinsics, as in CUT3R's preprocessing. A ``.sens``
file is unpacked into this layout by :mod:`sage_core.evaluation.datasets.scannet_sens`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from sage_core.errors import MediaError
from sage_core.evaluation.datasets._readers import PictureReader
from sage_core.evaluation.datasets._scene import Frame, Scene
from sage_core.evaluation.datasets._text import HALF, pinhole, read_matrix, rigid
from sage_core.geometry import invert
from sage_core.types import Reason


def find(root: Path, max_depth_m: float, variant: str = "") -> dict[str, Callable[[], Scene]]:
    """Scenes at or below a folder by name, each opened when called.

    Raises:
        MediaError: there is none.
    """
    folders = sorted(path.parent.parent for path in root.rglob("intrinsic/intrinsic_depth.txt"))
    if not folders:
        packed = next(root.rglob("*.sens"), None)
        hint = f": unpack {packed} first (`sage datasets unpack`)" if packed else ""
        raise MediaError(
            f"{root} holds no exported ScanNet scene (color/, depth/, pose/, "
            f"intrinsic/intrinsic_depth.txt){hint}",
            reason=Reason.NO_DATA,
        )
    return {folder.resolve().name: partial(open_scene, folder, max_depth_m) for folder in folders}


def open_scene(folder: Path, max_depth_m: float = 10.0) -> Scene:
    """One scene.

    Raises:
        MediaError: a frame lacks a file, a pose is no rigid motion, or too few frames are left.
    """
    fx, _, cx, _, _, fy, cy, *_ = read_matrix(
        folder / "intrinsic" / "intrinsic_depth.txt", (4, 4)
    ).flat
    K = pinhole(fx, fy, cx + HALF, cy + HALF)
    frames, lost = [], []
    for number in _numbers(folder):
        pose_file = folder / "pose" / f"{number}.txt"
        pose = rigid(read_matrix(pose_file, (4, 4)), str(pose_file))
        if pose is None:
            lost.append(number)
            continue
        image, depth = folder / "color" / f"{number}.jpg", folder / "depth" / f"{number}.png"
        frames.append(Frame(number, image, depth, K, invert(pose)))
    reader = PictureReader(1000, max_depth_m, resizes=True)
    return Scene(folder.resolve().name, folder, tuple(frames), reader, tuple(lost))


def _numbers(folder: Path) -> list[int]:
    found = {
        kind: {int(p.stem) for p in (folder / kind).glob(f"*{suffix}") if p.stem.isdigit()}
        for kind, suffix in (("color", ".jpg"), ("depth", ".png"), ("pose", ".txt"))
    }
    every = set.union(*found.values())
    for kind, there in found.items():
        if gone := sorted(every - there):
            raise MediaError(
                f"{folder}: frame {gone[0]} lacks its file in {kind}/ ({len(gone)} frames do): export "
                "the scene again, or remove what is left of these frames",
                reason=Reason.MISSING_INPUT,
            )
    return sorted(every)
