"""What must never be mined again: tombstones in the workspace's folder ``tombstones/``, one file each.

A tombstone names nothing: it holds the item's id, a hash of where it lay, a reason, and hashes of what was
there, by which another upload of it is known. Files are only ever added: any number of processes may add.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from data_catalog import Workspace
from sage_core.acquisition.policy import uploader_hash
from sage_core.acquisition.sources import item_id, spelled
from sage_core.errors import SageError
from sage_core.types import Reason

FOLDER = "tombstones"
_VERSION = 1


class Kind(StrEnum):
    """What a tombstone is of."""

    VIDEO = "video"
    UPLOADER = "uploader"


@dataclass(frozen=True)
class Tombstone:
    """One removal.

    Attributes:
        key: id of the item, or "u" and sixteen hex digits of the uploader's hash.
        kind: of a video, or of all videos of an uploader.
        sha256: of the canonical URL or path; of the uploader's id or name.
        reason: why, in the words of whoever asked for it.
        time: when, ISO 8601, UTC.
        contents: SHA-256 of each file that was there; equal bytes are not taken from anywhere else.
    """

    key: str
    kind: Kind
    sha256: str
    reason: str
    time: str
    contents: tuple[str, ...] = ()

    @classmethod
    def of_video(cls, location: str, reason: str, time: str) -> Self:
        """Of what lies at a canonical URL or path."""
        digest = hashlib.sha256(spelled(location).encode()).hexdigest()
        return cls(item_id(location), Kind.VIDEO, digest, reason, time)

    @classmethod
    def of_uploader(cls, name: str, reason: str, time: str) -> Self:
        """Of all that an uploader has put up or will."""
        digest = uploader_hash(name)
        return cls(f"u{digest[:16]}", Kind.UPLOADER, digest, reason, time)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Raises ValueError for what is no tombstone, or one that contradicts itself."""
        stone = cls(
            str(data["key"]), Kind(data["kind"]), str(data["sha256"]), str(data["reason"]),
            str(data["time"]), tuple(map(str, data.get("contents", []))),
        )  # fmt: skip
        digests = (stone.sha256, *stone.contents)
        if any(len(d) != 64 or not set(d) <= set("0123456789abcdef") for d in digests):
            raise ValueError("its hashes are not of 64 hex digits")
        if stone.key != ("v" if stone.kind is Kind.VIDEO else "u") + stone.sha256[:16]:
            raise ValueError(f"its key {stone.key!r} does not follow from its hash")
        return stone

    @property
    def source(self) -> str:
        """What stands in the catalog in place of where it lay."""
        return f"sha256:{self.sha256}"


class Tombstones:
    """All tombstones of a workspace at the time of asking."""

    def __init__(self, stones: Iterable[Tombstone]) -> None:
        self._stones = {stone.key: stone for stone in stones}
        self._contents = {d: s for s in self._stones.values() for d in s.contents}

    @classmethod
    def of(cls, ws: Workspace) -> Self:
        paths = sorted(path for path in ws.store.sizes(FOLDER) if path.endswith(".json"))
        return cls(_read(ws.store.fetch(path)) for path in paths)

    def __iter__(self) -> Iterator[Tombstone]:
        return iter(self._stones.values())

    def __contains__(self, item: object) -> bool:
        return item in self._stones

    def __len__(self) -> int:
        return len(self._stones)

    def of_item(self, item: str) -> Tombstone | None:
        """The tombstone of an item."""
        return self._stones.get(item)

    def of_content(self, sha256: str) -> Tombstone | None:
        """The tombstone of whatever held these bytes."""
        return self._contents.get(sha256)

    @property
    def videos(self) -> list[str]:
        """Ids of the items that were removed one by one, or with their uploader."""
        return [stone.key for stone in self if stone.kind is Kind.VIDEO]

    @cached_property
    def uploaders(self) -> frozenset[str]:
        """Hashes of the uploaders of whom nothing is wanted."""
        return frozenset(s.sha256 for s in self if s.kind is Kind.UPLOADER)


def add(ws: Workspace, stone: Tombstone) -> Tombstone:
    """Put up a tombstone; one that is there already keeps its reason and learns of further contents."""
    path = f"{FOLDER}/{stone.key}.json"
    if ws.store.exists(path):
        before = _read(ws.store.fetch(path))
        contents = tuple(sorted({*before.contents, *stone.contents}))
        if contents == before.contents:
            return before
        stone = replace(before, contents=contents)
    ws.store.write_json(path, {"version": _VERSION, **asdict(stone)})
    return stone


def fingerprint_path(key: str) -> str:
    """Where the hashes of its pictures are kept, if it had come as far as that."""
    return f"{FOLDER}/{key}.npz"


def write_list(stones: Iterable[Tombstone], file: Path) -> None:
    """A list to be shared: one tombstone a line, as JSON."""
    lines = [json.dumps(asdict(stone), sort_keys=True) for stone in stones]
    file.write_text("".join(f"{line}\n" for line in lines))


def read_list(file: Path) -> list[Tombstone]:
    """What :func:`write_list` wrote, here or elsewhere.

    Raises:
        SageError: not readable, or a line that is no tombstone.
    """
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SageError(f"{file} cannot be read: {error}", reason=Reason.BAD_CONFIG) from error
    stones = []
    for number, line in enumerate(lines, 1):
        try:
            stones.append(Tombstone.from_json(json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise SageError(
                f"{file}, line {number} is no tombstone ({error}): write such lists with "
                "`sage forget --to`", reason=Reason.BAD_CONFIG,
            ) from error  # fmt: skip
    return stones


def _read(file: Path) -> Tombstone:
    try:
        return Tombstone.from_json(json.loads(file.read_text()))
    except (ValueError, KeyError, TypeError) as error:
        raise SageError(
            f"{file} is damaged ({error}): nothing is mined until it is restored, since it says what must "
            "not be", reason=Reason.MISSING_INPUT,
        ) from error  # fmt: skip
