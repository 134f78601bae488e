"""Figures of one clip's pairs and of COLMAP's model of it. Child process only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from sage_core.errors import SageError
from sage_core.geometry import Camera
from sage_core.sfm.copies import posed_images
from sage_core.sfm.features import Workbench
from sage_core.sfm.gate import ModelFigures, PairFigures
from sage_core.sfm.lenses import PrincipalPoint, repeatable
from sage_core.sfm.matching import MIN_INLIERS, Named
from sage_core.sfm.model import widest_angles
from sage_core.sfm.turns import Matched, rotation_residual_px

_NEIGHBOUR_OFFSETS = (1, 2, 4)


def measure_pairs(bench: Workbench, loops: Sequence[Named], *, ordered: bool) -> PairFigures:
    """Figures over the pairs in the database, whose images are the key frames in name order.

    ``loops`` are the pairs matched for looking alike, by image names.
    """
    import pycolmap

    with pycolmap.Database.open(bench.database) as database:
        images = sorted(database.read_all_images(), key=lambda image: str(image.name))
        matches = dict(zip(*database.read_num_matches(), strict=True))
        found = zip(*database.read_two_view_geometries(), strict=True)
        verified = {i: g for i, g in found if len(g.inlier_matches) >= MIN_INLIERS}
        residual = rotation_residual_px(_matched(database, images, verified))
    rank = {image.image_id: place for place, image in enumerate(images)}
    ids = {str(image.name): image.image_id for image in images}
    inliers = {i: len(geometry.inlier_matches) for i, geometry in verified.items()}
    planar = sum(_is_planar(geometry.config) for geometry in verified.values())
    neighbours = _neighbours(matches, rank) if ordered else _strongest(inliers)
    shares = [inliers.get(i, 0) / matches[i] for i in neighbours if matches.get(i, 0)]
    wanted = sum(max(0, len(rank) - offset) for offset in _NEIGHBOUR_OFFSETS)
    return PairFigures(
        verified_pairs=len(inliers),
        planar_share=planar / len(inliers) if inliers else None,
        rotation_residual_px=residual,
        inlier_share=float(np.median(shares)) if shares else None,
        verified_share=len(neighbours & set(inliers)) / wanted if ordered and wanted else None,
        loop_pairs=len(loops),
        loops_closed=sum(
            pycolmap.image_pair_to_pair_id(ids[a], ids[b]) in inliers for a, b in loops
        ),
    )


def _matched(database: Any, images: Sequence[Any], verified: Mapping[int, Any]) -> list[Matched]:
    """The verified matches of each pair, from the middle of the pictures."""
    import pycolmap

    sides, points = {}, {}
    for image in images:
        camera = database.read_camera(image.camera_id)
        at = np.asarray(database.read_keypoints(image.image_id), np.float64)[:, :2]
        points[image.image_id] = at - np.array([camera.width, camera.height]) / 2
        sides[image.image_id] = max(camera.width, camera.height)
    found = []
    for pair_id, geometry in verified.items():
        a, b = pycolmap.pair_id_to_image_pair(pair_id)
        rows = np.asarray(geometry.inlier_matches)
        found.append(Matched(points[a][rows[:, 0]], points[b][rows[:, 1]], (sides[a], sides[b])))
    return found


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


def measure_model(
    model: Any, key_names: Sequence[str], principal: PrincipalPoint | None, *, ordered: bool
) -> ModelFigures:
    """Figures of a part's model; the shares count the part's own key frames only.

    ``principal``: where an adjustment put the principal point when it was free.
    """
    images = posed_images(model)
    seen = [image.num_points3D for image in images]
    centres = {image.image_id: image.projection_center() for image in images}
    points = list(model.points3D.values())
    tracks = [[element.image_id for element in point.track.elements] for point in points]
    angles = widest_angles(
        np.array([point.xyz for point in points]).reshape(-1, 3),
        [np.array([centres[image_id] for image_id in track]) for track in tracks],
    )
    cameras = [_camera(camera) for camera in model.cameras.values()]
    ratios = [camera.fx / max(camera.width, camera.height) for camera in cameras]
    along = sorted(images, key=lambda image: str(image.name)) if ordered else []
    return ModelFigures(
        key_frames=len(key_names),
        registered_share=_share(model, key_names),
        points=len(points),
        points_median=float(np.median(seen)),
        points_min=min(seen),
        track_length=float(model.compute_mean_track_length()),
        reprojection_px=float(model.compute_mean_reprojection_error()),
        triangulation_deg=float(np.median(angles)) if points else 0.0,
        focal_ratio=float(max(ratios, key=lambda ratio: abs(np.log(ratio)))),
        corner_distortion=max(map(_corner_distortion, cameras), key=abs),
        plausible_lens=all(map(_plausible_lens, cameras)),
        focal_sigma=focal_sigma(model),
        weakest_link=weakest_link([image.image_id for image in along], tracks),
        largest_jump=largest_jump([centres[image.image_id] for image in along]),
        principal_offset=principal.offset if principal else None,
        principal_sigma=principal.sigma if principal else None,
    )


def _share(model: Any, key_names: Sequence[str]) -> float:
    return len({str(image.name) for image in posed_images(model)} & set(key_names)) / len(key_names)


def focal_sigma(model: Any) -> float | None:
    """Standard deviation of the focal length over itself, from the covariance of the bundle adjustment.

    Observations are taken to err by the model's mean reprojection error. A focal length that the frames
    leave open can settle anywhere with small reprojection errors; that it was open shows here.
    """
    import pycolmap

    config = pycolmap.BundleAdjustmentConfig()
    for image_id in model.reg_image_ids():
        config.add_image(image_id)
    config.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    adjuster = pycolmap.create_default_ceres_bundle_adjuster(
        pycolmap.BundleAdjustmentOptions(), config, model
    )
    covariance = pycolmap.estimate_ba_covariance(pycolmap.BACovarianceOptions(), model, adjuster)
    if covariance is None:
        return None
    error_px = model.compute_mean_reprojection_error()
    sigmas = []
    for camera in model.cameras.values():
        of_lens = covariance.get_other_params_cov(camera.params)
        if of_lens is not None:
            sigmas.append(error_px * np.sqrt(max(0.0, float(of_lens[0, 0]))) / camera.focal_length)
    return repeatable(max(sigmas)) if sigmas else None


def weakest_link(along: Sequence[int], tracks: Sequence[Sequence[int]]) -> float | None:
    """Fewest points that hold the frames before and after any place together, over their median number.

    Args:
        along: ids of a clip's mapped frames in order.
        tracks: for each point the ids of the frames that see it.

    Returns:
        0 where the two sides share nothing, so that their scale and place to each other are arbitrary.
        The first and last tenth of the places do not count. None for fewer than 5 frames.
    """
    if len(along) < 5:
        return None
    place = {image_id: at for at, image_id in enumerate(along)}
    crossing = np.zeros(len(along), np.int64)
    for track in tracks:
        at = [place[image_id] for image_id in track]
        crossing[min(at)] += 1
        crossing[max(at)] -= 1
    over = np.cumsum(crossing)[:-1]
    ends = len(over) // 10
    return float(over[ends : len(over) - ends].min() / max(1.0, float(np.median(over))))


def largest_jump(centres: Sequence[Any]) -> float | None:
    """Largest step between a clip's successive mapped frames over the larger of the steps beside it.

    A camera carried by hand or drone speeds up and slows down over several key frames; a model whose
    parts do not fit leaps. None for fewer than 5 frames.
    """
    if len(centres) < 5:
        return None
    step = np.linalg.norm(np.diff(np.asarray(centres), axis=0), axis=1)
    floor = 0.25 * float(np.median(step)) + 1e-12  # standing still is no jump's neighbour
    beside = np.maximum(step[:-2], step[2:])
    return float((step[1:-1] / np.maximum(beside, floor)).max())


def _camera(colmap: Any) -> Camera:
    return Camera.from_colmap(colmap.model_name, colmap.width, colmap.height, colmap.params)


def _corner_distortion(camera: Camera) -> float:
    across, down = (
        max(camera.cx, camera.width - camera.cx),
        max(camera.cy, camera.height - camera.cy),
    )
    return float(camera.k1 * (across**2 + down**2) / camera.fx**2)


def _plausible_lens(camera: Camera) -> bool:
    try:
        camera.pinhole()
    except SageError:
        return False
    return True
