"""Frozen lists of shards: what a model was trained on, for ever, without a table format."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from data_catalog import _json
from data_catalog._errors import CatalogError
from data_catalog._folder import Folder
from sage_core.types import Artifact


@dataclass(frozen=True)
class Snapshot:
    """A manifest, named by the SHA-256 of its canonical JSON.

    Attributes:
        id: the hash, 64 hex digits.
        shards: files with checksums, sorted by path.
        query: how they were chosen.
        parent: id of the snapshot that this one continues, or None.
    """

    id: str
    shards: tuple[Artifact, ...]
    query: dict[str, Any]
    parent: str | None

    @classmethod
    def of(cls, shards: Sequence[Artifact], query: dict[str, Any], parent: str | None) -> Snapshot:
        ordered = tuple(sorted(shards, key=lambda shard: shard.path))
        query = json.loads(_json.dumps(query))
        draft = cls("", ordered, query, parent)
        return cls(hashlib.sha256(draft.text().encode()).hexdigest(), ordered, query, parent)

    def text(self) -> str:
        """The canonical JSON: keys sorted, no blanks, without the id."""
        return _json.dumps(
            {
                "version": 1,
                "shards": [asdict(shard) for shard in self.shards],
                "query": self.query,
                "parent": self.parent,
            }
        )

    def write(self, folder: Folder) -> None:
        """Write ``<id>.json``; the same content once more changes nothing."""
        folder.create(f"{self.id}.json", self.text().encode())

    @classmethod
    def read(cls, folder: Folder, name: str) -> Snapshot:
        """Raises CatalogError if there is no such snapshot or its content does not fit its name."""
        try:
            content = folder.read(f"{name}.json") if name.isalnum() else b""
        except FileNotFoundError:
            content = b""
        if not content:
            raise CatalogError(f"there is no snapshot {name!r} in {folder}")
        if hashlib.sha256(content).hexdigest() != name:
            raise CatalogError(
                f"{folder}/{name}.json was changed after it was frozen: restore it from a backup"
            )
        data = json.loads(content)
        shards = tuple(Artifact(**shard) for shard in data["shards"])
        return cls(name, shards, data["query"], data["parent"])
