"""COLMAP on the key frames of one clip: features, matches, incremental mapping. Child process only.

Everything runs on one thread with fixed seeds, so that a clip's model depends on nothing but its
frames, the recipe and the seed.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from sage_core.errors import SageError, SandboxError
from sage_core.geometry import Camera
from sage_core.sfm.gate import ModelFigures, PairFigures
from sage_core.sfm.model import widest_angles
from sage_core.sfm.recipes import (
    Recipe,
    extraction_options,
    mapping_options,
    matching_options,
    verification_options,
)
from sage_core.types import Reason

_MIN_INLIERS = 15
_NEIGHBOUR_OFFSETS = (1, 2, 4)


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


def extract(bench: Workbench, groups: Sequence[CameraGroup]) -> None:
    """Features of every image into the database, one SIMPLE_RADIAL camera a group."""
    import pycolmap

    for group in groups:
        reader = _reader(bench)
        reader.camera_model = "SIMPLE_RADIAL"
        reader.camera_params = group.prior
        pycolmap.extract_features(
            bench.database,
            bench.images,
            image_names=sorted(group.names),
            camera_mode=pycolmap.CameraMode.SINGLE,
            reader_options=reader,
            extraction_options=extraction_options(bench.recipe),
            device=pycolmap.Device.cpu,
        )


def extract_more(bench: Workbench, names: Sequence[str]) -> None:
    """Features of further frames of a clip, by the camera that its key frames already have."""
    import pycolmap

    reader = _reader(bench)
    reader.existing_camera_id = 1
    pycolmap.extract_features(
        bench.database,
        bench.images,
        image_names=sorted(names),
        camera_mode=pycolmap.CameraMode.SINGLE,
        reader_options=reader,
        extraction_options=extraction_options(bench.recipe),
        device=pycolmap.Device.cpu,
    )


def _reader(bench: Workbench) -> Any:
    import pycolmap

    reader = pycolmap.ImageReaderOptions()
    if bench.masks is not None:
        reader.mask_path = bench.masks
    return reader


def match(bench: Workbench, *, ordered: bool) -> None:
    """Match and verify the pairs that the recipe asks for; pairs already done are skipped."""
    import pycolmap

    arguments = {
        "matching_options": matching_options(),
        "verification_options": verification_options(bench.seed),
        "device": pycolmap.Device.cpu,
    }
    if bench.recipe.exhaustive or not ordered:
        pycolmap.match_exhaustive(bench.database, **arguments)
        return
    pairing = pycolmap.SequentialPairingOptions()
    pairing.overlap = 10
    pairing.quadratic_overlap = True
    pairing.num_threads = 1
    pycolmap.match_sequential(bench.database, pairing_options=pairing, **arguments)


def measure_pairs(bench: Workbench, *, ordered: bool) -> PairFigures:
    """Figures over the pairs in the database, whose images are the key frames in name order."""
    import pycolmap

    database = pycolmap.Database.open(bench.database)
    rank = {
        image.image_id: place
        for place, image in enumerate(sorted(database.read_all_images(), key=lambda i: str(i.name)))
    }
    matches = dict(zip(*database.read_num_matches(), strict=True))
    pair_ids, geometries = database.read_two_view_geometries()
    database.close()
    inliers, planar = {}, 0
    for pair_id, geometry in zip(pair_ids, geometries, strict=True):
        if len(geometry.inlier_matches) >= _MIN_INLIERS:
            inliers[pair_id] = len(geometry.inlier_matches)
            planar += _is_planar(geometry.config)
    neighbours = _neighbours(matches, rank) if ordered else _strongest(inliers)
    shares = [inliers.get(i, 0) / matches[i] for i in neighbours if matches.get(i, 0)]
    wanted = sum(max(0, len(rank) - offset) for offset in _NEIGHBOUR_OFFSETS)
    return PairFigures(
        verified_pairs=len(inliers),
        planar_share=planar / len(inliers) if inliers else None,
        inlier_share=float(np.median(shares)) if shares else None,
        verified_share=len(neighbours & set(inliers)) / wanted if ordered and wanted else None,
    )


def _neighbours(pair_ids: Iterable[int], rank: Mapping[int, int]) -> set[int]:
    """Pairs of images 1, 2 or 4 places apart in the clip."""
    import pycolmap

    pairs = {pair_id: pycolmap.pair_id_to_image_pair(pair_id) for pair_id in pair_ids}
    return {i for i, (a, b) in pairs.items() if abs(rank[a] - rank[b]) in _NEIGHBOUR_OFFSETS}


def _strongest(inliers: Mapping[int, int]) -> set[int]:
    """Each photo's pairs with the most inliers: what neighbours are where there is no order."""
    import pycolmap

    by_image: dict[int, list[int]] = defaultdict(list)
    for pair_id in sorted(inliers, key=lambda i: (-inliers[i], i)):
        for image in pycolmap.pair_id_to_image_pair(pair_id):
            by_image[image].append(pair_id)
    wanted = len(_NEIGHBOUR_OFFSETS)
    return {pair_id for pair_ids in by_image.values() for pair_id in pair_ids[:wanted]}


def _is_planar(config: int) -> bool:
    import pycolmap

    kinds = pycolmap.TwoViewGeometryConfiguration
    return config in {
        kind.value for kind in (kinds.PLANAR, kinds.PANORAMIC, kinds.PLANAR_OR_PANORAMIC)
    }


def map_frames(
    bench: Workbench, n_frames: int, min_points: int, deadline_cpu_s: float
) -> Any | None:
    """The sub-model with the most sound frames as a ``pycolmap.Reconstruction``, or None.

    Frames that see fewer than ``min_points`` mapped points are taken out of it again: their poses hang
    on too little, and one such frame is no reason to lose a clip.

    Raises:
        SandboxError: this process's CPU seconds passed the deadline while mapping.
    """
    import pycolmap

    output = bench.folder / "models"
    output.mkdir(exist_ok=True)
    pycolmap.set_random_seed(bench.seed)
    try:
        with _cancel_after(deadline_cpu_s) as token:
            models = pycolmap.incremental_mapping(
                bench.database,
                bench.images,
                output,
                options=mapping_options(bench.recipe, n_frames, bench.seed),
                cancellation_token=token,
            )
    except InterruptedError as error:
        raise SandboxError(
            f"COLMAP had not finished {n_frames} frames when the clip's {deadline_cpu_s:.0f} CPU "
            "seconds were used up: raise reconstruct.max_cpu_s, or give it fewer key frames",
            reason=Reason.TIME_LIMIT,
        ) from error
    for model in models.values():
        _drop_weak_frames(model, min_points)
    largest = max(models.values(), key=_size, default=None)
    return largest if largest is not None and largest.num_reg_images() else None


def _size(model: Any) -> tuple[int, int]:
    return model.num_reg_images(), model.num_points3D()


def _drop_weak_frames(model: Any, min_points: int) -> None:
    """Taking one out shortens tracks, so that others may follow."""
    while weak := [i for i in _posed(model) if i.num_points3D < min_points]:
        for image in weak:
            model.deregister_frame(image.frame_id)


def _posed(model: Any) -> list[Any]:
    return [image for image in model.images.values() if image.has_pose]


@contextmanager
def _cancel_after(deadline_cpu_s: float) -> Iterator[Any]:
    """A cancellation token that fires when this process has used that much CPU time."""
    import pycolmap

    token, done = pycolmap.CancellationToken(), threading.Event()

    def watch() -> None:
        while not done.wait(0.2):
            if time.process_time() > deadline_cpu_s:
                token.cancel()
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield token
    finally:
        done.set()
        watcher.join()


def measure_model(model: Any, key_names: Sequence[str]) -> ModelFigures:
    """Figures of a sub-model; the registered share counts the clip's own key frames only."""
    images = _posed(model)
    seen = [image.num_points3D for image in images]
    registered = {str(image.name) for image in images} & set(key_names)
    centres = {image.image_id: image.projection_center() for image in images}
    points = list(model.points3D.values())
    angles = widest_angles(
        np.array([point.xyz for point in points]).reshape(-1, 3),
        [np.array([centres[e.image_id] for e in point.track.elements]) for point in points],
    )
    cameras = [_camera(camera) for camera in model.cameras.values()]
    ratios = [camera.fx / max(camera.width, camera.height) for camera in cameras]
    return ModelFigures(
        key_frames=len(key_names),
        registered_share=len(registered) / len(key_names),
        points=len(points),
        points_median=float(np.median(seen)),
        points_min=min(seen),
        track_length=float(model.compute_mean_track_length()),
        reprojection_px=float(model.compute_mean_reprojection_error()),
        triangulation_deg=float(np.median(angles)) if points else 0.0,
        focal_ratio=float(max(ratios, key=lambda ratio: abs(np.log(ratio)))),
        corner_distortion=max(map(_corner_distortion, cameras), key=abs),
        plausible_lens=all(map(_plausible_lens, cameras)),
    )


def _camera(colmap: Any) -> Camera:
    return Camera.from_colmap(colmap.model_name, colmap.width, colmap.height, colmap.params)


def _corner_distortion(camera: Camera) -> float:
    return float(camera.k1 * (camera.cx**2 + camera.cy**2) / camera.fx**2)


def _plausible_lens(camera: Camera) -> bool:
    try:
        camera.pinhole()
    except SageError:
        return False
    return True


def frames_to_add(
    key_frames: Sequence[int], registered: set[int], candidates: Sequence[int], step: int
) -> list[int]:
    """Extra frames to map, about ``step`` apart, on both sides of each unregistered key frame."""
    extra: set[int] = set()
    for left, right in pairwise(key_frames):
        if step and not (left in registered and right in registered):
            last = left
            for frame in candidates:
                if left < frame < right and frame - last >= step:
                    extra.add(frame)
                    last = frame
    return sorted(extra)
