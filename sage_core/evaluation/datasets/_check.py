"""Does a scene agree with itself? Depth of one view is moved into others by the poses and compared there.

A wrong scale, pose direction, axis or principal point shows as depth that does not agree from view to view.
Each known mistake is undone in turn; the one that makes the views agree is named.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import numpy.typing as npt

from sage_core.evaluation.datasets._scene import Scene
from sage_core.geometry import (
    compose,
    invert,
    pixel_centres,
    project,
    relative,
    rotation_angle_deg,
    transform,
    unproject,
)

Array = npt.NDArray[np.float64]
ENOUGH = 0.6
"""Share of consistent pixels from which a scene counts as sound."""
TOLERANCE = 0.05
"""Depth of two views agrees when it differs by at most this share."""
_TOLERANCES = (0.01, 0.02, 0.05)
_GAIN = 0.08
"""How much better a mistake undone must fit before it is named."""
_GRID = (24, 32)
_PAIRS = 16
_STEPS = (1, 2, 4, 8, 16, 32, 64, 128)
_MOST_TURN_DEG = 40.0
_WANTED_TRAVEL = 0.15
_FEWEST_SEEN = 0.2
_FACTORS = tuple(sorted({*np.geomspace(0.02, 50, 41), *(1000.0, 0.001, 5.0, 0.2, 4.0, 0.25, 1.0)}))
_FLIP = np.array([[1.0, 0, 0, 0], [0, -1.0, 0, 0], [0, 0, -1.0, 0]])


@dataclass(frozen=True)
class Mistake:
    """What may be wrong with a scene as it was read, and so how to undo it.

    Attributes:
        inverted: poses are the other way round.
        flipped: y and z of the cameras' axes point the other way (OpenGL against OpenCV).
        mirrored: the principal point's y is counted from the picture's other side.
        along_ray: depth is the distance from the camera's centre, not z.
        factor: by what the depth is too large.
    """

    inverted: bool = False
    flipped: bool = False
    mirrored: bool = False
    along_ray: bool = False
    factor: float = 1.0

    def words(self) -> str:
        """What is wrong, in words; empty if nothing is."""
        said = [
            *(["poses are world-from-camera where camera-from-world is read"] * self.inverted),
            *(["the cameras' y and z axes are flipped (OpenGL's for OpenCV's)"] * self.flipped),
            *(["the principal point's y is counted from the picture's other side"] * self.mirrored),
            *(["depth is the distance along the ray, not z"] * self.along_ray),
        ]
        if self.factor > 1.03:
            said.append(f"depth is {_times(self.factor)} × too large for the poses")
        if self.factor < 1 / 1.03:
            said.append(f"depth is {_times(1 / self.factor)} × too small for the poses")
        return ", and ".join(said)


def _times(factor: float) -> str:
    return f"{factor:.2g}" if factor < 100 else f"{factor:,.0f}"


@dataclass(frozen=True)
class SceneCheck:
    """The outcome for one scene.

    Attributes:
        name: the scene's.
        pairs: how many pairs of views were compared.
        consistent: share of the compared pixels whose depth agrees within 5 %, as the scene was read.
        best: the same with the mistake undone.
        mistake: what explains the views best; nothing wrong where that is how they were read.
        scale_band: factors on depth between which the views agree as well: a wide band says that the
            cameras moved too little to tell the scale.
        missing, lost: numbers of frames of which there is nothing, and without a finite pose.
    """

    name: str
    pairs: int
    consistent: float
    best: float
    mistake: Mistake
    scale_band: tuple[float, float]
    missing: tuple[int, ...] = ()
    lost: tuple[int, ...] = ()

    @property
    def sound(self) -> bool:
        return self.consistent >= ENOUGH and not self.mistake.words()

    def verdict(self) -> str:
        """One sentence."""
        share = f"{self.consistent:.0%} of the pixels agree from view to view"
        if self.sound:
            return share
        if not self.pairs:
            return "no two views see the same place with depth, so nothing can be said"
        if self.mistake.words() and self.best >= min(ENOUGH, 2 * self.consistent + 0.1):
            return f"{share}, {self.best:.0%} if {self.mistake.words()}"
        return f"{share} (at least {ENOUGH:.0%} should), and no known mistake explains it"


@dataclass(frozen=True)
class _Pair:
    """Depth z of view a on a grid, and all of view b's."""

    xy: Array
    z: Array
    depth_b: npt.NDArray[np.float32]
    K_a: Array
    K_b: Array
    a_from_world: Array
    b_from_world: Array


def check_scene(scene: Scene) -> SceneCheck:
    """Compare pairs of views of a scene, and look for what would make them agree better.

    Raises:
        MediaError: a depth picture that cannot be read.
    """
    pairs = _pairs(scene)
    as_read = Mistake()
    scores = {mistake: _score(pairs, mistake) for mistake in _candidates()}
    best = max(scores, key=lambda m: scores[m])
    if scores[best] < scores[as_read] + _GAIN:
        best = as_read
    best = _refined(pairs, best, scores[as_read]) if best != as_read else best
    return SceneCheck(
        scene.name,
        len(pairs),
        _share(pairs, as_read, TOLERANCE),
        _share(pairs, best, TOLERANCE),
        best,
        _scale_band(pairs, best),
        tuple(scene.missing),
        scene.lost,
    )


def _candidates() -> list[Mistake]:
    """Nothing wrong, each mistake alone, and poses and scale together."""
    poses = [Mistake(inverted=i, flipped=f) for i in (False, True) for f in (False, True)]
    alone = [Mistake(mirrored=True), Mistake(along_ray=True)]
    return [*(replace(pose, factor=float(f)) for pose in poses for f in _FACTORS), *alone]


def _refined(pairs: list[_Pair], mistake: Mistake, as_read: float) -> Mistake:
    """The factor to a hundredth; 1 where that fits as well."""
    around = [mistake.factor * step for step in np.geomspace(0.8, 1.25, 46)]
    tried = {f: _score(pairs, replace(mistake, factor=f)) for f in (*around, 1.0)}
    best = max(tried, key=lambda f: tried[f])
    plain = replace(mistake, factor=1.0)
    if tried[1.0] > tried[best] - _GAIN / 2 and (plain != Mistake() or tried[1.0] > as_read):
        return plain
    return replace(mistake, factor=float(best))


def _scale_band(pairs: list[_Pair], mistake: Mistake) -> tuple[float, float]:
    tried = {
        step: _score(pairs, replace(mistake, factor=mistake.factor * step))
        for step in np.geomspace(0.25, 4, 41)
    }
    top = max(tried.values())
    good = [step for step, score in tried.items() if score >= top - 0.02]
    return float(min(good)), float(max(good))


def _pairs(scene: Scene) -> list[_Pair]:
    poses = scene.cam_from_world

    @cache
    def depth(place: int) -> npt.NDArray[np.float32]:
        return scene.depth(place)

    starts = np.unique(np.linspace(0, len(scene) - 2, min(_PAIRS, len(scene) - 1)).astype(int))
    chosen = []
    for a in starts.tolist():
        known = depth(a)[depth(a) > 0]
        others = [b for step in _STEPS for b in (a + step, a - step) if 0 <= b < len(scene)]
        if len(known) and others:
            b = _partner(poses, a, others, float(np.median(known)))
            chosen.append(_pair(scene, a, b, depth(a), depth(b)))
    return chosen


def _partner(poses: Array, a: int, others: list[int], depth: float) -> int:
    """The view whose travel is a good part of the depth and whose turn leaves the same things in sight."""
    motion = relative(poses[others], poses[a])
    travel = np.linalg.norm(motion[:, :, 3], axis=-1) / depth
    turn = rotation_angle_deg(motion[:, :, :3])
    off = np.abs(np.log(np.maximum(travel, 1e-6) / _WANTED_TRAVEL)) + 10 * (turn > _MOST_TURN_DEG)
    return others[int(off.argmin())]


def _pair(
    scene: Scene, a: int, b: int, depth_a: npt.NDArray[np.float32], depth_b: npt.NDArray[np.float32]
) -> _Pair:
    height, width = depth_a.shape
    rows = ((np.arange(_GRID[0]) + 0.5) * height / _GRID[0]).astype(int)
    columns = ((np.arange(_GRID[1]) + 0.5) * width / _GRID[1]).astype(int)
    z = depth_a[np.ix_(rows, columns)].astype(np.float64)
    xy = pixel_centres(width, height)[np.ix_(rows, columns)]
    first, second = scene.frames[a], scene.frames[b]
    return _Pair(
        xy[z > 0], z[z > 0], depth_b,
        first.intrinsics, second.intrinsics, first.cam_from_world, second.cam_from_world,
    )  # fmt: skip


def _score(pairs: list[_Pair], mistake: Mistake) -> float:
    """Mean share over a strict, a middling and a lax tolerance: sharper than one of them alone."""
    return _share(pairs, mistake, *_TOLERANCES)


def _share(pairs: list[_Pair], mistake: Mistake, *tolerances: float) -> float:
    """Consistent pixels over compared ones, mean over pairs and tolerances; a pair that hardly overlaps
    counts as if it did by a fifth.
    """
    shares = []
    for pair in pairs:
        errors = _errors(pair, mistake)
        compared = max(len(errors), _FEWEST_SEEN * len(pair.z), 1)
        shares.append(np.mean([(errors <= limit).sum() for limit in tolerances]) / compared)
    return float(np.mean(shares)) if shares else 0.0


def _errors(pair: _Pair, mistake: Mistake) -> Array:
    """Relative differences of depth at the pixels that view b sees, too."""
    height, width = pair.depth_b.shape
    K_a, K_b = (_undone_intrinsics(K, height, mistake) for K in (pair.K_a, pair.K_b))
    a, b = (_undone_pose(pose, mistake) for pose in (pair.a_from_world, pair.b_from_world))
    z = pair.z / mistake.factor
    if mistake.along_ray:
        z = z / _ray_length(K_a, pair.xy)
    xy, depth = project(K_b, transform(relative(b, a), unproject(K_a, pair.xy, z)))
    seen = (depth > 0) & (xy >= 0).all(-1) & (xy < (width, height)).all(-1)
    column, row = np.floor(xy[seen]).astype(int).T
    measured = pair.depth_b[row, column].astype(np.float64) / mistake.factor
    if mistake.along_ray:
        measured = measured / _ray_length(K_b, np.stack([column, row], -1) + 0.5)
    known = measured > 0
    return np.asarray(np.abs(measured[known] / depth[seen][known] - 1))


def _ray_length(K: Array, xy: Array) -> Array:
    return np.asarray(np.linalg.norm(unproject(K, xy, np.ones(len(xy))), axis=-1))


def _undone_intrinsics(K: Array, height: int, mistake: Mistake) -> Array:
    if not mistake.mirrored:
        return K
    undone = K.copy()
    undone[1, 2] = height - K[1, 2]
    return undone


def _undone_pose(cam_from_world: Array, mistake: Mistake) -> Array:
    pose = invert(cam_from_world) if mistake.inverted else cam_from_world
    return compose(_FLIP, pose) if mistake.flipped else pose
