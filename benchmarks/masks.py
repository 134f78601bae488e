"""Masks: found against true ones, and anchors on things that move, in rooms with movers, zoom and overlays.

python -m benchmarks.masks --clips 2 --json masks.json

Each clip is filmed at six frames a second (about as far apart as frames with poses are), reconstructed
without masks and with them, and compared with the renderer's own masks at the size of the SfM images.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.table import parser, publish
from sage_core.config.masks import MaskConfig
from sage_core.config.reconstruct import ReconstructConfig
from sage_core.geometry import transform
from sage_core.masks import FOLDER, covered, read_mask, resized
from sage_core.sfm import SparseModel, load_clip_model, model_anchors, reconstruct
from sage_core.types import Clip, Verdict
from sage_core.world import build_scene, camera_path
from sage_core.world.disturbances import Disturbances, disturbed_frames, make_movers
from sage_core.world.rooms import SPLITS
from sage_core.world.videos import film_intrinsics

FPS = 6.0
SEED = SPLITS["film"].start + 70_000
LEAST_SEEN = 0.01
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Kind:
    """A kind of clip: camera motion, number of movers, zoom, overlays."""

    name: str
    motion: str
    movers: int = 0
    zoom: float = 1.0
    overlays: tuple[str, ...] = ()


KINDS = (
    Kind("static", "walkthrough"),
    Kind("static, hand-held", "handheld"),
    Kind("one mover", "walkthrough", 1),
    Kind("two movers, orbit", "orbit", 2),
    Kind("three movers, hand-held", "handheld", 3),
    Kind("logo, subtitles", "walkthrough", 0, 1.0, ("logo", "subtitles")),
    Kind("two movers, logo", "walkthrough", 2, 1.0, ("logo",)),
    Kind("zoom 1.15, two movers", "walkthrough", 2, 1.15),
)
SETTINGS = {
    "off": MaskConfig(movers="off", overlays=False),
    "on": MaskConfig(movers="geometric", overlays=True),
}


@dataclass(frozen=True)
class Truth:
    """True masks of a clip, bool [N, H, W]."""

    moving: Mask
    overlaid: Mask


def filmed(kind: Kind, seed: int, folder: Path, frames: int, size: tuple[int, int]) -> Truth:
    """Pictures of the first room from ``seed`` on that suits the kind, as PNG files in a new folder."""
    for candidate in range(seed, seed + 200):
        scene = build_scene(candidate, "V")
        try:
            poses = camera_path(scene, kind.motion, frames, FPS, 0)
            movers = make_movers(scene, poses, kind.movers, 0)
        except ValueError:  # no space in this room
            continue
        spoilt = Disturbances(movers, kind.zoom, overlays=kind.overlays)
        K = film_intrinsics(scene, size)
        coarse = disturbed_frames(
            scene, poses[::6], film_intrinsics(scene, (80, 60)), (80, 60), FPS / 6, spoilt
        )
        if movers and np.mean([frame.moving.mean() for frame in coarse]) < LEAST_SEEN:
            continue
        folder.mkdir(parents=True)
        rng = np.random.default_rng(candidate)
        true = []
        for index, frame in enumerate(disturbed_frames(scene, poses, K, size, FPS, spoilt)):
            noisy = np.clip(frame.image + rng.normal(0, 2, frame.image.shape), 0, 255)
            cv2.imwrite(str(folder / f"{index:04d}.png"), noisy.astype(np.uint8)[..., ::-1])
            true.append((frame.moving, frame.overlaid))
        return Truth(*(np.stack(one) for one in zip(*true, strict=True)))
    raise ValueError(f"no room from seed {seed} on has space for {kind.name}")


def plan(frames: int, size: tuple[int, int]) -> Clip:
    """Every second frame a key frame, all of them with a pose."""
    every = list(range(frames))
    return Clip(
        item=f"v00000000000000cc_000000_{frames:06d}",
        video="v00000000000000cc",
        start_frame=0,
        end_frame=frames,
        start_s=0.0,
        end_s=frames / FPS,
        fps=FPS,
        width=size[0],
        height=size[1],
        key_frames=every[::2],
        pose_frames=every,
        times_s=[frame / FPS for frame in every],
    )


def anchors_in(model: SparseModel, truth: Truth) -> tuple[float, float]:
    """Anchors a frame in the median, and the share of all of them on a mover or an overlay."""
    anchors = model_anchors(model)
    counts, spoilt = [], 0
    for posed in model.frames:
        one = anchors[posed.frame]
        xy = posed.camera.project(transform(posed.cam_from_world, model.xyz[one.row]))
        wrong = truth.moving[posed.frame] | truth.overlaid[posed.frame]
        spoilt += int(covered(wrong, xy, (posed.camera.width, posed.camera.height)).sum())
        counts.append(len(one))
    return float(np.median(counts)), spoilt / max(1, sum(counts))


def compared(out: Path, model: SparseModel, truth: Truth) -> dict[str, float | None]:
    """Found masks against true ones, over all pixels of all posed frames."""
    posed = [frame.frame for frame in model.frames]
    size = truth.moving.shape[:0:-1]
    found = np.stack([_found(out, frame, size) for frame in posed])
    moving, overlaid = truth.moving[posed], truth.overlaid[posed]
    wanted = moving | overlaid
    return {
        "true share": float(wanted.mean()),
        "IoU": _share(found & wanted, found | wanted),
        "movers found": _share(found & moving, moving),
        "overlays found": _share(found & overlaid, overlaid),
        "falsely masked": _share(found & ~wanted, ~wanted),
    }


def _found(out: Path, frame: int, size: tuple[int, int]) -> Mask:
    mask = read_mask(out / FOLDER, frame)
    return np.zeros(size[::-1], bool) if mask is None else resized(mask, size)


def _share(part: Mask, whole: Mask) -> float | None:
    return float(part.sum() / whole.sum()) if whole.any() else None


def rows(
    kind: Kind, seed: int, folder: Path, frames: int, size: tuple[int, int]
) -> Iterator[dict[str, object]]:
    """A line without masks, one with them."""
    truth, clip = filmed(kind, seed, folder / "media", frames, size), plan(frames, size)
    for name, masks in SETTINGS.items():
        out = folder / name
        result = reconstruct(clip, folder / "media", out, ReconstructConfig(masks=masks), seed=0)
        line: dict[str, object] = {"clip": kind.name, "masks": name}
        reason = result.judgement.reason
        line["verdict"] = reason.value if reason else "accepted"
        if result.judgement.verdict is Verdict.ACCEPTED:
            model = load_clip_model(out)
            anchors, spoilt = anchors_in(model, truth)
            line |= {"posed": len(model.frames), "anchors": anchors, "anchors on those": spoilt}
            line |= compared(out, model, truth)
        line["CPU s"] = sum(result.cpu_s.values())
        line["of these masks"] = result.cpu_s.get("masks", 0.0)
        yield line


def main(argv: list[str] | None = None) -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--clips", type=int, default=1, help="of each kind")
    arguments.add_argument("--frames", type=int, default=60)
    arguments.add_argument("--only", nargs="*", help="names of kinds; all by default")
    arguments.add_argument("--size", type=int, nargs=2, default=(480, 360), metavar=("W", "H"))
    arguments.add_argument("--seed", type=int, default=SEED)
    given = arguments.parse_args(argv)
    lines: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as name:
        for number in range(given.clips):
            for place, kind in enumerate(KINDS):
                if not given.only or kind.name in given.only:
                    seed = given.seed + 1000 * (len(KINDS) * number + place)
                    where = Path(name, f"{number}_{place}")
                    lines += rows(kind, seed, where, given.frames, tuple(given.size))
    publish("Masks", lines, given.json, frames_a_second=FPS, frames_a_clip=given.frames)


if __name__ == "__main__":
    main()
