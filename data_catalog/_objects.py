"""Objects at a URL, by way of fsspec: whole or not there, put-if-absent, retried a few times."""

from __future__ import annotations

import posixpath
import random
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from data_catalog._errors import CatalogError, StorageError

Answer = TypeVar("Answer")

PUT_IF_ABSENT = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl")
"""Protocols whose stores can refuse to replace an object, in one request (If-None-Match, generation 0)."""
_ATTEMPTS = 5
_FIRST_WAIT_S, _GROWTH = 0.2, 3.0
_S3_TIMES = {"connect_timeout": 10, "read_timeout": 60, "retries": {"total_max_attempts": 1}}
"""Of one request. That botocore retries, too, would only multiply; fsspec's settings overrule this."""


class Objects:
    """The objects below one URL, by key relative to it.

    Credentials and endpoints come from where the protocol's library looks for them (for S3 the environment
    variables ``AWS_*``, a role, ``~/.aws``) and from fsspec's own settings (``FSSPEC_S3``, …).
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        protocol = url.partition("://")[0]
        if protocol not in PUT_IF_ABSENT:
            raise CatalogError(
                f"{url} cannot hold a workspace: {protocol}:// has no write that refuses to replace a file, "
                "and without one two writers would race. Use s3://, gs:// or abfs://, or mount it as a folder"
            )
        self._fs, self._root = _file_system(url, protocol)
        self._probed = False
        self._probing = threading.Lock()

    def read(self, key: str) -> bytes:
        """The content; FileNotFoundError if there is no such object."""
        return bytes(self._try("read", key, lambda: self._fs.cat_file(self._at(key))))

    def write(self, key: str, data: bytes) -> None:
        self._try("write", key, lambda: self._fs.pipe_file(self._at(key), data))

    def create(self, key: str, data: bytes) -> bool:
        """Write unless the object exists. ``data`` must be the writer's own (hold a random word, say):
        a request that was answered late is repeated, and then meets its own object.

        Raises:
            CatalogError: the store ignores the condition; nothing of ``data`` is written.
        """
        self._probe()
        return self._create(key, data)

    def size(self, key: str) -> int | None:
        """Bytes, or None if there is no such object."""
        try:
            info = self._try("look at", key, lambda: self._fs.info(self._at(key)))
        except FileNotFoundError:
            return None
        return int(info["size"]) if info["type"] == "file" else None

    def sizes(self, prefix: str) -> dict[str, int]:
        """Every key below ``prefix/`` with its bytes."""
        return {key: int(info["size"]) for key, info in self._listing(prefix).items()}

    def ages(self, prefix: str) -> dict[str, float]:
        """Every key below ``prefix/`` with the seconds since it was written, by the store's own clock."""
        clock = f"{prefix}/clock-{uuid4().hex}"  # tells what the time is there
        self.write(clock, b"")
        times = {key: _written(info) for key, info in self._listing(prefix).items()}
        self.remove([clock])
        now = times.pop(clock)
        return {key: (now - then).total_seconds() for key, then in times.items()}

    def remove(self, keys: Iterable[str]) -> None:
        """Remove objects, in this order; those that are not there are fine."""
        for key in keys:
            with suppress(FileNotFoundError):
                self._try("remove", key, partial(self._fs.rm_file, self._at(key)))

    def upload(self, file: Path, key: str) -> None:
        """Write a file's content; it is visible once all of it is there."""
        self._try("upload", key, lambda: self._fs.put_file(str(file), self._at(key)))

    def download(self, key: str, file: Path) -> None:
        """Write an object's content to a new file; FileNotFoundError if there is no such object."""
        self._try("download", key, lambda: self._fs.get_file(self._at(key), str(file)))

    def _listing(self, prefix: str) -> dict[str, dict[str, Any]]:
        at, start = self._at(prefix), len(self._root) + 1
        found = self._try("list", prefix, lambda: self._fs.find(at, detail=True))
        return {path[start:]: info for path, info in found.items()}

    def _create(self, key: str, data: bytes) -> bool:
        def attempt() -> bool:
            try:
                self._fs.pipe_file(self._at(key), data, mode="create")
            except FileExistsError:
                return bool(self._fs.cat_file(self._at(key)) == data)
            return True

        return self._try("create", key, attempt)

    def _probe(self) -> None:
        """Make sure, once, that the store refuses to replace: some that speak its protocol do not."""
        with self._probing:
            if self._probed:
                return
            key = f"catalog/probe-{uuid4().hex}"
            try:
                refuses = self._create(key, b"first") and not self._create(key, b"second")
            finally:
                self.remove([key])
            if not refuses:
                raise CatalogError(
                    f"{self.url} cannot hold a workspace: the store replaces an object although it was told "
                    "not to (If-None-Match: *), so two writers would race. Amazon S3 heeds it, and MinIO, "
                    "Ceph and others do in newer versions: update the store, or use another"
                )
            self._probed = True

    def _at(self, key: str) -> str:
        return posixpath.join(self._root, key)

    def _try(self, what: str, key: str, request: Callable[[], Answer]) -> Answer:
        """Do a request; what may pass is tried again a few times, further and further apart."""
        wait = _FIRST_WAIT_S
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return request()
            except (FileNotFoundError, FileExistsError):
                raise
            except PermissionError as error:
                raise CatalogError(
                    f"{self.url} does not let us {what} {key!r} ({error}): check the credentials and what "
                    "they allow, and this machine's clock, by which requests are signed"
                ) from error
            except Exception as error:
                problem = f"{type(error).__name__}: {error}"
                if attempt == _ATTEMPTS:
                    raise StorageError(
                        f"{self.url} could not {what} {key!r} in {_ATTEMPTS} attempts ({problem}): see "
                        "whether the store is well, and run again with --retry failed"
                    ) from error
            time.sleep(wait * random.uniform(0.5, 1.5))
            wait *= _GROWTH
        raise AssertionError("the last attempt returns or raises")


class RemoteFolder:
    """The objects directly below a prefix, as a :class:`data_catalog._folder.Folder`."""

    def __init__(self, objects: Objects, prefix: str) -> None:
        self._objects, self._prefix = objects, prefix

    def __str__(self) -> str:
        return f"{self._objects.url}/{self._prefix}"

    def names(self) -> list[str]:
        start = len(self._prefix) + 1
        return sorted(key[start:] for key in self._objects.sizes(self._prefix))

    def read(self, name: str) -> bytes:
        return self._objects.read(self._key(name))

    def write(self, name: str, data: bytes) -> None:
        self._objects.write(self._key(name), data)

    def create(self, name: str, data: bytes) -> bool:
        return self._objects.create(self._key(name), data)

    def remove(self, names: Iterable[str]) -> None:
        self._objects.remove(self._key(name) for name in names)

    def ages(self) -> dict[str, float]:
        """Every file with the seconds since it was written, by the store's clock."""
        start = len(self._prefix) + 1
        return {key[start:]: age for key, age in self._objects.ages(self._prefix).items()}

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}"


def _written(info: dict[str, Any]) -> datetime:
    """The time that a listing gives, under the name that s3fs, gcsfs or adlfs has for it."""
    found = next(info[name] for name in ("LastModified", "mtime", "last_modified") if name in info)
    assert isinstance(found, datetime)
    return found


def _file_system(url: str, protocol: str) -> tuple[Any, str]:
    try:
        import fsspec
    except ImportError as error:
        raise CatalogError(
            f"a workspace at {url} needs fsspec: pip install 'sage-video3d[s3]'"
        ) from error
    options: dict[str, Any] = {"use_listings_cache": False}
    if protocol in ("s3", "s3a") and "config_kwargs" not in fsspec.config.conf.get("s3", {}):
        options["config_kwargs"] = _S3_TIMES
    try:
        fs, root = fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        raise CatalogError(f"a workspace at {url} needs one more package: {error}") from error
    if protocol in ("s3", "s3a"):
        fs.retries = 1  # tried again here, where it is bounded
    return fs, str(root).rstrip("/")
