"""Pages read without Arrow hold what Arrow reads from them; what SAGE did not write is left to Arrow."""

import os
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shard_scene import HEIGHT, WIDTH, make_clip

from sage_core.errors import ShardError
from sage_core.shards import Anchors, ShardReader, ShardWriter, encode_mask, join_shards, write
from sage_core.shards._files import FILES
from sage_core.shards._frames import FrameGroup
from sage_core.shards._layout import layout
from sage_core.shards._pages import CODECS, Span
from sage_core.types import Reason

NAME = "v0_000000_000200"
MEASURES = ("point", "error_px", "track", "angle_deg")


def equal(found, wanted):
    assert found.image == wanted.image
    assert found.mask == wanted.mask
    for name in ("clip", "frame", "time_s", "width", "height", "key", "sharpness"):
        assert getattr(found, name) == getattr(wanted, name)
        assert type(getattr(found, name)) is type(getattr(wanted, name))
    np.testing.assert_array_equal(found.intrinsics, wanted.intrinsics)
    np.testing.assert_array_equal(found.cam_from_world, wanted.cam_from_world)
    for name in ("xy", "depth", *MEASURES):
        mine, theirs = getattr(found.anchors, name), getattr(wanted.anchors, name)
        assert mine.dtype == theirs.dtype
        np.testing.assert_array_equal(mine, theirs)


def all_alike(path):
    """Every frame of a file, by pages and by Arrow; returns how many row groups there were."""
    file = pq.ParquetFile(path)
    found = layout(file)
    handle = os.open(path, os.O_RDONLY)
    try:
        for number in range(file.num_row_groups):
            ours = FrameGroup.of_pages(handle, found.group(number), measures=True)
            arrows = FrameGroup.of_table(file.read_row_group(number))
            for row in reversed(range(found.rows[number])):
                equal(ours.frame(row, handle), arrows.frame(row, handle))
                equal(ours.frame(row, handle), arrows.frame(row, handle))  # checked by now
    finally:
        os.close(handle)
    return file.num_row_groups


@pytest.mark.parametrize("page_bytes", [1 << 8, 1 << 12, 1 << 16, 1 << 20])
@pytest.mark.parametrize("masks", [False, True])
def test_pages_of_any_size_hold_what_arrow_reads(tmp_path, monkeypatch, page_bytes, masks):
    """From a page for each value to one for all; the last is how shards used to be written."""
    monkeypatch.setattr(write, "_PAGE_BYTES", page_bytes)
    info, frames, points = make_clip(n=13)
    if masks:
        mask = encode_mask(np.eye(HEIGHT, WIDTH, dtype=bool))
        frames = [replace(f, mask=mask if k % 3 == 1 else None) for k, f in enumerate(frames)]
    with ShardWriter(tmp_path, "x", row_group_frames=8, masks=masks) as writer:
        writer.add(info, frames, points)
    assert all_alike(tmp_path / "frames-x.parquet") == 2


def test_joined_shards_are_read_by_page_too(shard, tmp_path):
    join_shards([(shard, "abc")], tmp_path / "joined", "abc")
    assert all_alike(tmp_path / "joined" / "frames-abc.parquet") == 5


@given(
    lengths=st.lists(st.integers(1, 70), min_size=1, max_size=40),
    page_bytes=st.sampled_from([64, 1 << 20]),
)
def test_lists_of_any_length_are_understood(tmp_path_factory, lengths, page_bytes):
    path = tmp_path_factory.mktemp("lists") / "lists.parquet"
    schema = pa.schema([pa.field("list", pa.list_(pa.int64()), nullable=False)])
    table = pa.table({"list": [list(range(n)) for n in lengths]}, schema)
    options = {"compression": "lz4", "use_dictionary": False, "write_statistics": False}
    pages = {"data_page_size": page_bytes, "write_batch_size": 8, "write_page_checksum": True}
    pq.write_table(table, path, **options, **pages)
    column = pq.read_metadata(path).row_group(0).column(0)
    start, end = column.data_page_offset, column.data_page_offset + column.total_compressed_size
    with path.open("rb") as file:
        ends, values = Span(file.fileno(), start, end).lists(
            (start, end, CODECS["LZ4"]), np.dtype(np.int64)
        )
    assert ends == (0, *np.cumsum(lengths).tolist())
    np.testing.assert_array_equal(values, np.concatenate([np.arange(n) for n in lengths]))


def test_a_file_that_others_wrote_reads_the_same(shard, clips):
    path = shard / "frames-abc.parquet"
    table = pq.read_table(path)
    with pq.ParquetWriter(path, table.schema, compression="snappy") as writer:
        for start, size in ((0, 8), (8, 8), (16, 5), (21, 8), (29, 1)):
            writer.write_table(table.slice(start, size))
    assert layout(pq.ParquetFile(path)) is None
    reader = ShardReader([shard])
    for info, frames, _ in clips:
        for found, wanted in zip(reader.frames(info, range(len(frames))), frames, strict=True):
            equal(found, wanted)


def test_a_frame_without_anchors_is_read_by_arrow(tmp_path, clips):
    """An empty list has levels of its own; such a row group is rare, since assemble drops such frames."""
    info, frames, points = clips[0]
    bare = replace(frames[4], anchors=frames[4].anchors.select(np.zeros(0, int)))
    with ShardWriter(tmp_path, "x", row_group_frames=8) as writer:
        writer.add(info, [*frames[:4], bare, *frames[5:]], points)
    found = ShardReader([tmp_path]).frames(NAME, [3, 4, 9], measures=False)
    assert len(found[1].anchors) == 0
    equal(found[0], frames[3])
    assert found[2].image == frames[9].image


def test_only_pictures_that_are_wanted_are_read(tmp_path, monkeypatch):
    info, frames, points = make_clip(n=16)
    rng = np.random.default_rng(0)
    big = [replace(f, image=b"\xff\xd8" + rng.bytes(70_000)) for f in frames]
    with ShardWriter(tmp_path, "x") as writer:
        writer.add(info, big, points)
    reader = ShardReader([tmp_path])
    FILES.forget()
    read = []
    original = os.pread
    monkeypatch.setattr(os, "pread", lambda *a: read.append(data := original(*a)) or data)
    (found,) = reader.frames(NAME, [9], measures=False)
    assert found.image == big[9].image
    assert sum(map(len, read)) < 70_000 + 60_000


def test_a_flipped_bit_in_a_picture_or_in_numbers_is_found(shard, clips):
    path = shard / "frames-abc.parquet"
    whole = path.read_bytes()
    group = layout(pq.ParquetFile(path)).group(0)
    picture = whole.index(clips[0][1][3].image) + 200
    for at in (
        picture,
        *(group.chunks[name][1] - 2 for name in ("cam_from_world", "anchor_depth")),
    ):
        damaged = bytearray(whole)
        damaged[at] ^= 4
        path.write_bytes(damaged)
        with pytest.raises(
            ShardError, match=r"frames-abc.parquet is truncated or damaged"
        ) as caught:
            ShardReader([shard]).frames(NAME, [3], measures=False)
        assert caught.value.reason is Reason.UNREADABLE


def test_anchors_without_their_measures_say_so(shard):
    reader = ShardReader([shard])
    FILES.forget()
    (bare,) = reader.frames(NAME, [5], measures=False)
    (full,) = reader.frames(NAME, [5])  # the row group in memory has none
    np.testing.assert_array_equal(bare.anchors.xy, full.anchors.xy)
    np.testing.assert_array_equal(bare.anchors.depth, full.anchors.depth)
    assert isinstance(bare.anchors.select(np.array([0, 2])), Anchors)
    assert np.isnan(bare.anchors.error_px).all()
    with pytest.raises(ValueError, match="measures=True"):
        bare.anchors.reliable()
    assert len(full.anchors.reliable()) > 0
