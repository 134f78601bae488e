"""The Chamfer distance of a tuple: its nearest neighbours against a plainly built k-d tree.

    python -m benchmarks.chamfer --json chamfer.json

Two clouds of 8 x 224 x 224 points each, a room's true points and the same with noise and a stretch.
Contestants take turns, round after round; a share is the median of the rounds' shares of the CPU time of the
plain tree (scipy's defaults, one thread).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
from scipy.spatial import cKDTree

from benchmarks.table import parser, publish
from sage_core.evaluation.metrics import nearest_distances
from sage_core.world import room_sample

TARGET_S = 2.0
"""What 8 views of 224 x 224 may take."""


def main(arguments: list[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("--views", type=int, default=8)
    options.add_argument("--size", type=int, default=224)
    options.add_argument("--rounds", type=int, default=5)
    asked = options.parse_args(arguments)
    truth = room_sample(7, asked.views, asked.size, "V").world_points().reshape(-1, 3)
    noise = np.random.default_rng(0).normal(0, 0.02, truth.shape)
    cloud = truth * [1, 1, 1.05] + noise
    contestants: dict[str, Callable[[], object]] = {
        "plain, 1 thread": lambda: (cKDTree(truth).query(cloud), cKDTree(cloud).query(truth)),
        "ours, 1 thread": lambda: nearest_distances(cloud, truth, 1),
        "ours, all cores": lambda: nearest_distances(cloud, truth, -1),
    }
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for _ in range(asked.rounds):
        for name, work in contestants.items():
            begin = time.perf_counter(), time.process_time()
            work()
            taken[name].append((time.perf_counter() - begin[0], time.process_time() - begin[1]))
    plain = [cpu for _, cpu in taken["plain, 1 thread"]]
    rows = [
        {
            "nearest neighbours": name,
            "median s": statistics.median(wall for wall, _ in times),
            "CPU s": statistics.median(cpu for _, cpu in times),
            "CPU, share of plain": statistics.median(
                a / b for (_, a), b in zip(times, plain, strict=True)
            ),
        }
        for name, times in taken.items()
    ]
    publish("Chamfer distance", rows, asked.json, points=len(truth), target_s=TARGET_S)


if __name__ == "__main__":
    main()
