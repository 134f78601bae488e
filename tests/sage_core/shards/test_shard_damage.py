"""Shards that are damaged, foreign, of another version or wrong are named."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sage_core.errors import ShardError
from sage_core.shards import (
    CLIPS,
    FRAMES,
    ShardReader,
    ShardWriter,
    _files,
)
from sage_core.shards import schema as shard_schema
from sage_core.shards.validate import validate
from sage_core.types import Reason


def test_nothing_there_has_a_name(tmp_path, shard):
    with pytest.raises(ShardError, match="empty list") as caught:
        ShardReader([])
    assert caught.value.reason is Reason.NO_DATA
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ShardError, match="sage assemble"):
        ShardReader([tmp_path / "nothing"])
    (shard / "clips-abc.parquet").unlink()
    with pytest.raises(ShardError, match="no shards"):
        ShardReader([shard])
    with pytest.raises(ShardError, match="pair of files"):
        ShardReader([shard / "frames-abc.parquet"])


def test_the_same_clip_in_two_shards_is_refused(shard, clips):
    with ShardWriter(shard, "def") as writer:
        writer.add(*clips[0])
    with pytest.raises(ShardError, match="is in both"):
        ShardReader([shard])
    assert validate([shard]) == []  # each of them is sound


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("name", ["frames-abc.parquet", "clips-abc.parquet"])
def test_a_truncated_file_is_an_error_with_a_name(shard, name, share):
    path = shard / name
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ShardError, match="truncated or damaged") as caught:
        ShardReader([shard])
    assert caught.value.reason is Reason.UNREADABLE
    assert len(validate([shard])) == 1


def test_flipped_bytes_never_crash_the_reader(shard):
    path = shard / "frames-abc.parquet"
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    for at in rng.integers(4, len(data) - 2000, 400):
        data[at] ^= int(rng.integers(1, 256))
    path.write_bytes(data)
    assert validate([shard])


def rewrite(path: Path, table: pa.Table, **metadata: str) -> None:
    merged = {**table.schema.metadata, **{k.encode(): v.encode() for k, v in metadata.items()}}
    groups = pq.ParquetFile(path).metadata
    sizes = [groups.row_group(g).num_rows for g in range(groups.num_row_groups)]
    with pq.ParquetWriter(path, table.schema.with_metadata(merged)) as writer:
        start = 0
        for size in sizes:
            writer.write_table(table.replace_schema_metadata(merged).slice(start, size))
            start += size


def test_a_newer_schema_is_refused_with_advice(shard):
    path = shard / "clips-abc.parquet"
    rewrite(path, pq.read_table(path), **{"sage.schema_version": "2"})
    with pytest.raises(ShardError, match="version 2, this SAGE reads up to 1: update"):
        ShardReader([shard])


def test_an_older_schema_is_brought_up_to_date_or_refused(shard, monkeypatch):
    path = shard / "frames-abc.parquet"
    old = pq.read_table(path).drop_columns(["sharpness"])
    rewrite(path, old, **{"sage.schema_version": "0"})
    with pytest.raises(ShardError, match="no migration"):
        ShardReader([shard])

    def add_sharpness(table):
        column = pa.array([1.5] * len(table), pa.float32())
        return table.append_column("sharpness", column)

    monkeypatch.setitem(shard_schema.MIGRATIONS, ("frames", 0), add_sharpness)
    frame = ShardReader([shard]).frames("v0_000000_000200", [5])[0]
    assert frame.sharpness == 1.5
    assert frame.pixels().shape == (64, 96, 3)


def test_other_parquet_and_missing_columns_are_refused(shard):
    path = shard / "frames-abc.parquet"
    pq.write_table(pa.table({"clip": ["x"]}), path)
    with pytest.raises(ShardError, match="no SAGE shard"):
        ShardReader([shard])
    short = FRAMES.remove(FRAMES.get_field_index("anchor_depth"))
    pq.write_table(short.empty_table(), path)
    with pytest.raises(ShardError, match="'anchor_depth' is missing"):
        ShardReader([shard])
    pq.write_table(CLIPS.empty_table(), path)
    with pytest.raises(ShardError, match="of 'clips', not one of 'frames'"):
        ShardReader([shard])


def broken(tmp_path, clips, **changes):
    info, frames, points = clips[1]
    frames = [replace(frames[0], **changes), *frames[1:]]
    poses = np.stack([f.cam_from_world for f in frames])
    with ShardWriter(tmp_path, "bad") as writer:
        writer.add(replace(info, cam_from_world=poses), frames, points)
    return tmp_path


def test_a_pose_that_is_not_finite_is_named(tmp_path, clips):
    pose = clips[1][1][0].cam_from_world.copy()
    pose[1, 2] = np.nan
    reader = ShardReader([broken(tmp_path, clips, cam_from_world=pose)])
    with pytest.raises(ShardError, match=r"frame 0 of clip v1_\S+ has a pose") as caught:
        reader.frames("v1_000000_000090", [0])
    assert caught.value.reason is Reason.NOT_FINITE
    with pytest.raises(ShardError, match="not finite"):
        reader.clip("v1_000000_000090")


def test_a_picture_that_is_no_jpeg_is_named(tmp_path, clips):
    reader = ShardReader([broken(tmp_path, clips, image=b"\x89PNG not a jpeg")])
    with pytest.raises(ShardError, match="is not a JPEG"):
        reader.frames("v1_000000_000090", [0])[0].pixels()
    assert [problem.frame for problem in validate([tmp_path])] == [0]


NAN = float("nan")


@pytest.mark.parametrize(
    ("column", "change", "message"),
    [
        ("cam_from_world", lambda values: values[:-1], "per-frame columns have different lengths"),
        ("cam_from_world", lambda values: [], "per-frame columns have different lengths"),
        ("frame", lambda values: values[:-1], "per-frame columns have different lengths"),
        ("time_s", lambda values: [NAN] * len(values), "times do not increase"),
        ("depth_median", lambda values: [NAN] * len(values), "median depth is not finite"),
        ("point_xyz", lambda values: values[:-1], "point columns have different lengths"),
        ("point_rgb", lambda values: [], "point columns have different lengths"),
        ("point_xyz", lambda values: [NAN] * len(values), "points are not finite"),
        ("covisibility_j", lambda values: [99] * len(values), "rows that are not there"),
        ("trajectories", lambda values: [{**t, "context": []} for t in values], "without views"),
        ("trajectories", lambda values: [{**t, "score": NAN} for t in values], "score"),
        ("figures", lambda text: "{", "figures are no JSON"),
        ("provenance", lambda text: "{", "provenance are no JSON"),
    ],
)
def test_validate_names_whatever_is_wrong_with_a_clips_row(shard, column, change, message):
    path = shard / "clips-abc.parquet"
    table = pq.read_table(path)
    at = table.schema.get_field_index(column)
    changed = [change(value) for value in table[column].to_pylist()]
    field = table.schema.field(at)
    rewrite(path, table.set_column(at, field, pa.array(changed, field.type)))
    assert any(message in str(problem) for problem in validate([shard]))


def test_validate_sees_mixed_up_conventions(tmp_path, clips):
    frame = clips[1][1][0]
    R, t = frame.cam_from_world[:, :3], frame.cam_from_world[:, 3:]
    camera_to_world = np.concatenate([R.T, -R.T @ t + 0.3], 1)
    half_pixel = frame.intrinsics - 0.5 * np.eye(3, k=2)
    mirrored = frame.cam_from_world * [-1, 1, 1, 1]
    without_angle = replace(frame.anchors, angle_deg=frame.anchors.angle_deg * np.float32(NAN))
    for name, change, message in [
        ("a", {"cam_from_world": camera_to_world}, "from where their points project to"),
        ("b", {"intrinsics": half_pixel}, "from where their points project to"),
        ("c", {"cam_from_world": mirrored}, "holds no rotation"),
        ("d", {"width": 95}, "its row says 95x64"),
        ("f", {"anchors": without_angle}, "angle that is not finite"),
        ("e", {"anchors": frame.anchors.select(np.array([0]))}, None),
    ]:
        problems = [str(p) for p in validate([broken(tmp_path / name, clips, **change)])]
        assert all("frame 0" in problem for problem in problems)
        assert any(message in problem for problem in problems) if message else not problems


def test_a_row_group_that_no_sage_writes_is_refused_unread(shard, monkeypatch):
    path = shard / "frames-abc.parquet"
    table = pq.read_table(path)
    many = pa.concat_tables([table] * 3)
    pq.write_table(many, path, row_group_size=len(many))
    with pytest.raises(ShardError, match="at most 64") as caught:
        ShardReader([shard])
    assert caught.value.reason is Reason.TOO_LARGE
    # Many anchors in a few bytes: all the same, so that a dictionary and runs hold them.
    monkeypatch.setattr(_files, "_MOST_GROUP_BYTES", 1 << 20)
    index = table.schema.get_field_index("anchor_track")
    values = pa.array(np.ones(1 << 20, np.int32))
    column = pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values)
    pq.write_table(table.slice(0, 1).set_column(index, table.schema.field(index), column), path)
    assert path.stat().st_size < 1 << 16
    with pytest.raises(ShardError, match="at most 64"):
        ShardReader([shard])
