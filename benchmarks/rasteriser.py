"""The CPU rasteriser against the same thing in tiled torch, and against gsplat where a GPU is.

    python -m benchmarks.rasteriser --json rasteriser.json

The scene is what training renders: one Gaussian per pixel of V views of a wavy surface, seen by some of
those cameras, with gradients to everything but the cameras. All contestants take turns, round after
round, so that a busy machine slows them alike; a ratio is the median of the rounds' ratios. By default
the target: 8 x 112 x 112 Gaussians, 2 views of 112 x 112, 2 threads.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.table import parser, publish
from sage_core.splatting import RasterConstants, missing_backend, render
from sage_core.splatting import _reference as tiled_torch

TARGET = 20.0
"""How many times as fast as tiled torch, forward and backward."""

Draw = Callable[..., tuple[Tensor, Tensor, Tensor]]


@dataclass(frozen=True)
class Scene:
    """Gaussians, and the cameras that they are rendered into."""

    gaussians: tuple[Tensor, ...]
    cameras: Tensor
    intrinsics: Tensor
    side: int


@dataclass
class Contestant:
    """One way to render, and what its rounds took: seconds forward, seconds in all, CPU seconds."""

    name: str
    draw: Draw
    scene: Scene
    threads: int
    rounds: list[tuple[float, float, float]] = field(default_factory=list)

    def run(self) -> None:
        torch.set_num_threads(self.threads)
        leaves = [tensor.clone().requires_grad_() for tensor in self.scene.gaussians]
        cpu, started = time.process_time(), time.perf_counter()
        outputs = self.draw(
            *leaves, self.scene.cameras, self.scene.intrinsics, self.scene.side, self.scene.side
        )
        _wait(outputs[0])
        forward = time.perf_counter() - started
        sum(output.sum() for output in outputs).backward()
        _wait(outputs[0])
        whole = time.perf_counter() - started
        self.rounds.append((forward, whole, time.process_time() - cpu))

    def median(self, column: int) -> float:
        return statistics.median(line[column] for line in self.rounds)

    def faster_than(self, other: Contestant, column: int = 1) -> float:
        pairs = zip(other.rounds, self.rounds, strict=True)
        return statistics.median(theirs[column] / ours[column] for theirs, ours in pairs)


def main(argv: list[str] | None = None) -> None:
    options = _options(argv)
    scene = wavy_scene(options.views, options.side, options.cameras)
    largest = torch.get_num_threads() if options.threads is None else options.threads
    torchs = [Contestant(f"torch, {side} px", tiled(side), scene, largest) for side in (8, 16)]
    numbas = [Contestant("numba", ours(), scene, threads) for threads in sorted({1, largest})]
    sizes = [Contestant("numba", ours(), repeated(scene, factor), largest) for factor in (2, 4)]
    contestants = [*torchs, *numbas, *sizes, *_on_gpu(scene)]
    for contestant in contestants:
        contestant.run()  # compiles, and touches the memory
        contestant.rounds.clear()
    for _ in range(options.rounds):
        for contestant in contestants:
            contestant.run()
    _publish(options, torchs, numbas[-1], contestants)


def ours() -> Draw:
    """The kernels."""
    return partial(render, backend="cpu")


def tiled(side: int) -> Draw:
    """Plain torch in tiles of so many pixels."""
    return partial(tiled_torch.render, constants=RasterConstants(), tile=side)


def _publish(
    options: Any, torchs: list[Contestant], numba: Contestant, contestants: list[Contestant]
) -> None:
    fastest = min(torchs, key=lambda one: one.median(1))
    count = len(numba.scene.gaussians[0])
    rows = [
        {
            "rasteriser": one.name,
            "Gaussians": len(one.scene.gaussians[0]),
            "threads": one.threads,
            "forward s": one.median(0),
            "both s": one.median(1),
            "fastest s": min(line[1] for line in one.rounds),
            "CPU s": one.median(2),
            "times torch": one.faster_than(fastest)
            if len(one.scene.gaussians[0]) == count
            else None,
        }
        for one in contestants
    ]
    grown = [one for one in contestants if one.name == "numba" and one.scene is not numba.scene]
    publish(
        f"{options.cameras} views of {options.side} x {options.side} px",
        rows,
        options.json,
        fastest_torch=fastest.name,
        numba_times_torch_forward=numba.faster_than(fastest, 0),
        numba_times_torch=numba.faster_than(fastest),
        numba_times_torch_in_cpu_seconds=numba.faster_than(fastest, 2),
        target=TARGET,
        time_at_2_and_4_times_the_gaussians=[round(1 / one.faster_than(numba), 2) for one in grown],
        gsplat=missing_backend("gsplat") or "measured",
    )


def wavy_scene(views: int, side: int, cameras: int, seed: int = 0) -> Scene:
    """A surface seen by a camera that travels past it, one Gaussian per pixel and view.

    Standard deviations are 0.02 to 0.9 pixels along each axis, what the published training's bounds on scales
    allow; opacities 0 to 1. Eight views thick, hardly any light gets through.
    """
    draw = torch.Generator().manual_seed(seed)
    pixels = torch.arange(side) + 0.5
    y, x = torch.meshgrid(pixels, pixels, indexing="ij")
    focal, means, poses = float(side), [], []
    for view in range(views):
        z = 2 + 0.4 * torch.sin(19 * x / side / 3 + view) + 0.3 * torch.cos(9 * y / side)
        place = torch.stack(((x - side / 2) / focal * z, (y - side / 2) / focal * z, z), dim=-1)
        pose = _pose(view - views / 2)
        poses.append(pose)
        means.append((place.reshape(-1, 3) - pose[:, 3]) @ pose[:, :3])
    centres = torch.cat(means)
    count = len(centres)
    scales = centres[:, 2:].abs() / focal * (0.02 + 0.88 * torch.rand(count, 3, generator=draw))
    quats = torch.randn(count, 4, generator=draw)
    colours = torch.rand(count, 3, generator=draw)
    opacities = torch.rand(count, generator=draw)
    chosen = [poses[(1 + 2 * camera) * views // (2 * cameras)] for camera in range(cameras)]
    K = torch.tensor([[focal, 0, side / 2], [0, focal, side / 2], [0, 0, 1]])
    return Scene(
        (centres, scales, quats, opacities, colours),
        torch.stack(chosen),
        K.expand(cameras, 3, 3).contiguous(),
        side,
    )


def repeated(scene: Scene, factor: int) -> Scene:
    """The scene with every Gaussian there ``factor`` times, fainter, so that as much light gets through."""
    means, scales, quats, opacities, colours = (
        tensor.repeat(factor, *[1] * (tensor.ndim - 1)) for tensor in scene.gaussians
    )
    opacities = 1 - (1 - opacities) ** (1 / factor)
    return Scene(
        (means, scales, quats, opacities, colours), scene.cameras, scene.intrinsics, scene.side
    )


def _pose(place: float) -> Tensor:
    angle = torch.tensor(0.03 * place)
    pose = torch.eye(3, 4)
    pose[0, 0] = pose[2, 2] = angle.cos()
    pose[0, 2], pose[2, 0] = angle.sin(), -angle.sin()
    pose[0, 3] = 0.05 * place
    return pose


def _on_gpu(scene: Scene) -> list[Contestant]:
    from sage_core.splatting import _gsplat

    if missing_backend("gsplat") and _gsplat.problem():
        return []
    constants = RasterConstants(**_gsplat.built_in())
    moved = Scene(
        tuple(tensor.cuda() for tensor in scene.gaussians),
        scene.cameras.cuda(),
        scene.intrinsics.cuda(),
        scene.side,
    )
    draw = partial(render, constants=constants, backend="gsplat")
    return [Contestant("gsplat", draw, moved, torch.get_num_threads())]


def _wait(tensor: Tensor) -> None:
    if tensor.is_cuda:
        torch.cuda.synchronize()


def _options(argv: list[str] | None) -> Any:
    options = parser(__doc__)
    options.add_argument("--views", type=int, default=8, help="views with a Gaussian per pixel")
    options.add_argument("--side", type=int, default=112, help="pixels of a view's side")
    options.add_argument("--cameras", type=int, default=2, help="views that are rendered")
    options.add_argument("--threads", type=int, help="most threads; torch's own count by default")
    options.add_argument("--rounds", type=int, default=7)
    return options.parse_args(argv)


if __name__ == "__main__":
    main()
