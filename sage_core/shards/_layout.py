"""Where the columns of a frames file lie, so that it need not be opened by Arrow again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sage_core.shards._pages import CODECS, Chunk


@dataclass(frozen=True)
class GroupLayout:
    """One row group: its clip, its rows, and where its columns lie."""

    clip: str
    rows: int
    chunks: dict[str, Chunk]


@dataclass(frozen=True)
class Layout:
    """All row groups of a file, in 16 bytes a column."""

    columns: tuple[str, ...]
    codecs: tuple[pa.Codec | None, ...]
    clips: tuple[str, ...]
    rows: tuple[int, ...]
    places: NDArray[np.int64]
    """[groups, columns, 2], first byte and the one after the last."""

    def group(self, number: int) -> GroupLayout:
        """One row group's."""
        firsts, ends = self.places[number].T.tolist()
        chunks = dict(zip(self.columns, zip(firsts, ends, self.codecs, strict=True), strict=True))
        return GroupLayout(self.clips[number], self.rows[number], chunks)


def layout(file: pq.ParquetFile) -> Layout | None:
    """The layout of a file with the columns of ``frames``, or None if SAGE packs them otherwise."""
    meta, names = file.metadata, tuple(file.schema_arrow.names)
    if meta.num_columns != len(names) or not meta.num_row_groups:
        return None
    groups = [meta.row_group(number) for number in range(meta.num_row_groups)]
    columns = [[group.column(c) for c in range(len(names))] for group in groups]
    packings = {tuple(column.compression for column in group) for group in columns}
    clips = [_only(group[names.index("clip")].statistics) for group in columns]
    if len(packings) > 1 or not set(*packings) <= CODECS.keys() or None in clips:
        return None
    places = [
        [(c.data_page_offset, c.data_page_offset + c.total_compressed_size) for c in group]
        for group in columns
    ]
    return Layout(
        names,
        tuple(CODECS[packing] for packing in packings.pop()),
        tuple(clip for clip in clips if clip is not None),
        tuple(group.num_rows for group in groups),
        np.array(places, np.int64),
    )


def _only(statistics: Any) -> str | None:
    """The one value of a column of texts."""
    if statistics is None or statistics.min != statistics.max:
        return None
    return str(statistics.min)
