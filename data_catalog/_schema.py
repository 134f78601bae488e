"""The one place that says what an event is, in Python and in Parquet."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_catalog import _json
from data_catalog._block import Block
from data_catalog._errors import CatalogError
from sage_core.types import Artifact, Reason, Stage, Verdict

VERSION = 1
VERSION_KEY = b"sage.catalog.version"


class _Stored:
    """Where an event that was read finds all but its item."""

    __slots__ = ("_block", "_place")

    _block: Block
    _place: int


@dataclass(frozen=True, kw_only=True, slots=True)
class StageEvent(_Stored):
    """One judged attempt of one item at one stage: a row of the log.

    Events that were read hold their item alone; the rest lies in a block that many share, ``figures``,
    ``artifacts`` and ``details`` as JSON, which is parsed whenever it is asked for: a catalog keeps very
    many events, and few are looked into.

    Attributes:
        item: id of a video, clip or run.
        stage: one of :class:`sage_core.types.Stage`.
        verdict: one of :class:`sage_core.types.Verdict`.
        parent: the video that a clip is cut from, else None.
        source: exactly what the user gave, or a playlist entry's URL.
        reason: one of :class:`sage_core.types.Reason`; None if accepted.
        message: the reason in words, for people.
        figures: what was measured: name -> ``{"value", "threshold", "rule"}``.
        retryable: of a failure, whether trying again can help.
        config_hash: of the settings that the stage depends on.
        input_hash: of what the stage took in.
        code_version: version of SAGE.
        attempt: 1 for the first, counted per item and stage.
        sequence: given by the catalog at :meth:`Catalog.append`: rises with every event of an item at a
            stage. The latest event is that with the greatest ``(attempt, sequence)``.
        artifacts: what was written: name -> path, checksum, size.
        details: small facts for the next stage, as JSON.
        seconds: time taken by the clock on the wall; ``cpu_seconds`` by the processors.
        host, time, run: where, when (ISO 8601, UTC) and by which run; informational, decide nothing.
    """

    item: str
    stage: str
    verdict: str
    parent: str | None = None
    source: str = ""
    reason: str | None = None
    message: str = ""
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    retryable: bool = False
    config_hash: str = ""
    input_hash: str = ""
    code_version: str = ""
    attempt: int = 1
    sequence: int = 0
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    host: str = ""
    time: str = ""
    run: str = ""

    @property
    def order(self) -> tuple[int, int]:
        """Later events of the same item and stage compare greater."""
        return self.attempt, self.sequence

    if not TYPE_CHECKING:  # mypy would take any name for one of its attributes

        def __getattr__(self, name: str) -> Any:
            """What lies in the block; Python asks here for what is not among an event's own attributes."""
            column = STORED.get(name)
            if column is None:
                raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
            value = self._block.value(column, self._place)
            if name not in JSON_COLUMNS:
                return value
            parsed = _json.loads(value)
            return _as_artifacts(parsed) if name == "artifacts" else parsed

    def check(self) -> None:
        """Raise ValueError if a field holds what no reader would understand."""
        if not self.item:
            raise ValueError("an event needs an item")
        Stage(self.stage)
        verdict = Verdict(self.verdict)
        if self.reason is not None:
            Reason(self.reason)
        elif verdict is not Verdict.ACCEPTED:
            raise ValueError(f"{self.item}: the verdict {self.verdict!r} needs a reason")
        if self.attempt < 1:
            raise ValueError(f"{self.item}: attempts count from 1, not {self.attempt}")


JSON_COLUMNS = ("figures", "artifacts", "details")
"""Stored as text: their keys differ by stage, and DuckDB and Spark read JSON as well as structs."""

SCHEMA = pa.schema(
    [
        pa.field("item", pa.string(), nullable=False),
        pa.field("verdict", pa.string(), nullable=False),
        pa.field("parent", pa.string()),
        pa.field("source", pa.string(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("message", pa.string(), nullable=False),
        pa.field("figures", pa.string(), nullable=False),
        pa.field("retryable", pa.bool_(), nullable=False),
        pa.field("config_hash", pa.string(), nullable=False),
        pa.field("input_hash", pa.string(), nullable=False),
        pa.field("code_version", pa.string(), nullable=False),
        pa.field("attempt", pa.int64(), nullable=False),
        pa.field("sequence", pa.int64(), nullable=False),
        pa.field("artifacts", pa.string(), nullable=False),
        pa.field("details", pa.string(), nullable=False),
        pa.field("seconds", pa.float64(), nullable=False),
        pa.field("cpu_seconds", pa.float64(), nullable=False),
        pa.field("host", pa.string(), nullable=False),
        pa.field("time", pa.string(), nullable=False),
        pa.field("run", pa.string(), nullable=False),
    ],
    metadata={VERSION_KEY: str(VERSION).encode()},
)
"""Columns of a file. ``stage`` is not among them: it is the folder, as Hive partitions are."""

COLUMNS = ("stage", *SCHEMA.names)

STORED = {name: place for place, name in enumerate(SCHEMA.names[1:])}
"""The columns but for the item, by their places in a block."""
_ROWS_AT_A_TIME = 2048


def to_table(events: Sequence[StageEvent]) -> pa.Table:
    """Rows for a file; all events must be of the stage whose folder it goes to."""
    return pa.Table.from_pylist([_row(event) for event in events], schema=SCHEMA)


def check_version(schema: pa.Schema, where: str) -> None:
    """Refuse what a newer SAGE wrote, for its columns may mean something else."""
    found = int((schema.metadata or {}).get(VERSION_KEY, b"0"))
    if not 1 <= found <= VERSION:
        raise CatalogError(
            f"{where} has catalog version {found}, this SAGE reads 1 to {VERSION}: it was written by"
            " another version of SAGE (update this one) or is no file of the catalog (move it away)"
        )


def rows(table: pa.Table | pa.RecordBatch, *columns: str) -> Iterator[tuple[Any, ...]]:
    """The values of some columns, row by row."""
    return zip(*(table[name].to_pylist() for name in columns), strict=True)


def without(table: pa.Table, items: Collection[str]) -> pa.Table:
    """The rows that are not of these items or their parts, and those that say that one is forgotten."""
    names = pa.array(sorted(items), pa.string())
    concerned = pc.or_kleene(
        pc.is_in(table["item"], value_set=names),
        pc.fill_null(pc.is_in(table["parent"], value_set=names), False),
    )
    stone = pc.fill_null(pc.equal(table["reason"], Reason.FORGOTTEN.value), False)
    kept = pc.and_(stone, pc.is_null(table["parent"]))
    return table.filter(pc.or_(pc.invert(concerned), kept))


def to_events(table: pa.Table, stage: str) -> Iterator[StageEvent]:
    """The rows of a file as events."""
    for row in table.to_pylist():
        parsed = {name: _json.loads(row[name]) for name in JSON_COLUMNS}
        artifacts = _as_artifacts(parsed["artifacts"])
        yield StageEvent(stage=stage, **{**row, **parsed, "artifacts": artifacts})


def stored_event(stage: str, item: str, block: Block, place: int) -> StageEvent:
    """The event of an item that lies at a place of a block whose columns are :data:`STORED`."""
    event = object.__new__(StageEvent)
    for put, value in zip(_SETTERS, (stage, item, block, place), strict=True):
        put(event, value)
    return event


def batches(file: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
    """The rows of a file, some thousand at a time: all of them at once take much memory."""
    yield from file.iter_batches(_ROWS_AT_A_TIME, columns=SCHEMA.names, use_threads=False)


def plain(events: Iterable[StageEvent]) -> list[dict[str, Any]]:
    """Events as dictionaries in the order of :data:`COLUMNS`, artifacts as dictionaries too."""
    rows = []
    for event in events:
        row = {name: getattr(event, name) for name in COLUMNS}
        rows.append(row | {"artifacts": _artifacts(event)})
    return rows


def _artifacts(event: StageEvent) -> dict[str, dict[str, Any]]:
    return {name: asdict(artifact) for name, artifact in event.artifacts.items()}


def _row(event: StageEvent) -> dict[str, Any]:
    row = {f.name: getattr(event, f.name) for f in fields(event) if f.name != "stage"}
    row = {key: _json.in_utf8(v) if isinstance(v, str) else v for key, v in row.items()}
    row["figures"] = _json.dumps(event.figures)
    row["artifacts"] = _json.dumps(_artifacts(event))
    row["details"] = _json.dumps(event.details)
    return row


def _setter(name: str) -> Callable[[StageEvent, Any], None]:
    """Puts a value into a slot of an event that is being made; nobody else changes one."""
    setter: Callable[[StageEvent, Any], None] = getattr(StageEvent, name).__set__
    return setter


_SETTERS = [_setter(name) for name in ("stage", "item", "_block", "_place")]


def _as_artifacts(parsed: dict[str, Any]) -> dict[str, Artifact]:
    return {name: Artifact(**artifact) for name, artifact in parsed.items()}
