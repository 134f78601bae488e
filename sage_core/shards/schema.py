"""The columns of a shard's two files, their version, and how older versions are brought up to date.

A *row* of a clip is the position of a frame among the clip's frames, counted from 0 in order of the
source frame index. Covisibility and trajectories name frames by row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa

from sage_core.errors import ShardError
from sage_core.types import Reason

SCHEMA_VERSION = 1
MAX_ROW_GROUP_FRAMES = 64

_VERSION_KEY = b"sage.schema_version"
_TABLE_KEY = b"sage.table"


def _versioned(table: str, fields: list[tuple[str, pa.DataType]]) -> pa.Schema:
    columns = [pa.field(name, kind, nullable=False) for name, kind in fields]
    metadata = {_VERSION_KEY: str(SCHEMA_VERSION).encode(), _TABLE_KEY: table.encode()}
    return pa.schema(columns, metadata=metadata)


FRAMES: pa.Schema = _versioned(
    "frames",
    [
        ("clip", pa.string()),
        ("frame", pa.int32()),
        ("time_s", pa.float64()),
        ("image", pa.binary()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("intrinsics", pa.list_(pa.float64())),
        ("cam_from_world", pa.list_(pa.float64())),
        ("key", pa.bool_()),
        ("sharpness", pa.float32()),
        ("anchor_xy", pa.list_(pa.float32())),
        ("anchor_depth", pa.list_(pa.float32())),
        ("anchor_point", pa.list_(pa.int64())),
        ("anchor_error_px", pa.list_(pa.float32())),
        ("anchor_track", pa.list_(pa.int32())),
        ("anchor_angle_deg", pa.list_(pa.float32())),
    ],
)

MASK = pa.field("mask", pa.binary())
"""A further column of ``frames``, null where nothing is masked; shards with and without it are read."""

TRAJECTORY = pa.struct(
    [
        ("mode", pa.string()),
        ("context", pa.list_(pa.int32())),
        ("targets", pa.list_(pa.int32())),
        ("overlap", pa.float32()),
        ("parallax", pa.float32()),
        ("sharpness", pa.float32()),
        ("span_s", pa.float32()),
        ("score", pa.float32()),
    ]
)

CLIPS: pa.Schema = _versioned(
    "clips",
    [
        ("clip", pa.string()),
        ("video", pa.string()),
        ("source", pa.string()),
        ("ordered", pa.bool_()),
        ("n_frames", pa.int32()),
        ("frame", pa.list_(pa.int32())),
        ("time_s", pa.list_(pa.float64())),
        ("sharpness", pa.list_(pa.float32())),
        ("depth_median", pa.list_(pa.float32())),
        ("cam_from_world", pa.list_(pa.float64())),
        ("point", pa.list_(pa.int64())),
        ("point_xyz", pa.list_(pa.float32())),
        ("point_rgb", pa.list_(pa.uint8())),
        ("covisibility_i", pa.list_(pa.int32())),
        ("covisibility_j", pa.list_(pa.int32())),
        ("covisibility_share", pa.list_(pa.float32())),
        ("trajectories", pa.list_(TRAJECTORY)),
        ("figures", pa.string()),
        ("provenance", pa.string()),
    ],
)

TABLES: dict[str, pa.Schema] = {"frames": FRAMES, "clips": CLIPS}

Migration = Callable[[pa.Table], pa.Table]
MIGRATIONS: dict[tuple[str, int], Migration] = {}
"""(table, version) -> what makes a table of that version one of the next; read until up to date."""


def check_version(schema: pa.Schema, table: str, path: Any) -> int:
    """The version of a file's schema, if it can be read here.

    Raises:
        ShardError: not a shard file of this kind, of a newer version, or of one without migration.
    """
    metadata = schema.metadata or {}
    found = metadata.get(_TABLE_KEY, b"").decode()
    if found != table:
        what = f"a shard file of {found!r}" if found else "no SAGE shard"
        raise ShardError(f"{path} is {what}, not one of {table!r}", reason=Reason.UNSUPPORTED)
    version = int(metadata.get(_VERSION_KEY, b"0"))
    if version > SCHEMA_VERSION:
        raise ShardError(
            f"{path} has schema version {version}, this SAGE reads up to {SCHEMA_VERSION}: "
            "update SAGE, or assemble the clips again with this version",
            reason=Reason.UNSUPPORTED,
        )
    if any((table, v) not in MIGRATIONS for v in range(version, SCHEMA_VERSION)):
        raise ShardError(
            f"{path} has schema version {version}, for which there is no migration to "
            f"{SCHEMA_VERSION}: assemble the clips again",
            reason=Reason.UNSUPPORTED,
        )
    if version == SCHEMA_VERSION:
        _check_columns(schema, table, path)
    return version


def migrate(data: pa.Table, table: str, version: int) -> pa.Table:
    """A table read from a file of ``version``, with today's columns."""
    for step in range(version, SCHEMA_VERSION):
        data = MIGRATIONS[table, step](data)
    return data


def _check_columns(schema: pa.Schema, table: str, path: Any) -> None:
    for field in TABLES[table]:
        index = schema.get_field_index(field.name)
        if index < 0 or not schema.field(index).type.equals(field.type):
            kind = "is missing" if index < 0 else f"is of type {schema.field(index).type}"
            raise ShardError(f"{path}: column {field.name!r} {kind}, wanted {field.type}")
