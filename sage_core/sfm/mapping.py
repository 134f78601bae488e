"""COLMAP's incremental mapping of one clip's key frames. Child process only.

Everything runs on one thread with fixed seeds, so that a clip's model depends on nothing but its
frames, the recipe and the seed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from sage_core.errors import SandboxError
from sage_core.sfm.copies import only, posed_images
from sage_core.sfm.features import Workbench
from sage_core.sfm.recipes import mapping_options
from sage_core.types import Reason


def map_frames(
    bench: Workbench, n_frames: int, min_points: int, deadline_cpu_s: float
) -> list[Any]:
    """COLMAP's sub-models, each a ``pycolmap.Reconstruction``, that with the most sound frames first.

    Frames that see fewer than ``min_points`` mapped points are taken out of it again: their poses hang
    on too little, and one such frame is no reason to lose a clip.

    Raises:
        SandboxError: this process's CPU seconds passed the deadline while mapping.
    """
    output = bench.folder / "models"
    output.mkdir(exist_ok=True)
    options = mapping_options(bench.recipe, n_frames, bench.seed)
    models = incremental(bench.database, output, options, bench.seed, deadline_cpu_s)
    sound = [_without_weak_frames(model, min_points) for model in models]
    mapped = [model for model in sound if model.num_reg_images()]
    return sorted(mapped, key=_size, reverse=True)


def incremental(
    database: Path, output: Path, options: Any, seed: int, deadline_cpu_s: float
) -> list[Any]:
    """COLMAP's sub-models of what a database holds; ``output`` is a folder that COLMAP fills.

    Raises:
        SandboxError: this process's CPU seconds passed the deadline while mapping.
    """
    import pycolmap

    pycolmap.set_random_seed(seed)
    try:
        with _cancel_after(deadline_cpu_s) as token:
            models = pycolmap.incremental_mapping(
                database,
                output,  # of the images, which nothing reads: colours are taken later
                output,
                options=options,
                cancellation_token=token,
            )
    except InterruptedError as error:
        raise SandboxError(
            f"COLMAP had not finished mapping when the clip's {deadline_cpu_s:.0f} CPU seconds were used "
            "up: raise reconstruct.max_cpu_s, or give it fewer key frames",
            reason=Reason.TIME_LIMIT,
        ) from error
    return list(models.values())


def _size(model: Any) -> tuple[int, int]:
    return model.num_reg_images(), model.num_points3D()


def _without_weak_frames(model: Any, min_points: int) -> Any:
    """Taking one out shortens tracks, so that others may follow."""
    while weak := [i for i in posed_images(model) if i.num_points3D < min_points]:
        for image in weak:
            model.deregister_frame(image.frame_id)
    return only(model, {str(image.name) for image in posed_images(model)})


@contextmanager
def _cancel_after(deadline_cpu_s: float) -> Iterator[Any]:
    """A cancellation token that fires when this process has used that much CPU time."""
    import pycolmap

    token, done = pycolmap.CancellationToken(), threading.Event()

    def watch() -> None:
        while not done.wait(0.2):
            if time.process_time() > deadline_cpu_s:
                token.cancel()
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield token
    finally:
        done.set()
        watcher.join()


def frames_to_add(
    key_frames: Sequence[int], registered: set[int], candidates: Sequence[int], step: int
) -> list[int]:
    """Extra frames to map, about ``step`` apart, on both sides of each unregistered key frame."""
    extra: set[int] = set()
    for left, right in pairwise(key_frames):
        if step and not (left in registered and right in registered):
            last = left
            for frame in candidates:
                if left < frame < right and frame - last >= step:
                    extra.add(frame)
                    last = frame
    return sorted(extra)
