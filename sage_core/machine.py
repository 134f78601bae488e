"""What this machine can do, found out by doing it; each function is meant for a child process.

Native libraries are what breaks: an import that crashes there is an answer here.
"""

from __future__ import annotations

import shutil
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from sage_core.errors import SageError
from sage_core.types import Reason

_FRAMES = 5


def film() -> dict[str, Any]:
    """Write a film of five pictures with ffmpeg and read it back with decord.

    Raises:
        SageError: there is no ffmpeg program, or it failed.
    """
    import decord

    from sage_core.sandbox import Limits, run

    source = f"testsrc=size=64x48:rate=5:duration={_FRAMES / 5}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        options = ("-v", "error", "-f", "lavfi", "-i", source, "-pix_fmt", "yuv420p")
        run([_ffmpeg(), *options, str(path)], Limits(wall_s=60))
        frames = len(decord.VideoReader(str(path), num_threads=1))
    return {"decord": version("decord"), "frames": frames, "wanted": _FRAMES}


def ffmpeg() -> dict[str, Any]:
    """The path of the ffmpeg program and the first line that it says of itself."""
    from sage_core.sandbox import Limits, run

    exe = _ffmpeg()
    said = run([exe, "-hide_banner", "-buildconf"], Limits(wall_s=60))
    return {"path": exe, "h264": "libx264" in said}


def _ffmpeg() -> str:
    from sage_core.video.ffmpeg import ffmpeg_exe

    exe = ffmpeg_exe()
    found = shutil.which(exe)
    if found is None:
        raise SageError(f"there is no program {exe}", reason=Reason.BAD_CONFIG)
    return found


def colmap(features: str) -> dict[str, Any]:
    """The installed pycolmap, and whether it has the detector that is asked for."""
    from dataclasses import asdict

    from sage_core.config.reconstruct import ReconstructConfig
    from sage_core.sfm.backends import probe, recipe_of

    recipe_of(ReconstructConfig.model_validate({"features": features}))
    return asdict(probe())


def torch() -> dict[str, Any]:
    """The version of torch and the GPUs that it computes on."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    gpus = [torch.cuda.get_device_properties(index) for index in range(count)]
    if gpus:
        torch.ones(8, device="cuda").sum().item()
    told = [f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB" for gpu in gpus]
    return {"version": torch.__version__, "cuda": torch.version.cuda, "gpus": told}


def gsplat() -> dict[str, Any]:
    """The version of gsplat; None where it is not installed."""
    try:
        found = version("gsplat")
    except PackageNotFoundError:
        return {"version": None}
    import gsplat

    return {"version": found, "path": str(gsplat.__path__[0])}


def weights(name: str) -> dict[str, Any]:
    """What a weights file is, by its header.

    Raises:
        CheckpointError: it is not there, or not readable.
    """
    from sage_core.models import read_info

    return {"architecture": read_info(name).architecture}
