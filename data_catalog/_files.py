"""Writing so that a kill at any moment leaves either the old or the new, and reading what was written."""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import shutil
import stat
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from data_catalog._errors import StoreError
from data_catalog._process import Process

FOLDER = -1
"""What :func:`size` says of a folder that it does not look into."""
_ABANDONED_S = 24 * 3600.0
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def fresh_name(suffix: str = "") -> str:
    """A name that nobody else uses and that tells which process uses it."""
    return f"{Process.current().tag}-{uuid.uuid4().hex[:12]}{suffix}"


def write_synced(path: Path, data: bytes) -> None:
    """Write a new file through to the disk; what cannot be written whole is removed again."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def write_whole(path: Path, data: bytes, temporary: Path) -> None:
    """Put ``data`` at ``path``, replacing a file there, by way of the folder ``temporary``."""
    part = temporary / fresh_name()
    write_synced(part, data)
    try:
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def create_whole(path: Path, data: bytes, temporary: Path) -> bool:
    """Like :func:`write_whole`, but False, and nothing changed, if there is a file at ``path``."""
    part = temporary / fresh_name()
    write_synced(part, data)
    try:
        os.link(part, path)
    except FileExistsError:
        return False
    finally:
        part.unlink(missing_ok=True)
    sync_folder(path.parent)
    return True


def sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable; without it a rename may be lost with the power."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock between processes and threads; the kernel frees it when its holder dies."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def plain_files(path: Path) -> list[Path]:
    """The files of a folder (or the file itself), sorted by their relative names' bytes.

    Raises:
        StoreError: something in it is neither a plain file nor a folder, such as a link or a pipe.
    """
    mode = path.lstat().st_mode
    if stat.S_ISREG(mode):
        return [path]
    if not stat.S_ISDIR(mode):
        raise _not_plain(path)
    files = [file for child in path.iterdir() for file in plain_files(child)]
    return sorted(files, key=lambda file: os.fsencode(file.relative_to(path)))


def _not_plain(path: Path | str) -> StoreError:
    return StoreError(
        f"{path} is no plain file and no folder (a link, pipe or device): an artifact holds"
        " nothing else, so copy its content there instead"
    )


def checksum(path: Path) -> str:
    """SHA-256 of a file; for a folder, of the lines ``name NUL sha256 LF`` over its sorted files.

    Names are relative to the folder, with slashes; empty folders count for nothing.
    """
    if path.is_dir():
        lines = (
            os.fsencode(file.relative_to(path)) + b"\0" + checksum(file).encode() + b"\n"
            for file in plain_files(path)
        )
        return hashlib.sha256(b"".join(lines)).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def size(path: Path | str, *, inside: bool = True) -> int:
    """Bytes of a file, or of all files in a folder; :data:`FOLDER` of one that is not to be looked into.

    Raises:
        StoreError: as of :func:`plain_files`.
    """
    info = os.lstat(path)
    if stat.S_ISREG(info.st_mode):
        return info.st_size
    if not stat.S_ISDIR(info.st_mode):
        raise _not_plain(path)
    if not inside:
        return FOLDER
    with os.scandir(path) as entries:
        return sum(size(entry.path) for entry in entries)


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with all that is in it; nothing there is fine."""
    with suppress(OSError):
        path.rmdir()  # most folders to be removed are empty
        return
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def swap_in(new: Path, target: Path, aside: Path) -> None:
    """Move ``new`` to ``target``; what was there, if it cannot be renamed over, ends up in ``aside``."""
    if not target.is_dir() and not new.is_dir():
        new.replace(target)
    elif not target.exists():
        new.rename(target)
    elif _exchange(new, target):
        new.rename(aside)
    else:
        # No exchange on this file system: for a moment nothing is there. A kill in between leaves a
        # missing artifact, which the next run notices and makes again.
        target.rename(aside)
        new.rename(target)
    sync_folder(target.parent)


def sweep(folder: Path) -> None:
    """Remove what processes that have died left in a folder of :func:`fresh_name` entries."""
    for entry in list(abandoned(folder)):
        remove(entry)


def abandoned(folder: Path) -> Iterator[Path]:
    """Entries of processes that have died; of those that cannot be asked for, the entries a day old."""
    now = None
    for entry in folder.iterdir():
        owner = Process.parse(entry.name)
        dead = owner.is_dead() if owner else None
        if dead is None:
            now = file_system_time(folder) if now is None else now
            with suppress(FileNotFoundError):
                dead = now - entry.lstat().st_mtime > _ABANDONED_S
        if dead:
            yield entry


def file_system_time(folder: Path) -> float:
    """What the time is by the clock that stamps the files here, which is the server's on a network disk."""
    probe = folder / fresh_name(".time")
    probe.touch()
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two paths in one step (Linux); False where that cannot be done."""
    if sys.platform != "linux":
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    done = rename(_AT_FDCWD, bytes(one), _AT_FDCWD, bytes(other), _RENAME_EXCHANGE)
    return bool(done == 0)
