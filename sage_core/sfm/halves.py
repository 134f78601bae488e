"""A second opinion on a clip's path: each half of its tracks mapped by itself. Child process only.

The figures of one model say whether it agrees with itself. A map of half the tracks gives the same path where
the frames determine it; where they leave it open, a path that came out by chance comes out otherwise.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sage_core.sfm.features import Workbench
from sage_core.sfm.mapping import incremental
from sage_core.sfm.recipes import half_mapping_options
from sage_core.sfm.trajectories import Poses, distance, poses_of


@dataclass(frozen=True)
class SplitHalf:
    """How far the path by a subset of the tracks lies from a part's own.

    Attributes:
        percent, deg: as :class:`sage_core.sfm.trajectories.Distance` has them; None where they cannot be
            compared.
        share: of the part's frames, those that this subset mapped.
    """

    percent: float | None
    deg: float | None
    share: float


Paths = Sequence[Poses]
"""By one subset of the tracks: one of each sub-model."""
HALVES = ((1, 2), (0, 2))
SUBSETS = (*HALVES, (1, 3), (2, 3))
"""Subsets of the tracks in the order that they are asked, by what each leaves out: the part, of how many."""


def map_subset(
    bench: Workbench, model: Any, n_frames: int, deadline_cpu_s: float, left_out: tuple[int, int]
) -> Paths:
    """Map the clip anew from a subset of the tracks in its database, with the model's lens.

    With the lens free, halves of a clip with little parallax end in other lenses, right as its path may
    be; whether the lens is right is for :mod:`sage_core.sfm.lenses` to tell.

    Args:
        left_out: one of the :data:`SUBSETS`.

    Raises:
        SandboxError: this process's CPU seconds passed the deadline.
    """
    folder = bench.folder / "subset"
    folder.mkdir(exist_ok=True)
    database = folder / "database.db"
    shutil.copyfile(bench.database, database)
    _leave_out(database, *left_out, bench.seed)
    _set_lens(database, model)
    options = half_mapping_options(bench.recipe, n_frames, bench.seed)
    models = incremental(database, folder, options, bench.seed, deadline_cpu_s)
    shutil.rmtree(folder)
    return [poses_of(found) for found in models]


def split_half(
    subsets: Iterable[Paths], part: Poses, confirmed: Callable[[SplitHalf], bool]
) -> SplitHalf:
    """A part's path beside that of the first subset of the tracks that confirms it, else of the nearest.

    With half the tracks, paths go astray more often than with all of them, so that one that confirms says
    more than one that does not: models that were wrong have been confirmed by neither. So no more subsets
    are drawn than are needed. Of each the sub-model counts that shares most frames with the part.
    """
    found = []
    for paths in subsets:
        path = _restricted(paths, part)
        apart = distance(path, part)
        if apart is None:
            continue
        found.append(SplitHalf(apart.percent, apart.deg, len(path) / len(part)))
        if confirmed(found[-1]):
            return found[-1]
    return min(found, key=_badness, default=SplitHalf(None, None, 0.0))


def _badness(half: SplitHalf) -> float:
    """Percent and degrees alike, as the share of the frames makes them worth less."""
    return (float(half.percent or 0) + float(half.deg or 0)) / max(half.share, 1e-9)


def _restricted(paths: Paths, part: Poses) -> Poses:
    found: list[Poses] = [{f: path[f] for f in path.keys() & part.keys()} for path in paths]
    return max(found, key=len, default={})


def hinge(
    subsets: Sequence[Paths], part: Poses, fewest: int, confirmed: Callable[[SplitHalf], bool]
) -> int | None:
    """The first frame after the cut that leaves most frames on sides that are confirmed, if there is one.

    A path that is open at one place, as at a doorway, may be sound on either side of it. One of many cuts is
    chosen, so that on each side the nearest of all subsets counts, and not any that confirms.

    Args:
        fewest: frames that a side must have to count.
    """
    frames = sorted(part)
    most, best = 0, None
    for cut in frames[1:]:
        kept = 0
        for before in (True, False):
            side = {frame: part[frame] for frame in frames if (frame < cut) is before}
            if len(side) >= fewest and confirmed(split_half(subsets, side, _none)):
                kept += len(side)
        if kept > most:
            most, best = kept, cut
    return best


def _none(_: SplitHalf) -> bool:
    return False


def _leave_out(path: Path, part: int, of: int, seed: int) -> None:
    """Remove the verified matches of that part of the tracks from the database."""
    import pycolmap

    with pycolmap.Database.open(path) as database:
        pair_ids, geometries = database.read_two_view_geometries()
        pairs = [pycolmap.pair_id_to_image_pair(pair_id) for pair_id in pair_ids]
        matches = [np.asarray(geometry.inlier_matches, np.int64) for geometry in geometries]
        database.clear_two_view_geometries()
        kept = without_tracks(pairs, matches, part, of, seed)
        for (a, b), geometry, keep in zip(pairs, geometries, kept, strict=True):
            geometry.inlier_matches = geometry.inlier_matches[keep]
            database.write_two_view_geometry(a, b, geometry)


def _set_lens(path: Path, model: Any) -> None:
    import pycolmap

    with pycolmap.Database.open(path) as database:
        for camera in model.cameras.values():
            stored = database.read_camera(camera.camera_id)
            stored.params = camera.params
            stored.has_prior_focal_length = True
            database.update_camera(stored)


def without_tracks(
    pairs: Sequence[tuple[int, int]],
    matches: Sequence[NDArray[np.int64]],
    part: int,
    of: int,
    seed: int,
) -> list[NDArray[np.bool_]]:
    """Which matches of each pair of images are left without one part of all tracks.

    A track is what matches link, directly or by way of further images; none is in two parts.

    Args:
        pairs: image ids.
        matches: for each pair the rows [M, 2] of the key points that match.
        part: from 0 to ``of`` - 1.
    """
    if not matches:
        return []
    ends = [
        m.reshape(-1, 2) + (np.array(pair) << 32) for pair, m in zip(pairs, matches, strict=True)
    ]
    points, linked = np.unique(np.concatenate(ends), return_inverse=True)
    linked = linked.reshape(-1, 2)
    _, track = np.unique(_connected(linked, len(points)), return_inverse=True)
    sides = np.random.default_rng(seed).permutation(int(track.max(initial=0)) + 1) % of
    chosen = sides[track[linked[:, 0]]] != part
    return np.split(chosen, np.cumsum([len(m) for m in matches])[:-1])


def _connected(links: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The lowest number that each of ``count`` points is linked with, directly or by way of others."""
    lowest = np.arange(count)
    while True:
        lower = lowest.copy()
        least = lowest[links].min(1)
        np.minimum.at(lower, links[:, 0], least)
        np.minimum.at(lower, links[:, 1], least)
        lower = lower[lower]
        if (lower == lowest).all():
            return lowest
        lowest = lower
