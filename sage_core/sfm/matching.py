"""Matches and verified pairs of one clip's frames in COLMAP's database. Child process only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sage_core.sfm.features import Workbench
from sage_core.sfm.pairs import alike_pairs, all_pairs, loop_pairs, sequential_pairs
from sage_core.sfm.recipes import matching_options, verification_options

MIN_INLIERS = 15
_MAX_RATIO, _MAX_DISTANCE = 0.8, 0.7
"""COLMAP's: angle to the best against the second best candidate, and to the best in radians."""

Named = tuple[str, str]


def match(bench: Workbench, *, ordered: bool) -> list[Named]:
    """Match and verify the pairs that the recipe asks for; pairs already done are skipped.

    Returns:
        Candidates for loops among them, by image names in order of the clip.
    """
    import pycolmap

    if bench.recipe.exhaustive:
        pycolmap.match_exhaustive(bench.database, **_colmap_arguments(bench))
        return []
    with pycolmap.Database.open(bench.database) as database:
        images = sorted(database.read_all_images(), key=lambda image: str(image.name))
        names = [str(image.name) for image in images]
        descriptors = _descriptors(database, images)
    if ordered:
        loops = loop_pairs(descriptors, bench.seed)
        pairs = sorted({*sequential_pairs(len(names)), *loops})
    else:
        loops = []
        pairs = alike_pairs(descriptors, bench.seed) if descriptors else all_pairs(len(names))
    if bench.recipe.detector == "opencv":
        _match_here(bench, [image.image_id for image in images], names, descriptors, pairs)
    else:
        pairing = pycolmap.ImportedPairingOptions()
        pairing.match_list_path = _listed(bench, [(names[i], names[j]) for i, j in pairs])
        pycolmap.match_image_pairs(
            bench.database, pairing_options=pairing, **_colmap_arguments(bench)
        )
    return [(names[i], names[j]) for i, j in loops]


def _colmap_arguments(bench: Workbench) -> dict[str, Any]:
    import pycolmap

    on_gpu = bench.recipe.detector == "colmap_gpu"
    return {
        "matching_options": matching_options(bench.recipe),
        "verification_options": verification_options(bench.recipe, bench.seed),
        "device": pycolmap.Device.cuda if on_gpu else pycolmap.Device.cpu,
    }


def _descriptors(database: Any, images: Sequence[Any]) -> list[NDArray[np.uint8]]:
    """Each image's SIFT descriptors; none where they are of another kind."""
    import pycolmap

    read = [database.read_descriptors(image.image_id) for image in images]
    if any(one.type != pycolmap.FeatureExtractorType.SIFT for one in read):
        return []
    return [np.asarray(one.data, np.uint8).reshape(-1, 128) for one in read]


def _listed(bench: Workbench, pairs: Sequence[Named]) -> Any:
    """COLMAP's pair list."""
    path = bench.folder / "pairs.txt"
    path.write_text("".join(f"{a} {b}\n" for a, b in pairs))
    return path


def _match_here(
    bench: Workbench,
    ids: Sequence[int],
    names: Sequence[str],
    descriptors: Sequence[NDArray[np.uint8]],
    pairs: Sequence[tuple[int, int]],
) -> None:
    import pycolmap

    unit = [_unit(one) for one in descriptors]
    with pycolmap.Database.open(bench.database) as database:
        new = [(i, j) for i, j in pairs if not database.exists_matches(ids[i], ids[j])]
        matches = [mutual_matches(unit[i], unit[j]) for i, j in new]
        for (i, j), found in zip(new, matches, strict=True):
            database.write_matches(ids[i], ids[j], found)
    enough = [
        (names[i], names[j])
        for (i, j), m in zip(new, matches, strict=True)
        if len(m) >= MIN_INLIERS
    ]
    if enough:
        pycolmap.verify_matches(
            bench.database,
            _listed(bench, enough),
            verification_options(bench.recipe, bench.seed),
        )


def _unit(descriptors: NDArray[np.uint8]) -> NDArray[np.float32]:
    values = descriptors.astype(np.float32)
    return np.asarray(values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-9))


def mutual_matches(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Rows [M, 2] that are each other's nearest and far nearer than the second nearest, both ways.

    The rule is COLMAP's; one product of matrices takes half the time of its index and misses none.

    Args:
        a, b: unit descriptors [N, D].
    """
    if len(a) < 2 or len(b) < 2:
        return np.empty((0, 2), np.uint32)
    cosine = a @ b.T
    nearest = cosine.argmax(1)
    best = cosine[np.arange(len(a)), nearest]
    i = np.flatnonzero(best >= np.cos(_MAX_DISTANCE))
    j, best = nearest[i], best[i]
    cosine[i, j] = -1.0
    sure = _distinct(best, cosine[i].max(1))
    i, j, best = i[sure], j[sure], best[sure]
    back = b[j] @ a.T  # of the few that are left: cheaper than turning the whole matrix
    mutual = back.argmax(1) == i
    back[np.arange(len(i)), i] = -1.0
    sure = mutual & _distinct(best, back.max(1))
    return np.stack([i[sure], j[sure]], 1).astype(np.uint32)


def _distinct(best: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.bool_]:
    angle, other = (np.arccos(np.clip(cosine, -1, 1)) for cosine in (best, second))
    return np.asarray(angle <= _MAX_RATIO * other)
