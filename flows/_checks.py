"""What ``sage doctor`` looks at on this machine and in a workspace: each check one line, with what to do."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import date
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Any

from data_catalog import WHOLE_NIGHT, CatalogError, Held, LeaseHeld, Workspace
from sage_core import __version__
from sage_core.acquisition.room import used_bytes
from sage_core.config import SageConfig
from sage_core.errors import SageError
from sage_core.sandbox import Limits, call
from sage_core.types import Stage

_GIB = 1 << 30
_CLOCK_S = 2.0
_YTDLP_DAYS = 90


class Level(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Check:
    """One line: what was looked at, how it is, what was found, what to do; ``repair`` does what is safe."""

    name: str
    level: Level
    found: str
    fix: str = ""
    repair: Callable[[], None] | None = field(default=None, repr=False, compare=False)


def machine_checks(config: SageConfig) -> Iterator[Check]:
    """Programs, libraries, GPU, weights and clock; each native one is tried in a child process."""
    yield Check("sage", Level.OK, f"version {__version__}")
    yield _tried(
        "ffmpeg", "ffmpeg", {}, _ffmpeg, "unset IMAGEIO_FFMPEG_EXE, or have it name ffmpeg"
    )
    yield _tried("decord", "film", {}, _film, "pip install --force-reinstall decord imageio-ffmpeg")
    yield _ytdlp()
    features = {"features": config.reconstruct.features}
    yield _tried("colmap", "colmap", features, _colmap, "pip install 'pycolmap>=4.2,<5'")
    yield _tried(
        "torch", "torch", {}, _torch, "pip install torch, a build for this machine's driver"
    )
    yield _tried("gsplat", "gsplat", {}, _gsplat, "pip install 'gsplat>=1.5.3'")
    yield _weights(config.adapt.base)


def workspace_checks(ws: Workspace, config: SageConfig) -> Iterator[Check]:
    """Disk, clock, catalog, leases of the dead and what they left in scratch."""
    yield from _disk(ws, config)
    yield _clock(ws.root)
    yield _catalog(ws)
    catalog = ws.catalog
    for stage in Stage:
        yield from _lease(stage.value, catalog.holder(stage.value), catalog.lease)
    yield from _lease(WHOLE_NIGHT, catalog.at_turn(WHOLE_NIGHT), catalog.turn)
    yield _scratch(ws)


_Told = Callable[[dict[str, Any]], tuple[Level, str]]


def _tried(name: str, probe: str, arguments: dict[str, Any], tell: _Told, fix: str) -> Check:
    """A probe of :mod:`sage_core.machine` in a child, or why it did not answer."""
    try:
        found = call(f"sage_core.machine:{probe}", arguments, Limits(wall_s=120, memory_mb=8192))
    except SageError as error:
        words = str(error).strip().splitlines()
        return Check(name, Level.FAIL, words[-1] if words else type(error).__name__, fix)
    level, text = tell(found)
    return Check(name, level, text, "" if level is Level.OK else fix)


def _ffmpeg(found: dict[str, Any]) -> tuple[Level, str]:
    if found["h264"]:
        return Level.OK, found["path"]
    return Level.WARN, f"{found['path']} has no libx264: it reads videos, but writes none"


def _film(found: dict[str, Any]) -> tuple[Level, str]:
    sound = found["frames"] == found["wanted"]
    text = f"version {found['decord']}, reads {found['frames']} of {found['wanted']} frames"
    return (Level.OK if sound else Level.FAIL), text


def _colmap(found: dict[str, Any]) -> tuple[Level, str]:
    parts = [f"with{'' if found[name] else 'out'} {name.upper()}" for name in ("cuda", "onnx")]
    return Level.OK, f"pycolmap {found['pycolmap']}, {', '.join(parts)}"


def _torch(found: dict[str, Any]) -> tuple[Level, str]:
    if found["gpus"]:
        return Level.OK, f"version {found['version']}: {'; '.join(found['gpus'])}"
    return Level.WARN, f"version {found['version']} finds no GPU: training runs on the CPU"


def _gsplat(found: dict[str, Any]) -> tuple[Level, str]:
    if found["version"] is None:
        return Level.OK, "not installed: SAGE's own rasteriser is used"
    return Level.OK, f"version {found['version']}"


def _weights(base: str) -> Check:
    """Without them videos are mined all the same."""
    found = _tried("weights", "weights", {"name": base}, _architecture, "sage models list")
    level = Level.WARN if found.level is Level.FAIL else found.level
    return replace(found, level=level, found=f"adapt.base = {base}: {found.found}")


def _architecture(found: dict[str, Any]) -> tuple[Level, str]:
    return Level.OK, found["architecture"]


def _ytdlp() -> Check:
    """Sites change: a yt-dlp that is months old fails on some of them."""
    found = version("yt-dlp")
    year, month, day = (int(part) for part in found.split(".")[:3])
    age = (date.today() - date(year, month, day)).days
    if age > _YTDLP_DAYS:
        text = f"version {found} is {age} days old: sites change, and it fails on some"
        return Check("yt-dlp", Level.WARN, text, "pip install --upgrade yt-dlp yt-dlp-ejs")
    return Check("yt-dlp", Level.OK, f"version {found}")


def _disk(ws: Workspace, config: SageConfig) -> Iterator[Check]:
    free = shutil.disk_usage(ws.root).free / _GIB
    least = config.run.min_free_gb
    text = f"{free:.1f} GiB free, run.min_free_gb = {least:g}"
    level = Level.FAIL if free < least else Level.WARN if free < 2 * least else Level.OK
    fix = "" if level is Level.OK else "sage prune, sage compact; or free some space"
    yield Check("disk", level, text, fix)
    inodes = os.statvfs(ws.root)
    if inodes.f_files and inodes.f_favail < 0.01 * inodes.f_files:
        yield Check("inodes", Level.FAIL, f"{inodes.f_favail} left", "remove small files")
    quota = config.run.disk_quota_gb
    if quota is not None:
        used = used_bytes(ws.root) / _GIB
        level = Level.FAIL if used >= quota else Level.WARN if used > 0.9 * quota else Level.OK
        text = f"{used:.3g} GiB used of run.disk_quota_gb = {quota:g}"
        fix = "" if level is Level.OK else "sage prune, sage compact; or raise the quota"
        yield Check("quota", level, text, fix)


def _clock(folder: Path) -> Check:
    """Against the clock that stamps files, the server's on a network disk, by which leases are judged."""
    with tempfile.NamedTemporaryFile(dir=folder / "scratch") as probe:
        off = time.time() - Path(probe.name).stat().st_mtime
    text = f"{off:+.1f} s off the file system's"
    if abs(off) <= _CLOCK_S:
        return Check("clock", Level.OK, text)
    return Check("clock", Level.WARN, text, "set this machine's clock by NTP")


def _catalog(ws: Workspace) -> Check:
    try:
        count = sum(1 for _ in ws.catalog.each())
    except CatalogError as error:
        return Check("catalog", Level.FAIL, str(error), "restore catalog/ from a backup")
    return Check("catalog", Level.OK, f"{count} verdicts stand")


def _lease(
    name: str, held: Held | None, take: Callable[[str, str], AbstractContextManager[Any]]
) -> Iterator[Check]:
    if held is None:
        return
    if not held.is_gone:
        yield Check(f"lease of {name}", Level.OK, f"held by {held.who}, who is alive")
        return

    def free() -> None:
        # Whoever takes over from the dead leaves it free in the end.
        with take(name, "doctor"):
            pass

    text = f"held by {held.who}, who is dead"
    yield Check(f"lease of {name}", Level.WARN, text, "sage doctor --fix frees it", free)


def _scratch(ws: Workspace) -> Check:
    left = ws.store.abandoned()
    if not left:
        return Check("scratch", Level.OK, "nothing left behind")
    size = sum(used_bytes(path) for path in left) / 2**20
    text = f"{len(left)} folders of dead processes, {size:,.1f} MiB"
    return Check("scratch", Level.WARN, text, "sage doctor --fix removes them", ws.store.sweep)


def repaired(check: Check) -> Check:
    """The check after its repair."""
    assert check.repair is not None
    try:
        check.repair()
    except (SageError, CatalogError, LeaseHeld, OSError) as error:
        return Check(check.name, Level.FAIL, f"{check.found}; not mended: {error}", check.fix)
    return Check(check.name, Level.OK, f"{check.found}: mended")
