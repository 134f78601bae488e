"""Artifacts at a URL: uploaded when they are published, fetched into a cache when they are read.

A file is one object, which its store shows only whole. A folder is its files and ``.manifest.json``, which
is written after them and counts: it names for each file the object that holds it, and its checksum. A file
that changes when a folder is published again goes to an object of another name, so that whoever reads finds
the old folder or the new one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath

from data_catalog import _files, _json
from data_catalog._errors import CatalogError, StoreError
from data_catalog._objects import Objects
from data_catalog._store import RESERVED, SCRATCH, Store, WorkingFolder, copied, inside
from sage_core.types import Artifact

_MANIFEST = ".manifest.json"
_WORK = "work"
_TRANSFERS = 8
_COPIED_FIRST_BYTES = 64 << 20
_UNUSED_S = 24 * 3600.0


@dataclass(frozen=True)
class Entry:
    """A file of a folder: the object that holds it, its checksum and size."""

    key: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """What a folder holds; ``sha256`` is the folder's own, as :func:`data_catalog._files.checksum` has it."""

    sha256: str = ""
    files: dict[str, Entry] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path, relative: str, before: Manifest) -> Manifest:
        """The manifest of a folder that is about to be uploaded; what has not changed keeps its object."""
        files: dict[str, Entry] = {}
        for file in _files.plain_files(folder):
            name, sha256 = file.relative_to(folder).as_posix(), _files.checksum(file)
            old = before.files.get(name)
            if old is not None and old.sha256 == sha256:
                files[name] = old
                continue
            key = f"{relative}/{name}" if old is None else f"{relative}/{name}~{sha256[:12]}"
            files[name] = Entry(key, sha256, file.stat().st_size)
        return cls(_sha256_of(files), files)

    @classmethod
    def parse(cls, text: bytes) -> Manifest:
        data = json.loads(text)
        return cls(data["sha256"], {n: Entry(**entry) for n, entry in data["files"].items()})

    def to_json(self) -> str:
        return _json.dumps({"version": 1, **asdict(self)}, indent=1)

    @property
    def bytes(self) -> int:
        return sum(entry.bytes for entry in self.files.values())


class RemoteStore(Store):
    """The artifacts of a workspace at a URL; ``root`` is this machine's folder for it."""

    def __init__(self, root: Path, objects: Objects) -> None:
        super().__init__(root)
        self._objects = objects
        self._cache = self.root / "cache"

    def path(self, relative: str) -> Path:
        """A path in this machine's scratch folder; artifacts have none until they are fetched.

        Raises:
            StoreError: it is no path inside the workspace, or lies at its URL.
        """
        if PurePosixPath(self._key(relative)).parts[0] != SCRATCH:
            raise StoreError(f"{self._where(relative)} has no path on this machine: fetch it")
        return super().path(relative)

    def publish(self, source: Path, relative: str) -> Artifact:
        """Upload a file or a whole folder; readers see the old or the new, whole.

        What lies in the scratch folder is moved (and stays in the cache), what lies elsewhere is copied.

        Raises:
            StoreError: the source is missing, or holds links (in scratch), pipes or devices.
            StorageError: the store at the URL does not take it.
        """
        source, key = Path(source), self._writable_key(relative)
        if not source.exists():
            raise StoreError(f"{source} cannot be published as {relative!r}: it does not exist")
        with self.scratch() as area:
            staged = area / PurePosixPath(key).name
            if source.absolute().is_relative_to(self._scratch):
                source.rename(staged)
            else:
                copied(source, staged)
            artifact = Artifact(key, _files.checksum(staged), _files.size(staged))
            if staged.is_dir():
                self._upload_folder(staged, key)
            else:
                self._objects.upload(staged, key)
            place = self._place([artifact])
            (area / "cached").mkdir()
            staged.rename(area / "cached" / staged.name)
            _move_in(area / "cached", place)
        return artifact

    def publish_folder(self, source: Path, relative: str) -> dict[str, Artifact]:
        names = sorted(path.name for path in source.iterdir())
        self.publish(source, relative)
        return {name: self.settle(f"{relative}/{name}") for name in names}

    def settle(self, relative: str) -> Artifact:
        """What was published at this path, alone or in a folder.

        Raises:
            StoreError: nothing was, or not all of it.
        """
        key = self._key(relative)
        own = self._folder(key)
        if own is not None:
            return Artifact(key, own.sha256, own.bytes)
        entry = self._entry(key)
        if entry is not None:
            return Artifact(key, entry.sha256, entry.bytes)
        data = self.read_bytes(relative)
        return Artifact(key, hashlib.sha256(data).hexdigest(), len(data))

    def fetch(self, what: Artifact | str, *beside: Artifact) -> Path:
        """Download what the cache does not hold, and compare it with its checksum.

        Raises:
            StoreError: something is missing or not as recorded.
        """
        artifact = self.settle(what) if isinstance(what, str) else what
        group = [artifact, *beside]
        place = self._place(group)
        if place.is_dir():
            os.utime(place)
        else:
            with self.scratch() as area:
                new = area / "new"
                new.mkdir()
                for one in group:
                    self._download(one, new / PurePosixPath(one.path).name)
                _move_in(new, place)
        return place / PurePosixPath(artifact.path).name

    def read_bytes(self, relative: str) -> bytes:
        """The content of a file, published alone or in a folder."""
        key = self._key(relative)
        entry = self._entry(key)
        try:
            return self._objects.read(entry.key if entry else key)
        except FileNotFoundError:
            where = self._where(relative)
            raise StoreError(
                f"{where} does not exist: run the stage that writes it again"
            ) from None

    def sizes(self, relative: str) -> dict[str, int]:
        """Every object below a folder, by its path in the workspace, with its bytes."""
        return self._objects.sizes(self._key(relative))

    def names(self, relative: str) -> list[str]:
        """What lies directly in a folder, sorted; nothing where there is no folder."""
        key = self._key(relative)
        return sorted({f.removeprefix(f"{key}/").partition("/")[0] for f in self.files(relative)})

    def files(self, relative: str) -> list[str]:
        """Every file below a folder, by its path in the workspace, sorted."""
        keys = (key for key in self.sizes(relative) if PurePosixPath(key).name != _MANIFEST)
        return sorted({_without_mark(key) for key in keys})

    def exists(self, relative: str) -> bool:
        """Whether a file or a whole folder was published there."""
        key = self._key(relative)
        return self._folder(key) is not None or self._objects.size(key) is not None

    def verify(self, artifact: Artifact, *, deep: bool = False) -> bool:
        """Whether the artifact is there with the size recorded and, if ``deep``, the same content."""
        key = self._key(artifact.path)
        if deep:
            try:
                with self.scratch() as area:
                    self._download(artifact, area / "copy")
            except StoreError:
                return False
            return True
        listed = getattr(self._thread, "listed", None)
        if listed is not None:
            return _is_listed(self._listing(listed, key), key, artifact.bytes)
        if self._objects.size(key) == artifact.bytes:
            return True
        whole = self._folder(key)
        if whole is not None:
            return whole.sha256 == artifact.sha256
        entry = self._entry(key)
        return entry is not None and entry.bytes == artifact.bytes

    @contextmanager
    def still(self) -> Iterator[None]:
        """In the block :meth:`verify` asks a listing: for a file's size, whether a folder is there."""
        self._thread.listed = {}
        try:
            yield
        finally:
            self._thread.listed = None

    def _listing(self, listed: dict[str, dict[str, int]], key: str) -> dict[str, int]:
        top = PurePosixPath(key).parts[0]
        if top not in listed:
            sizes = self._objects.sizes(top)
            listed[top] = {_without_mark(name): size for name, size in sizes.items()}
            listed[top] |= {str(PurePosixPath(name).parent): -1 for name in sizes}
        return listed[top]

    def remove(self, relative: str) -> None:
        """Remove a file or folder: its manifest first, so that no half of it is ever there.

        What this machine keeps under that path goes, too, but for the cache (:meth:`drop_copies`).
        """
        key = self._writable_key(relative)
        self._leave_folder(key)
        self._objects.remove([f"{key}/{_MANIFEST}", key, *self._objects.sizes(key)])
        for place in (self.root / _WORK / key, self.root / key):
            _files.remove(place)

    def drop_copies(self) -> None:
        """Remove the cache: its entries do not tell what they are of."""
        _files.remove(self._cache)

    def _leave_folder(self, key: str) -> None:
        """Take a path out of the manifest of the folder that it was published with, if it was."""
        for folder in list(PurePosixPath(key).parents)[:-1]:
            whole = self._manifest(str(folder))
            if whole is None:
                continue
            name = PurePosixPath(key).relative_to(folder).as_posix()
            gone = {n: e for n, e in whole.files.items() if n == name or n.startswith(f"{name}/")}
            files = {n: e for n, e in whole.files.items() if n not in gone}
            left = Manifest(_sha256_of(files), files)
            self._objects.write(f"{folder}/{_MANIFEST}", left.to_json().encode())
            self._objects.remove(entry.key for entry in gone.values())
            return

    @contextmanager
    def working(self, relative: str) -> Iterator[WorkingFolder]:
        """A folder on this machine with what was saved of it last, wherever that was.

        It is saved at the end of the block, whatever ends it. What could not be saved, or not by a process
        that was killed, is taken up on this machine, unless another has gone on since; else it is done again.
        """
        key = self._writable_key(relative)
        place = self.root / _WORK / key
        note = place.with_name(
            f"{place.name}.saved"
        )  # the state at the URL that this machine goes on from
        saved = self._manifest(key)
        if saved is not None and not (place.is_dir() and _text(note) == saved.sha256):
            with self.scratch() as area:
                self._download(Artifact(key, saved.sha256, saved.bytes), area / "saved")
                _files.remove(place)
                place.parent.mkdir(parents=True, exist_ok=True)
                (area / "saved").rename(place)
            note.write_text(saved.sha256)
        place.mkdir(parents=True, exist_ok=True)

        def save() -> None:
            with self.scratch() as area:
                _still(place, area / "still")
                note.write_text(self._upload_folder(area / "still", key).sha256)

        try:
            yield WorkingFolder(place, save)
        finally:
            save()

    def sweep(self) -> None:
        """Remove what killed processes left in the scratch folder, and old entries of a full cache."""
        super().sweep()
        limit = float(os.environ.get("SAGE_CACHE_GB", "100")) * 1e9
        entries = sorted(
            self._cache.glob("*"), key=lambda entry: entry.stat().st_mtime, reverse=True
        )
        held, now = 0, _files.file_system_time(self._scratch)
        for entry in entries:
            with suppress(OSError, StoreError):
                held += _files.size(entry)
                if held > limit and now - entry.stat().st_mtime > _UNUSED_S:
                    _files.remove(entry)

    def _upload_folder(self, folder: Path, key: str) -> Manifest:
        before = self._manifest(key) or Manifest()
        new = Manifest.of(folder, key, before)
        kept = {entry.key for entry in before.files.values()}
        with ThreadPoolExecutor(_TRANSFERS) as pool:
            sent = [
                pool.submit(self._objects.upload, folder / name, entry.key)
                for name, entry in new.files.items()
                if entry.key not in kept
            ]
            for one in sent:
                one.result()
        self._objects.write(f"{key}/{_MANIFEST}", new.to_json().encode())
        self._objects.remove(kept - {entry.key for entry in new.files.values()})
        return new

    def _download(self, artifact: Artifact, target: Path) -> None:
        key = self._key(artifact.path)
        whole = self._folder(key)
        if whole is not None:
            target.mkdir()
            for name, entry in whole.files.items():
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                self._get(entry.key, target / name)
        else:
            single = self._entry(key)
            self._get(single.key if single else key, target)
        if _files.checksum(target) != artifact.sha256:
            raise StoreError(
                f"{self._where(key)} is not as recorded (another checksum): run its stage again, or once "
                "more if it was being published just now"
            )

    def _get(self, key: str, file: Path) -> None:
        try:
            self._objects.download(key, file)
        except FileNotFoundError:
            raise StoreError(
                f"{self._where(key)} does not exist: run the stage that writes it again"
            ) from None

    def _manifest(self, key: str) -> Manifest | None:
        try:
            return Manifest.parse(self._objects.read(f"{key}/{_MANIFEST}"))
        except FileNotFoundError:
            return None

    def _folder(self, key: str) -> Manifest | None:
        """The manifest of a folder, published by itself or within another."""
        own = self._manifest(key)
        if own is not None:
            return own
        outer, name = self._published_with(key)
        files = {
            n.removeprefix(f"{name}/"): e for n, e in outer.items() if n.startswith(f"{name}/")
        }
        return Manifest(_sha256_of(files), files) if files else None

    def _entry(self, key: str) -> Entry | None:
        """The file's entry in the manifest of the folder that it was published with, if it was."""
        files, name = self._published_with(key)
        return files.get(name)

    def _published_with(self, key: str) -> tuple[dict[str, Entry], str]:
        """The files of the folder around a path, and what the path is called in it."""
        for folder in list(PurePosixPath(key).parents)[:-1]:
            whole = self._manifest(str(folder))
            if whole is not None:
                return whole.files, PurePosixPath(key).relative_to(folder).as_posix()
        return {}, ""

    def _place(self, group: list[Artifact]) -> Path:
        """The cache's folder for artifacts that were fetched together."""
        lines = "".join(f"{one.path}\0{one.sha256}\n" for one in group)
        return self._cache / hashlib.sha256(lines.encode()).hexdigest()[:24]

    def _key(self, relative: str) -> str:
        return str(inside(relative, self._objects.url))

    def _where(self, relative: str) -> str:
        return f"{self._objects.url}/{relative}"

    def _writable_key(self, relative: str) -> str:
        key = self._key(relative)
        if PurePosixPath(key).parts[0] in RESERVED:
            raise StoreError(f"{relative!r} belongs to the catalog: choose another place")
        return key


def _text(file: Path) -> str:
    """What a small file says; empty where there is none."""
    return file.read_text() if file.is_file() else ""


def _without_mark(key: str) -> str:
    """The path of an object: a file of a folder that was published again has its checksum behind it."""
    return key.partition("~")[0]


def _is_listed(listing: dict[str, int], key: str, size: int) -> bool:
    if f"{key}/{_MANIFEST}" in listing:
        return True
    return listing.get(key) in (size, -1)


def _sha256_of(files: dict[str, Entry]) -> str:
    lines = (os.fsencode(n) + b"\0" + e.sha256.encode() + b"\n" for n, e in sorted(files.items()))
    return hashlib.sha256(b"".join(lines)).hexdigest()


def _move_in(new: Path, place: Path) -> None:
    """Into the cache, unless another was faster: what lies there under that name is the same."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with suppress(OSError):
        new.rename(place)
    if not place.is_dir():
        raise CatalogError(f"{place} cannot be written: see to the disk of {place.parent}")


def _still(folder: Path, target: Path) -> None:
    """A picture of a folder that is being written to: large files, which never change, by a second name."""
    for file in _files.plain_files(folder):
        copy = target / file.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # thinned out meanwhile
            if file.stat().st_size > _COPIED_FIRST_BYTES:
                os.link(file, copy)
            else:
                shutil.copyfile(file, copy)
    target.mkdir(parents=True, exist_ok=True)
