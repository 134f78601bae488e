"""Parquet and text from strangers: wrong schemas and types, few bytes that stand for many rows."""

import datetime
import struct

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sage_core.acquisition.lists import read_list
from sage_core.acquisition.sources import SourceKind, expand
from sage_core.errors import SourceError
from sage_core.video.mp4 import read_mp4_header


def written(file, **columns):
    pq.write_table(pa.table(columns), file)
    return file


def test_a_list_in_parquet_is_read(tmp_path):
    file = written(
        tmp_path / "l.parquet", URL=["https://e.org/1", None], start_s=[1, 2], other=[b"", b""]
    )
    (listed,) = read_list(file)
    assert listed.source == "https://e.org/1"


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"link_to": ["https://e.org"]}, "no column of sources"),
        ({"url": ["https://e.org"], "start_s": ["soon"]}, "must be seconds"),
        ({"url": ["https://e.org"], "start_s": [[1.0]]}, "must be seconds"),
        ({"url": ["https://e.org"], "start_s": [datetime.datetime(2026, 1, 1)]}, "must be seconds"),
        ({"url": ["https://e.org"], "start_s": [float("nan")]}, "is not before"),
    ],
)
def test_wrong_schemas_and_types_are_named(tmp_path, columns, words):
    with pytest.raises(SourceError, match=words):
        read_list(written(tmp_path / "l.parquet", **columns))


def test_sources_of_odd_types_become_items_with_a_problem(tmp_path):
    file = written(tmp_path / "l.parquet", url=[{"a": 1}])
    assert [i.kind for i in expand([str(file)], lambda _url: None)] == [SourceKind.BAD]
    file = written(tmp_path / "b.parquet", path=[b"\xff\x00/etc/passwd"])
    assert [i.kind for i in expand([str(file)], lambda _url: None)] == [SourceKind.BAD]


def test_few_bytes_that_stand_for_many_rows_are_refused(tmp_path):
    one = pa.array(["https://e.org/" + "x" * 1000]).dictionary_encode()
    many = pa.DictionaryArray.from_arrays(pa.array([0] * 1_000_001, pa.int8()), one.dictionary)
    file = written(tmp_path / "l.parquet", url=many)
    assert file.stat().st_size < 200_000
    with pytest.raises(SourceError, match="1000001 rows"):
        read_list(file)


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" + bytes(100) + b"PAR1", b"x" * 5000])
def test_what_is_no_parquet_is_named(tmp_path, data):
    (tmp_path / "l.parquet").write_bytes(data)
    with pytest.raises(SourceError, match="no list of sources"):
        read_list(tmp_path / "l.parquet")


def box(kind, body=b"", size=None):
    return struct.pack(">I4s", len(body) + 8 if size is None else size, kind) + body


def test_an_mp4_header_that_lies_is_read_to_its_end(tmp_path):
    file = tmp_path / "x.mp4"
    deep = b""
    for _ in range(20_000):
        deep = box(b"trak", deep)
    claims = box(b"mvhd", bytes(12) + struct.pack(">II", 1, 5) + bytes(80))
    tracks = b"".join(
        box(b"trak", box(b"tkhd", bytes(12) + struct.pack(">III", n, 0, 5) + bytes(60)))
        for n in range(3000)
    )
    endless = struct.pack(">I4sQ", 1, b"mdat", 2**64 - 1)
    for data in (deep, box(b"moov", claims + tracks), endless, box(b"mdat", size=2**32 - 1)):
        file.write_bytes(box(b"ftyp", b"isom") + data)
        header = read_mp4_header(file)
        assert len(header.claims_s) <= 64
    assert header.missing_bytes > 2**31
