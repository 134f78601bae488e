"""The verdict on each part of a mapped clip: its own figures first, second opinions where these pass.

Child process only.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from sage_core.config.reconstruct import GateConfig, ReconstructConfig
from sage_core.sfm import figures
from sage_core.sfm.features import Workbench
from sage_core.sfm.gate import (
    Opinions,
    PairFigures,
    confirmed,
    judge_model,
    judge_opinions,
)
from sage_core.sfm.halves import SUBSETS, Paths, SplitHalf, hinge, map_subset, split_half
from sage_core.sfm.lenses import PrincipalPoint, focal_spread, free_principal_point
from sage_core.sfm.model import frame_name
from sage_core.sfm.parts import frames_of, within
from sage_core.sfm.trajectories import Poses, poses_of
from sage_core.types import Clip, Judgement, Verdict


@dataclass(frozen=True)
class Part:
    """A range of a clip's frames with its own model.

    Attributes:
        clip: the range, from the first to the last frame that is mapped.
        model: ``pycolmap.Reconstruction``.
    """

    clip: Clip
    model: Any
    judgement: Judgement

    @property
    def accepted(self) -> bool:
        return self.judgement.verdict is Verdict.ACCEPTED

    @property
    def key_frames(self) -> int:
        return len(self.clip.key_frames)


@dataclass
class Judge:
    """Judges the parts of one mapped clip.

    Attributes:
        bench: holds the clip's matches, which the halves are mapped from.
        n_frames: that were given to COLMAP.
        by_subset: paths by the :data:`SUBSETS` of the tracks, as many as were mapped.
    """

    config: ReconstructConfig
    clip: Clip
    bench: Workbench
    pairs: PairFigures
    n_frames: int
    by_subset: dict[tuple[int, int], Paths] = field(default_factory=dict)

    def __call__(self, model: Any) -> list[Part]:
        """The part with its verdict; or the sides of its hinge, where it has one, with theirs.

        Raises:
            SandboxError: out of CPU time while the halves were mapped.
        """
        model, principal = refined(model, self.config.gate)
        part = self.clip
        if self.clip.ordered:
            frames = frames_of(model)
            part = self.clip.narrowed(frames[0], frames[-1])
        names = [frame_name(frame) for frame in part.key_frames]
        measured = figures.measure_model(model, names, principal, ordered=self.clip.ordered)
        if part is not self.clip:
            measured = replace(measured, part_s=part.end_s - part.start_s)
        judgement = judge_model(self.pairs, measured, self.config.gate)
        if judgement.verdict is not Verdict.ACCEPTED:
            return [Part(part, model, judgement)]
        poses = poses_of(model)
        opinions = Opinions(self._split_half(model, poses), focal_spread(model))
        judgement = judge_opinions(judgement, opinions, self.config.gate)
        if not confirmed(opinions.split_half, self.config.gate):
            sides = self._sides(model, poses)
            if sides:
                return [part for side in sides for part in self(side)]
        return [Part(part, model, judgement)]

    def _sides(self, model: Any, poses: Poses) -> list[Any]:
        """The models before and after the frame where the path is open, if a side is confirmed."""
        if not self.clip.ordered:
            return []
        gate = self.config.gate
        subsets = [self._subset(model, left_out) for left_out in SUBSETS]
        fewest = gate.min_part_key_frames
        cut = hinge(subsets, poses, fewest, partial(confirmed, gate=gate))
        if cut is None:
            return []
        before = {frame for frame in poses if frame < cut}
        sides = [before, poses.keys() - before]
        return [within(model, side) for side in sides if len(side) >= fewest]

    def _split_half(self, model: Any, poses: Poses) -> SplitHalf:
        """By halves of the tracks, then by two thirds of them, mapped until one confirms the path."""
        subsets = (self._subset(model, left_out) for left_out in SUBSETS)
        return split_half(subsets, poses, partial(confirmed, gate=self.config.gate))

    def _subset(self, model: Any, left_out: tuple[int, int]) -> Paths:
        """Mapped once a clip, with the lens of the first part that asks, the largest."""
        if left_out not in self.by_subset:
            limit = self.config.max_cpu_s
            found = map_subset(self.bench, model, self.n_frames, limit, left_out)
            self.by_subset[left_out] = found
        return self.by_subset[left_out]


def refined(model: Any, gate: GateConfig) -> tuple[Any, PrincipalPoint | None]:
    """The model with a free principal point where that lies beyond doubt beside the middle, else as it is."""
    freed, principal = free_principal_point(model)
    if principal is None:
        return model, None
    beside = principal.offset > gate.principal_point_offset
    beside &= principal.offset > gate.principal_point_sigmas * principal.sigma
    return (freed if beside else model), principal
