"""The data sets by name: what they are, where to get them, and who opens them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from sage_core.errors import ConfigError, MediaError
from sage_core.evaluation.datasets import (
    matterport,
    neural_rgbd,
    scannet,
    seven_scenes,
    tum,
    uasol,
)
from sage_core.evaluation.datasets._scene import Scene
from sage_core.types import Reason

Opener = Callable[[], Scene]


class _Finder(Protocol):
    def __call__(self, root: Path, max_depth_m: float, variant: str = "") -> dict[str, Opener]: ...


@dataclass(frozen=True)
class DataSet:
    """One data set.

    Attributes:
        name: what commands call it.
        title: what people call it.
        licence: in a few words; its publisher's own terms hold.
        where: where to get it.
        layout: the files that SAGE reads.
        max_depth_m: depth beyond it does not count.
        variants: other readings of the same files, as ``NAME:VARIANT``, and what they mean.
        published: the names of the scenes that papers report, given the root; empty: whatever is there.
    """

    name: str
    title: str
    licence: str
    where: str
    layout: str
    find: _Finder
    max_depth_m: float = 10.0
    variants: dict[str, str] = field(default_factory=dict)
    published: Callable[[Path], list[str]] | None = None


@dataclass(frozen=True)
class Reading:
    """A data set in one of its variants; ``str()`` is the name that numbers carry."""

    data_set: DataSet
    variant: str = ""

    def __str__(self) -> str:
        return f"{self.data_set.name}:{self.variant}" if self.variant else self.data_set.name

    def scenes(self, root: str | Path) -> dict[str, Opener]:
        """The scenes at or below a folder by name, each opened when called.

        Raises:
            MediaError: no such folder, or no scene in it.
        """
        root = Path(root)
        if not root.is_dir():
            raise MediaError(f"{root} is no folder", reason=Reason.MISSING_INPUT)
        return self.data_set.find(root, self.data_set.max_depth_m, self.variant)


DATASETS = {
    data_set.name: data_set
    for data_set in (
        DataSet(
            "7scenes",
            "7-Scenes",
            "Microsoft's own terms: non-commercial use",
            "https://www.microsoft.com/en-us/research/project/rgb-d-dataset-7-scenes/",
            "SCENE/seq-XX/frame-NNNNNN.color.png, .depth.proj.png (or .depth.png), .pose.txt; "
            "SCENE/TestSplit.txt",
            seven_scenes.find,
            variants={
                "raw": "depth and colour taken for one camera, its intrinsics in camera-intrinsics.txt"
            },
            published=seven_scenes.test_split,
        ),
        DataSet(
            "tum",
            "TUM RGB-D",
            "CC BY 4.0",
            "https://cvg.cit.tum.de/data/datasets/rgbd-dataset",
            "rgbd_dataset_freiburgN_*/rgb.txt, depth.txt, groundtruth.txt, rgb/, depth/",
            tum.find,
        ),
        DataSet(
            "scannet",
            "ScanNet",
            "ScanNet's terms of use: signed agreement, non-commercial research",
            "http://www.scan-net.org/",
            "SCENE/color/N.jpg, depth/N.png, pose/N.txt, intrinsic/intrinsic_depth.txt; `sage datasets "
            "unpack` makes this of a .sens file",
            scannet.find,
        ),
        DataSet(
            "matterport3d",
            "Matterport3D",
            "Matterport's terms of use: signed agreement, non-commercial academic use",
            "https://niessner.github.io/Matterport/",
            "HOUSE/undistorted_camera_parameters/HOUSE.conf, undistorted_color_images/, "
            "undistorted_depth_images/",
            matterport.find,
            variants={
                "cy-top": "the principal point's y counted from the top, as in CUT3R's preprocessing"
            },
        ),
        DataSet(
            "uasol",
            "UASOL",
            "see its page",
            "https://osf.io/64532/",
            "SEQUENCE/complete.json, log.txt, Images/*.png",
            uasol.find,
            max_depth_m=20.0,
            variants={"world-to-camera": "the poses taken for world to camera"},
        ),
        DataSet(
            "nrgbd",
            "Neural RGB-D",
            "see its page; rendered from Blend Swap models of several licences",
            "https://github.com/dazinovic/neural-rgbd-surface-reconstruction",
            "SCENE/images/imgN.png, depth/depthN.png, poses.txt, focal.txt",
            neural_rgbd.find,
            published=lambda root: list(neural_rgbd.SCENES),
        ),
    )
}


def data_set(name: str) -> Reading:
    """A data set by ``NAME`` or ``NAME:VARIANT``.

    Raises:
        ConfigError: there is none of that name.
    """
    bare, _, variant = name.partition(":")
    known = DATASETS.get(bare)
    if known is None or (variant and variant not in known.variants):
        names = [
            n for d in DATASETS.values() for n in (d.name, *(f"{d.name}:{v}" for v in d.variants))
        ]
        raise ConfigError(f"there is no data set {name!r}; there are {', '.join(names)}")
    return Reading(known, variant)
