"""The event log of one stage: immutable Parquet files in one folder, merged now and then.

The folder holds
    event-*.parquet             one for each append
    part-<generation>-*.parquet events merged by a compaction
    _generation-<number>.json   which parts count, and which event files they stand in for

Compaction writes a new part, creates the next generation (which fails if another was faster), removes
the old generation, and only then the files that it counted on. Readers take no lock: they list the
folder, then open the newest generation listed. That it is still there proves that nothing it counts on
was removed while the listing went on. When it is gone, or a file is when its turn comes, they start again.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_catalog import _files, _json, _schema
from data_catalog._errors import CatalogError
from data_catalog._folder import Folder
from data_catalog._latest import Latest
from data_catalog._schema import StageEvent

_LOOSE_LIMIT = 256
_READ_ATTEMPTS = 100


@dataclass(frozen=True)
class Generation:
    """What the files in the folder mean.

    ``parts`` are the merged files with their row counts, oldest first; ``covers`` the files whose events
    the newest part holds, to be ignored should they still be there.
    """

    number: int = 0
    parts: tuple[tuple[str, int], ...] = ()
    covers: frozenset[str] = frozenset()

    def to_json(self) -> str:
        return _json.dumps(asdict(self) | {"version": 1, "covers": sorted(self.covers)}, indent=1)

    @classmethod
    def parse(cls, text: bytes) -> Generation:
        data = json.loads(text)
        parts = tuple((name, rows) for name, rows in data["parts"])
        return cls(data["number"], parts, frozenset(data["covers"]))


@dataclass(frozen=True)
class Listing:
    """The names in the folder, the newest generation's among them, and the event files."""

    names: list[str] = field(default_factory=list)
    pointer: str = ""
    loose: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, names: list[str]) -> Listing:
        pointers = (name for name in names if name.startswith("_generation-"))
        loose = [n for n in names if n.startswith("event-") and n.endswith(".parquet")]
        return cls(names, max(pointers, default=""), loose)


class StageLog:
    """Appends to, reads and compacts the log of one stage. Not thread-safe: its catalog is."""

    def __init__(self, stage: str, folder: Folder) -> None:
        self.stage = stage
        self.latest = Latest(stage)
        self._folder = folder
        self._seen: set[str] = set()
        self._listing = Listing()
        self._taken_in: Listing | None = None
        self._parsed = (b"", Generation())

    def append(self, events: Sequence[StageEvent], allowed: Callable[[], None]) -> list[StageEvent]:
        """Write events as one file, numbered after all before them; call it with the stage locked.

        ``allowed`` raises if nothing may be written any more.
        """
        allowed()
        self._begin()
        self.refresh()
        numbered = self._numbered(events)
        name, table = f"event-{_files.fresh_name()}.parquet", _schema.to_table(numbered)
        self._folder.write(name, parquet(table))
        self._absorb(table.to_batches())
        self._seen.add(name)
        self._tidy()
        return numbered

    def fence(self) -> None:
        """Called by a new runner of the stage before it writes; the lock has kept its predecessor out."""

    def refresh(self) -> None:
        """Take in the files that have come since the last time."""

        def take_in(generation: Generation, names: list[str]) -> None:
            if self._listing is self._taken_in:
                return
            self._recognise(generation)
            for name in names:
                if not self._knows(name):
                    self._absorb(self._batches(name))
                    self._seen.add(name)
            self._seen.intersection_update(names)
            self._counted(generation, names)
            self._taken_in = self._listing

        self._consistently(take_in)

    def state(self) -> list[str]:
        """The files that count, for whoever asks whether anything was recorded since; none is read."""
        files: list[str] = []

        def take_in(_: Generation, names: list[str]) -> None:
            files[:] = names

        self._consistently(take_in)
        return files

    def table(self) -> pa.Table:
        """Every event of the log, once."""
        tables: list[pa.Table] = []

        def take_in(_: Generation, names: list[str]) -> None:
            tables[:] = [self._read(name) for name in names]

        self._consistently(take_in)
        return pa.concat_tables(tables) if tables else _schema.SCHEMA.empty_table()

    def compact(self, *, whole: bool, without: Collection[str] = ()) -> None:
        """Merge the event files into a part, and parts with it: all, or those not much larger.

        Merging a part only with at least half as many newer rows, an event is rewritten about log2(n)
        times in its life. Call it with the stage locked.

        ``without``: items whose events go, and their parts', but for those that say that they are forgotten.
        """
        current, loose = self._scan()
        # What a compaction that was killed has left to do, in its own order.
        self._remove_generations_before(current.number)
        kept_back = self._discard([name for name in loose if name in current.covers])
        loose = [name for name in loose if name not in current.covers]
        tables = [self._read(name) for name in loose]
        rows, kept = sum(table.num_rows for table in tables), list(current.parts)
        merged: list[str] = []
        while kept and (whole or kept[-1][1] < 2 * rows):
            name, count = kept.pop()
            merged.append(name)
            rows += count
        if not loose and len(merged) < (1 if without else 2):
            return
        table = pa.concat_tables([*(self._read(name) for name in merged), *tables])
        if without:
            table = _schema.without(table, without)
        self._publish(current, kept, table, frozenset(loose + merged + kept_back))
        if without:  # begin anew: what was known of them goes from memory, too
            self._forget()
            self.refresh()

    def _publish(
        self,
        current: Generation,
        kept: list[tuple[str, int]],
        table: pa.Table,
        covers: frozenset[str],
    ) -> None:
        number = current.number + 1
        part = f"part-{number:06d}-{_files.fresh_name()}.parquet"
        # By item and order, so that a query for one item skips most of a file.
        table = table.sort_by([(name, "ascending") for name in ("item", "attempt", "sequence")])
        self._folder.write(part, parquet(table))
        new = Generation(number, (*kept, (part, table.num_rows)), covers)
        if not self._folder.create(_pointer(number), new.to_json().encode()):
            self._remove([part])
            return
        if self._names("_generation-")[-1] != _pointer(number):
            # Others went on meanwhile from a generation of this number that they have removed: theirs count.
            self._remove([_pointer(number), part])
            return
        self._remove_generations_before(number)
        self._discard(sorted(covers))
        self._remove(self._orphans(new))

    @property
    def _loose(self) -> int:
        """About how many files wait for being merged."""
        return len(self._seen)

    def _forget(self) -> None:
        """Begin as if nothing had been read; sequence numbers go on."""
        self.latest.forget()
        self._seen.clear()
        self._taken_in = None

    def _discard(self, names: list[str]) -> list[str]:
        """Remove files whose events a newer part holds; returns those that are left for now."""
        self._remove(names)
        return []

    def _orphans(self, generation: Generation) -> list[str]:
        """Parts of compactions that were killed before their generation came to be."""
        counted = {name for name, _ in generation.parts}
        return [
            name
            for name in self._names("part-")
            if name not in counted and int(name.split("-")[1]) <= generation.number
        ]

    def _remove_generations_before(self, number: int) -> None:
        self._remove(name for name in self._names("_generation-") if name < _pointer(number))

    def _numbered(self, events: Sequence[StageEvent]) -> list[StageEvent]:
        sequences: dict[str, int] = {}
        numbered = []
        for event in events:
            last = sequences.get(event.item) or self.latest.last_sequence(event.item)
            sequences[event.item] = last + 1
            numbered.append(replace(event, sequence=last + 1))
        return numbered

    def _absorb(self, batches: Iterable[pa.RecordBatch]) -> None:
        for batch in batches:
            self.latest.take_in(batch)

    def _recognise(self, generation: Generation) -> None:
        """The newest part need not be read if all that went into it has been."""
        if generation.parts and all(map(self._knows, generation.covers)):
            self._seen.add(generation.parts[-1][0])

    def _counted(self, generation: Generation, names: list[str]) -> None:
        """Called when a listing has been taken in."""

    def _knows(self, name: str) -> bool:
        return name in self._seen

    def _consistently(self, take_in: Callable[[Generation, list[str]], None]) -> None:
        """Call ``take_in`` with file names until no compaction came in between."""
        problem: Exception | None = None
        for _ in range(_READ_ATTEMPTS):
            try:
                generation, loose = self._scan()
                parts = [name for name, _ in generation.parts]
                take_in(generation, parts + [n for n in loose if n not in generation.covers])
                return
            except FileNotFoundError as error:
                problem = error
        raise CatalogError(
            f"the log in {self._folder} could not be read in {_READ_ATTEMPTS} attempts ({problem}):"
            " files seem to have been removed by hand; restore them from a backup"
        )

    def _scan(self) -> tuple[Generation, list[str]]:
        names = self._folder.names()
        if names != self._listing.names:
            self._listing = Listing.of(names)
        if not names:
            return Generation(), []
        if not self._listing.pointer:
            raise FileNotFoundError(f"no generation in {self._folder}")
        text = self._folder.read(self._listing.pointer)
        return self._generation(text), self._listing.loose

    def _generation(self, text: bytes) -> Generation:
        """What a pointer says; asked for again and again, it is parsed once."""
        if text != self._parsed[0]:
            self._parsed = (text, Generation.parse(text))
        return self._parsed[1]

    def _names(self, prefix: str = "") -> list[str]:
        return [name for name in self._folder.names() if name.startswith(prefix)]

    def _begin(self) -> None:
        """Make the folder, with its first generation, which counts on nothing."""
        if not self._names():
            first = Generation()
            self._folder.create(_pointer(first.number), first.to_json().encode())

    def _tidy(self) -> None:
        if self._loose > _LOOSE_LIMIT:
            self.compact(whole=False)
            self.refresh()

    def _read(self, name: str) -> pa.Table:
        return self._open(name).read(use_threads=False).select(_schema.SCHEMA.names)

    def _batches(self, name: str) -> Iterable[pa.RecordBatch]:
        return _schema.batches(self._open(name))

    def _open(self, name: str) -> pq.ParquetFile:
        data, where = self._folder.read(name), f"{self._folder}/{name}"
        try:
            file = pq.ParquetFile(io.BytesIO(data))
        except pa.ArrowInvalid as error:
            raise CatalogError(
                f"{where} is damaged ({error}): files of the catalog are written whole and never"
                " changed, so the disk or another program did this; restore it from a backup, or"
                " move it away to redo the work it speaks of"
            ) from error
        _schema.check_version(file.schema_arrow, where)
        return file

    def _remove(self, names: Iterable[str]) -> None:
        self._folder.remove(names)


def encoded(events: Sequence[StageEvent], remarks: Mapping[bytes, bytes] | None = None) -> bytes:
    """Events as the bytes of a file, with remarks in its metadata."""
    table = _schema.to_table(events)
    if remarks:
        table = table.replace_schema_metadata({**table.schema.metadata, **remarks})
    return parquet(table)


def parquet(table: pa.Table) -> bytes:
    """A table as the bytes of a file."""
    buffer = io.BytesIO()
    options: dict[str, Any] = {"compression": "zstd"}
    if table.num_rows < _LOOSE_LIMIT:  # Statistics and dictionaries would outweigh the rows.
        options |= {"use_dictionary": False, "write_statistics": False}
    pq.write_table(table, buffer, **options)
    return buffer.getvalue()


def _pointer(number: int) -> str:
    return f"_generation-{number:06d}.json"
