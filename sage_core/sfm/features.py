"""Key points of one clip's frames into COLMAP's database. Child process only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sage_core.sfm.recipes import Recipe, extraction_options

_CONTRAST = 0.04 / 3
"""Weaker key points are left out. COLMAP's threshold, in the same units, is 0.02: bare walls gave too few."""
_BYTE = 512
"""COLMAP keeps the unit descriptors of RootSIFT as bytes: 512 times their value."""


@dataclass(frozen=True)
class CameraGroup:
    """Images taken by one camera: their names, and its parameters where the photo's EXIF knows them."""

    names: list[str]
    prior: str = ""
    """``f, cx, cy, k`` in pixels of the SfM images, as COLMAP wants it; empty: unknown."""


@dataclass(frozen=True)
class Workbench:
    """Where one attempt works: images in, database and sub-models in ``folder``.

    ``masks``: folder of COLMAP's masks (``frame_000000.jpg.png``, 0 on what gets no features), or None.
    """

    images: Path
    folder: Path
    recipe: Recipe
    seed: int
    masks: Path | None = None

    @property
    def database(self) -> Path:
        return self.folder / "database.db"


def _reader(bench: Workbench) -> Any:
    import pycolmap

    reader = pycolmap.ImageReaderOptions()
    if bench.masks is not None:
        reader.mask_path = bench.masks
    return reader


def extract(bench: Workbench, groups: Sequence[CameraGroup]) -> None:
    """Features of every image into the database, one SIMPLE_RADIAL camera a group."""
    import pycolmap

    pycolmap.Database.open(bench.database).close()  # importing images wants it to exist
    for group in groups:
        reader = _reader(bench)
        reader.camera_model = "SIMPLE_RADIAL"
        reader.camera_params = group.prior
        _extract(bench, group.names, reader)


def extract_more(bench: Workbench, names: Sequence[str]) -> None:
    """Features of further frames of a clip, by the camera that its key frames already have."""
    reader = _reader(bench)
    reader.existing_camera_id = 1
    _extract(bench, names, reader)


def _extract(bench: Workbench, names: Sequence[str], reader: Any) -> None:
    import pycolmap

    images: dict[str, Any] = {
        "image_names": sorted(names),
        "camera_mode": pycolmap.CameraMode.SINGLE,
    }
    if bench.recipe.detector == "opencv":
        pycolmap.import_images(bench.database, bench.images, options=reader, **images)
        _write_sift(bench, sorted(names))
        return
    on_gpu = bench.recipe.detector == "colmap_gpu"
    pycolmap.extract_features(
        bench.database,
        bench.images,
        reader_options=reader,
        extraction_options=extraction_options(bench.recipe),
        device=pycolmap.Device.cuda if on_gpu else pycolmap.Device.cpu,
        **images,
    )


def _write_sift(bench: Workbench, names: Sequence[str]) -> None:
    import pycolmap

    sift = cv2.SIFT_create(  # type: ignore[attr-defined]
        nfeatures=bench.recipe.max_features,
        contrastThreshold=_CONTRAST,
        enable_precise_upscale=True,  # without it, key points lie a quarter of a pixel off
    )
    kind = pycolmap.FeatureExtractorType.SIFT
    with pycolmap.Database.open(bench.database) as database:
        for name in names:
            image_id = database.read_image_with_name(name).image_id
            grey = cv2.imread(str(bench.images / name), cv2.IMREAD_GRAYSCALE)
            key_points, descriptors = _sift(sift, np.asarray(grey, np.uint8), bench.recipe.scale)
            free = _unmasked(bench, name, key_points)
            key_points, descriptors = key_points[free], descriptors[free]
            database.write_keypoints(image_id, key_points)
            database.write_descriptors(image_id, pycolmap.FeatureDescriptors(kind, descriptors))


def _unmasked(bench: Workbench, name: str, key_points: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which key points [N, 4] lie where the image's mask, if it has one, is not 0."""
    path = None if bench.masks is None else bench.masks / f"{name}.png"
    if path is None or not path.is_file():
        return np.ones(len(key_points), bool)
    mask = np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
    at = np.clip(key_points[:, :2].astype(int), 0, np.array(mask.shape[::-1]) - 1)
    return np.asarray(mask[at[:, 1], at[:, 0]] > 0)


def _sift(
    sift: Any, grey: NDArray[np.uint8], scale: float
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Key points [N, 4] (x, y by the +0.5 rule, scale in pixels, angle) and RootSIFT descriptors [N, 128].

    OpenCV doubles the picture before it looks for key points, so it is handed one of half the ``scale``.
    """
    height, width = grey.shape
    size = (round(width * scale / 2), round(height * scale / 2))
    seen = cv2.resize(grey, size, interpolation=cv2.INTER_AREA) if size[0] < width else grey
    found, descriptors = sift.detectAndCompute(seen, None)
    if not found:
        return np.empty((0, 4), np.float32), np.empty((0, 128), np.uint8)
    grown = np.array([width / seen.shape[1], height / seen.shape[0]])
    xy = (np.array([point.pt for point in found]) + 0.5) * grown
    shape = np.array([(point.size / 2 * grown[0], np.radians(point.angle)) for point in found])
    return np.concatenate([xy, shape], 1).astype(np.float32), _root(descriptors)


def _root(descriptors: NDArray[np.float32]) -> NDArray[np.uint8]:
    """RootSIFT (Arandjelovic and Zisserman 2012) as COLMAP stores it: Euclidean distances of the roots
    of histograms that sum to 1.
    """
    share = descriptors / np.maximum(descriptors.sum(1, keepdims=True), 1e-9)
    return np.asarray(np.clip(np.sqrt(share) * _BYTE + 0.5, 0, 255), np.uint8)
