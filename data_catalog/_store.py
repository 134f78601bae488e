"""All reading and writing of artifacts: checked paths, checksums, and publication in one step."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from data_catalog import _files, _json
from data_catalog._errors import StoreError
from sage_core.types import Artifact

T = TypeVar("T")

RESERVED = ("catalog", "workspace.json")
SCRATCH = "scratch"
_FOLDERS_KNOWN = 1024
_KEPT_FREE_BYTES = 4 << 20
"""Room that no artifact gets: verdicts, one of them that the disk is full, must find some till the end."""


@dataclass(frozen=True)
class WorkingFolder:
    """A folder on this machine's disk, and how to keep what is in it."""

    path: Path
    save: Callable[[], None] = lambda: None
    """Keep the folder as it is now, for whoever goes on with it."""


class Store:
    """The files of one workspace, named by paths relative to its root, with slashes."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._root_text = str(self.root)
        self._scratch = self.root / SCRATCH
        self._scratch.mkdir(parents=True, exist_ok=True)
        self._thread = threading.local()

    def path(self, relative: str) -> Path:
        """The absolute path, which need not exist yet.

        Raises:
            StoreError: it is empty or absolute, climbs with ``..``, or leads out through a link.
        """
        parts = inside(relative, self.root)
        path = self.root / parts
        if not self._leads_through_link(parts.parts):
            return path
        real = os.path.realpath(path)
        if real != self._root_text and not real.startswith(self._root_text.rstrip("/") + "/"):
            raise StoreError(
                f"{relative!r} leads through a link out of the workspace {self.root}, to"
                f" {real}: replace the link by what it points to"
            )
        return path

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A fresh, empty folder on the workspace's own disk; removed, with all in it, at the end."""
        area = self._scratch / _files.fresh_name()
        area.mkdir(parents=True)
        try:
            yield area
        finally:
            _files.remove(area)

    def publish(self, source: Path, relative: str) -> Artifact:
        """Put a file or a whole folder into place in one step, replacing what was there.

        What lies in the scratch folder is moved; what lies elsewhere is copied (links followed) and
        stays as it was; what lies at its place already is only checked and made durable. Readers see the old
        or the new, whole.

        Raises:
            StoreError: the source is missing, or holds links (in scratch), pipes or devices.
            OSError: the disk is full, say; nothing is left of the attempt then.
        """
        return self._put(source, relative, self._settle)

    def publish_folder(self, source: Path, relative: str) -> dict[str, Artifact]:
        """:meth:`publish` a folder, and say what each file and folder directly in it holds, by its name."""
        return self._put(source, relative, self._settle_parts)

    def _put(self, source: Path, relative: str, settle: Callable[[Path, str], T]) -> T:
        """Put a file or folder into place; ``settle`` makes it durable before and says what it holds."""
        source, target = Path(source), self._writable(relative)
        if not source.exists():
            raise StoreError(f"{source} cannot be published as {relative!r}: it does not exist")
        if source.resolve() == target:
            return settle(target, relative)
        with self.scratch() as area:
            staged = area / "new"
            if source.absolute().is_relative_to(self._scratch):
                source.rename(staged)
            else:
                copied(source, staged)
            settled = settle(staged, relative)
            if shutil.disk_usage(self.root).free < _KEPT_FREE_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
            target.parent.mkdir(parents=True, exist_ok=True)
            _files.swap_in(staged, target, area / "old")
        return settled

    def settle(self, relative: str) -> Artifact:
        """What lies at this path already, whole, as an artifact.

        Raises:
            StoreError: nothing is there, or it holds links, pipes or devices.
        """
        return self.publish(self.path(relative), relative)

    def fetch(self, what: Artifact | str, *beside: Artifact) -> Path:
        """Where an artifact can be read on this machine; ``beside`` lie in the same folder as it.

        ``what`` may be a path, for what lies there now. Nothing may be written to what is fetched.

        Raises:
            StoreError: it leads out of the workspace; at a URL also: it is missing or not as recorded.
        """
        return self.path(what if isinstance(what, str) else what.path)

    def sizes(self, relative: str) -> dict[str, int]:
        """Every file below a folder, by its path in the workspace, with its bytes."""
        files = (file for file in self.path(relative).rglob("*") if file.is_file())
        return {f.relative_to(self.root).as_posix(): f.stat().st_size for f in files}

    def names(self, relative: str) -> list[str]:
        """What lies directly in a folder, sorted; nothing where there is no folder."""
        folder = self.path(relative)
        return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []

    def files(self, relative: str) -> list[str]:
        """Every file below a folder, by its path in the workspace, sorted."""
        return sorted(self.sizes(relative))

    @contextmanager
    def working(self, relative: str) -> Iterator[WorkingFolder]:
        """A folder that lives on while work in it is interrupted and taken up again, also elsewhere."""
        yield WorkingFolder(self._writable(relative))

    def write_bytes(self, relative: str, data: bytes) -> Artifact:
        """Write a file whole, replacing what was there."""
        with self.scratch() as area:
            part = area / "part"
            part.write_bytes(data)
            return self.publish(part, relative)

    def write_json(self, relative: str, data: Any) -> Artifact:
        """Write data as JSON, keys sorted; NaN and infinities become the words "nan" and "inf"."""
        return self.write_bytes(relative, (_json.dumps(data, indent=1) + "\n").encode())

    def read_json(self, relative: str) -> Any:
        """What :meth:`write_json` wrote.

        Raises:
            StoreError: it is not there, or no JSON.
        """
        try:
            return json.loads(self.read_bytes(relative).decode())
        except ValueError as error:
            where = self._where(relative)
            raise StoreError(f"{where} is not JSON ({error}): run its stage again") from error

    def read_bytes(self, relative: str) -> bytes:
        """The content of a file.

        Raises:
            StoreError: it is not there.
        """
        try:
            return self.path(relative).read_bytes()
        except FileNotFoundError:
            where = self._where(relative)
            raise StoreError(
                f"{where} does not exist: run the stage that writes it again"
            ) from None

    @contextmanager
    def still(self) -> Iterator[None]:
        """For verifying much at once: in it no folder is asked twice whether it is a link, or looked into.

        A store at a URL is asked for whole listings, once.
        """
        before, self._thread.plain = getattr(self._thread, "plain", None), set[str]()
        try:
            yield
        finally:
            self._thread.plain = before

    def exists(self, relative: str) -> bool:
        """Whether a file or folder is there."""
        return self.path(relative).exists()

    def verify(self, artifact: Artifact, *, deep: bool = False) -> bool:
        """Whether the artifact is there with the size recorded and, if ``deep``, the same content.

        Where much is verified at once (:meth:`still`), a folder need only be there: it came there whole.
        """
        path = self._at(artifact.path)
        try:
            size = _files.size(path, inside=deep or not self._is_still)
            if size not in (artifact.bytes, _files.FOLDER):
                return False
            return not deep or _files.checksum(Path(path)) == artifact.sha256
        except (FileNotFoundError, StoreError):
            return False

    def remove(self, relative: str) -> None:
        """Remove a file or folder; nothing there is fine."""
        target = self._writable(relative)
        if not target.exists():
            return
        with self.scratch() as area:
            # Out of sight in one step: a kill while a large folder goes leaves no half of it.
            target.rename(area / "old")

    def drop_copies(self) -> None:
        """Remove the copies that this machine has of what lies at a URL; call it while nothing runs."""

    def abandoned(self) -> list[Path]:
        """What killed processes left in the scratch folder, sorted."""
        return sorted(_files.abandoned(self._scratch))

    def sweep(self) -> None:
        """Remove what killed processes left in the scratch folder."""
        _files.sweep(self._scratch)

    def _leads_through_link(self, parts: Sequence[str], known: set[str] | None = None) -> bool:
        """Whether a step on the way below the root, which is no link, is one; as text: it is asked often.

        ``known`` are places that were looked at, and learns of these.
        """
        place = self._root_text
        for part in parts:
            place = f"{place}/{part}"
            if known is not None and place in known:
                continue
            if os.path.islink(place):  # noqa: PTH114
                return True
            if known is not None:
                known.add(place)
        return False

    @property
    def _is_still(self) -> bool:
        return getattr(self._thread, "plain", None) is not None

    def _at(self, relative: str) -> Path | str:
        """As :meth:`path`; where much is asked for at once, as text, and each folder is looked at once."""
        known = getattr(self._thread, "plain", None)
        if known is None or not _is_plain(relative):
            return self.path(relative)
        if self._leads_through_link(relative.split("/"), known):
            return self.path(relative)
        place = f"{self._root_text}/{relative}"
        known.discard(place)  # nobody asks for the file itself again
        if len(known) > _FOLDERS_KNOWN:
            known.clear()
        return place

    def _where(self, relative: str) -> str:
        return str(self.path(relative))

    def _writable(self, relative: str) -> Path:
        path = self.path(relative)
        if path.relative_to(self.root).parts[0] in RESERVED:
            raise StoreError(f"{relative!r} belongs to the catalog: choose another place")
        return path

    def _settle(self, path: Path, relative: str) -> Artifact:
        """Make a file or folder durable and say what it holds."""
        files = _files.plain_files(path)
        for file in files:
            _files.sync_file(file)
        for folder in {file.parent for file in files if file != path}:
            _files.sync_folder(folder)
        name = PurePosixPath(relative).as_posix()
        return Artifact(name, _files.checksum(path), _files.size(path))

    def _settle_parts(self, path: Path, relative: str) -> dict[str, Artifact]:
        """:meth:`_settle` what is directly in a folder, and the folder."""
        parts = {p.name: self._settle(p, f"{relative}/{p.name}") for p in sorted(path.iterdir())}
        _files.sync_folder(path)
        return parts


def _is_plain(relative: str) -> bool:
    """Whether a path is spelled as the store spells them: below its root, without detours."""
    return "\0" not in relative and not {"", ".", ".."} & set(relative.split("/"))


def inside(relative: str, workspace: object) -> PurePosixPath:
    """The path as a path, once it is sure that it stays inside a workspace.

    Raises:
        StoreError: it is empty or absolute, or climbs with ``..``.
    """
    path = PurePosixPath(relative)
    if not path.parts or ".." in path.parts or path.is_absolute() or "\0" in relative:
        raise StoreError(
            f"{relative!r} is not a path inside the workspace {workspace}: it must be relative,"
            " not empty, and without '..'"
        )
    return path


def copied(source: Path, target: Path) -> None:
    """Copy a file or a folder, following links."""
    mode = source.stat().st_mode
    if stat.S_ISREG(mode):
        shutil.copyfile(source, target)
    elif stat.S_ISDIR(mode):
        target.mkdir()
        for child in source.iterdir():
            copied(child, target / child.name)
    else:
        raise StoreError(f"{os.fspath(source)!r} is a pipe or a device, which no workspace holds")
