"""A second opinion on a clip's path: each half of its tracks mapped by itself. Child process only.

The figures of one model say whether it agrees with itself. Two maps that share frames but no match agree
where the frames determine the path; at a hinge, with too little parallax or with an open focal length they
do not.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
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
    """How far a part's path and those by the two halves lie apart.

    Attributes:
        percent, deg: the largest of the three distances between them, as
            :class:`sage_core.sfm.trajectories.Distance` has them; None where they share too few frames to be
            compared.
        share: of the part's frames, those that both halves mapped.
    """

    percent: float | None
    deg: float | None
    share: float


Halves = tuple[list[Poses], list[Poses]]
"""Of either half the paths of its sub-models."""


def map_halves(bench: Workbench, model: Any, n_frames: int, deadline_cpu_s: float) -> Halves:
    """Map the clip anew from each half of the tracks in its database, with the model's lens.

    With the lens free, halves of a clip with little parallax end in other lenses, right as its path may
    be; whether the lens is right is for :mod:`sage_core.sfm.lenses` to tell.

    Raises:
        SandboxError: this process's CPU seconds passed the deadline.
    """
    one, other = (_mapped(bench, model, n_frames, half, deadline_cpu_s) for half in (0, 1))
    return one, other


def _mapped(
    bench: Workbench, model: Any, n_frames: int, half: int, deadline_cpu_s: float
) -> list[Poses]:
    folder = bench.folder / f"half_{half}"
    folder.mkdir(exist_ok=True)
    database = folder / "database.db"
    shutil.copyfile(bench.database, database)
    _keep_half(database, half, bench.seed)
    _set_lens(database, model)
    seed = bench.seed + 1 + half
    options = half_mapping_options(bench.recipe, n_frames, seed)
    models = incremental(database, folder, options, seed, deadline_cpu_s)
    shutil.rmtree(folder)
    return [poses_of(found) for found in models]


def split_half(halves: Halves, part: Poses) -> SplitHalf:
    """Compare the three paths over the frames of a part of the clip.

    Of each half the sub-model counts that shares most frames with the part.
    """
    one, other = (_restricted(paths, part) for paths in halves)
    share = len(one.keys() & other.keys()) / len(part)
    apart = [distance(one, other), distance(one, part), distance(other, part)]
    known = [found for found in apart if found is not None]
    if len(known) < len(apart):
        return SplitHalf(None, None, share)
    return SplitHalf(max(d.percent for d in known), max(d.deg for d in known), share)


def _restricted(paths: Sequence[Poses], part: Poses) -> Poses:
    found: list[Poses] = [{f: path[f] for f in path.keys() & part.keys()} for path in paths]
    return max(found, key=len, default={})


@dataclass(frozen=True)
class Hinge:
    """``frame``: the first after the cut; ``percent``: the larger of the distances on either side of it."""

    frame: int
    percent: float


def hinge(halves: Halves, part: Poses, fewest: int) -> Hinge | None:
    """Where to cut a part so that the halves agree best before and after; None for a part too short.

    A part whose sides hang together by little is sound on either side of that place.

    Args:
        fewest: frames on either side.
    """
    frames = sorted(part)
    best: Hinge | None = None
    for cut in frames[fewest : len(frames) - fewest + 1]:
        before = {frame: part[frame] for frame in frames if frame < cut}
        after = {frame: part[frame] for frame in frames if frame >= cut}
        apart = [split_half(halves, side).percent for side in (before, after)]
        known = [percent for percent in apart if percent is not None]
        if len(known) == 2 and (best is None or max(known) < best.percent):
            best = Hinge(cut, max(known))
    return best


def _keep_half(path: Path, half: int, seed: int) -> None:
    """Remove the verified matches of the other half's tracks from the database."""
    import pycolmap

    with pycolmap.Database.open(path) as database:
        pair_ids, geometries = database.read_two_view_geometries()
        pairs = [pycolmap.pair_id_to_image_pair(pair_id) for pair_id in pair_ids]
        matches = [np.asarray(geometry.inlier_matches, np.int64) for geometry in geometries]
        database.clear_two_view_geometries()
        for (a, b), geometry, keep in zip(
            pairs, geometries, half_of_tracks(pairs, matches, half, seed), strict=True
        ):
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


def half_of_tracks(
    pairs: Sequence[tuple[int, int]], matches: Sequence[NDArray[np.int64]], half: int, seed: int
) -> list[NDArray[np.bool_]]:
    """Which matches of each pair of images belong to that half of all tracks.

    A track is what matches link, directly or by way of further images; none is in both halves.

    Args:
        pairs: image ids.
        matches: for each pair the rows [M, 2] of the key points that match.
        half: 0 or 1.
    """
    if not matches:
        return []
    ends = [
        m.reshape(-1, 2) + (np.array(pair) << 32) for pair, m in zip(pairs, matches, strict=True)
    ]
    points, linked = np.unique(np.concatenate(ends), return_inverse=True)
    linked = linked.reshape(-1, 2)
    _, track = np.unique(_connected(linked, len(points)), return_inverse=True)
    sides = np.random.default_rng(seed).permutation(int(track.max(initial=0)) + 1) % 2
    chosen = sides[track[linked[:, 0]]] == half
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
