"""What the pipeline made of MiniWorld's films, against the truth that it never saw.

    python -m sage_core.world.films --out films --count 64
    sage run -w ws --stages acquire,curate,reconstruct,assemble films
    python -m benchmarks.mined_films --shards ws/shards --json films.json

Of every clip in the shards: the distance of its path from the filmed one (RMSE of the centres after Sim3, in
percent of the extent; median rotation), and the depth of its anchors in six frames against the ray caster's
(median error, as a share of the depth, after one factor a clip).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.table import parser, publish
from sage_core.sfm.trajectories import distance
from sage_core.shards import ClipInfo, FrameRecord, ShardReader
from sage_core.world import build_scene, camera_path, render_views
from sage_core.world.films import FPS, SECONDS, film_plan
from sage_core.world.scenes import Scene
from sage_core.world.videos import film_intrinsics

WRONG_PERCENT, WRONG_DEG = 2.0, 3.0
_CHECKED = 6


@dataclass(frozen=True)
class Mined:
    """A clip against the truth."""

    film: str
    effects: str
    frames: int
    percent: float
    deg: float
    anchors: float

    @property
    def wrong(self) -> bool:
        """Beyond 2 % of the extent or 3 degrees."""
        return self.percent > WRONG_PERCENT or self.deg > WRONG_DEG


def mined(clip: ClipInfo, frames: list[FrameRecord]) -> Mined:
    """Hold one clip against the film that its source names."""
    film = Path(clip.source).stem
    plan = film_plan(int(film.rpartition("-")[2]))
    scene = build_scene(plan.seed, plan.family)
    path = camera_path(scene, plan.motion, round(SECONDS * FPS), FPS, 0)
    off = distance({f.frame: f.cam_from_world for f in frames}, dict(enumerate(path)))
    effects = [f"shutter {plan.effects.shutter:g}"] * (plan.effects.shutter > 0)
    effects += [f"readout {plan.effects.readout:g}"] * (plan.effects.readout > 0)
    return Mined(
        film=film.rpartition("-")[0],
        effects=", ".join(effects),
        frames=len(frames),
        percent=off.percent if off else float("inf"),
        deg=off.deg if off else float("inf"),
        anchors=_anchor_error(scene, path, frames[:: max(1, len(frames) // _CHECKED)]),
    )


def _anchor_error(scene: Scene, path: np.ndarray, frames: list[FrameRecord]) -> float:
    ratios = []
    for frame in frames:
        K = film_intrinsics(scene, (frame.width, frame.height))
        _, depth = render_views(
            scene, path[frame.frame][None], K[None], frame.height, frame.width, smooth_edges=False
        )
        x, y = frame.anchors.xy.astype(int).T
        ratios.append(frame.anchors.depth / depth[0, y, x])
    all_ratios = np.concatenate(ratios)
    return float(np.median(np.abs(all_ratios / np.median(all_ratios) - 1)))


def main() -> None:
    """Command line."""
    arguments_of = parser(__doc__)
    arguments_of.add_argument(
        "--shards", type=Path, required=True, help="shards mined of the films"
    )
    arguments = arguments_of.parse_args()
    torch.set_num_threads(1)
    reader = ShardReader([arguments.shards])
    clips = [reader.clip(name) for name in reader.names]
    found = [mined(c, list(reader.frames(c, range(c.n_frames)))) for c in clips]
    found.sort(key=lambda one: one.percent)
    publish(
        "clips against the truth",
        [asdict(one) for one in found],
        arguments.json,
        accepted=len(found),
        wrong=sum(one.wrong for one in found),
        median_percent=float(np.median([one.percent for one in found])),
        median_deg=float(np.median([one.deg for one in found])),
        median_anchor_error=float(np.median([one.anchors for one in found])),
    )


if __name__ == "__main__":
    main()
