"""Shards as files: what is written comes back, and half a shard never appears."""

import signal
import subprocess
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from sage_core.errors import ShardError
from sage_core.shards import (
    ShardReader,
    ShardWriter,
    join_shards,
)
from sage_core.shards.inspect import anchor_picture, draw_frame, inspect
from sage_core.shards.validate import validate


def test_a_shard_gives_back_what_was_written(shard, clips):
    reader = ShardReader([shard])
    assert reader.names == ["v0_000000_000200", "v1_000000_000090"]
    for info, frames, points in clips:
        found = reader.clip(info.clip)
        assert (found.video, found.source, found.ordered) == (info.video, info.source, True)
        assert found.trajectories == [
            replace(
                t,
                **{
                    k: pytest.approx(getattr(t, k))
                    for k in ("overlap", "parallax", "score", "span_s")
                },
            )
            for t in info.trajectories
        ]
        assert found.figures == info.figures
        assert found.provenance == info.provenance
        for name in ("frames", "times_s", "sharpness", "depth_median", "cam_from_world"):
            np.testing.assert_array_equal(getattr(found, name), getattr(info, name))
        n = info.n_frames
        np.testing.assert_array_equal(found.covisibility.matrix(n), info.covisibility.matrix(n))
        np.testing.assert_array_equal(reader.points(info.clip).xyz, points.xyz)
        rows = [n - 1, 0, 3, n // 2]
        for row, record in zip(rows, reader.frames(info.clip, rows), strict=True):
            wanted = frames[row]
            assert record.image == wanted.image
            assert (record.frame, record.time_s, record.key) == (
                wanted.frame,
                wanted.time_s,
                wanted.key,
            )
            np.testing.assert_array_equal(record.intrinsics, wanted.intrinsics)
            np.testing.assert_array_equal(record.cam_from_world, wanted.cam_from_world)
            for name in ("xy", "depth", "point", "error_px", "track", "angle_deg"):
                np.testing.assert_array_equal(
                    getattr(record.anchors, name), getattr(wanted.anchors, name)
                )
            assert record.pixels().shape == (64, 96, 3)
    assert validate([shard]) == []


def test_row_groups_are_small_hold_one_clip_and_pictures_are_stored_as_they_are(shard):
    meta = pq.ParquetFile(shard / "frames-abc.parquet").metadata
    groups = [meta.row_group(g) for g in range(meta.num_row_groups)]
    assert [g.num_rows for g in groups] == [8, 8, 5, 8, 1]
    by_name = {groups[0].column(c).path_in_schema: groups[0].column(c) for c in range(16)}
    assert by_name["image"].compression == "UNCOMPRESSED"
    assert by_name["anchor_xy.list.element"].compression == "LZ4"
    assert by_name["clip"].statistics.min == by_name["clip"].statistics.max


def test_files_are_the_same_bytes_every_time(shard, clips, tmp_path):
    again = tmp_path / "again"
    with ShardWriter(again, "abc", row_group_frames=8) as writer:
        for clip in clips:
            writer.add(*clip)
    for name in ("frames-abc.parquet", "clips-abc.parquet"):
        assert (again / name).read_bytes() == (shard / name).read_bytes()


def test_joined_parts_equal_one_shard(shard, clips, tmp_path):
    parts = []
    for index, clip in enumerate(clips):
        folder = tmp_path / "parts" / str(index)
        with ShardWriter(folder, "part", row_group_frames=8) as writer:
            writer.add(*clip)
        parts.append((folder, "part"))
    join_shards(parts, tmp_path / "joined", "abc")
    for name in ("frames-abc.parquet", "clips-abc.parquet"):
        assert pq.read_table(tmp_path / "joined" / name).equals(pq.read_table(shard / name))
    assert validate([tmp_path / "joined"]) == []


def test_an_error_while_writing_leaves_nothing(tmp_path, clips):
    info, frames, points = clips[0]

    def write_half():
        with ShardWriter(tmp_path, "half") as writer:
            writer.add(info, frames, points)
            writer.add(info, frames[1:], points)

    with pytest.raises(ShardError, match="other frames"):
        write_half()
    assert list(tmp_path.iterdir()) == []


def test_a_kill_while_writing_leaves_nothing_to_be_read(tmp_path):
    script = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from rich.console import Console
from shard_scene import make_clip
from sage_core.shards import ShardWriter
with ShardWriter(Path({str(tmp_path)!r}), "dead") as writer:
    writer.add(*make_clip(n=12))
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == -signal.SIGKILL
    assert list(tmp_path.glob("*.parquet")) == []
    with pytest.raises(ShardError, match="no shards"):
        ShardReader([tmp_path])


def test_anchors_follow_a_crop_and_can_be_held_to_a_standard(clips):
    from sage_core.geometry import PixelMap

    anchors = clips[0][1][3].anchors
    moved = anchors.mapped(PixelMap.crop(10, 5, 40, 30))
    assert 0 < len(moved) < len(anchors)
    assert (moved.xy >= 0).all()
    assert (moved.xy < (40, 30)).all()
    kept = anchors.reliable()
    assert 0 < len(kept) < len(anchors)
    assert kept.error_px.max() <= 1
    assert kept.track.min() >= 4
    assert kept.angle_deg.min() >= 5


def test_inspect_shows_clips_and_draws_anchors(shard, tmp_path):
    import cv2

    reader = ShardReader([shard])
    console = Console(width=200, record=True, file=StringIO())
    inspect([shard], draw=tmp_path / "middle.jpg", console=console)
    text = console.export_text()
    assert "shard abc: 2 clips, 30 frames" in text
    narrow = Console(width=72, record=True, file=StringIO())
    inspect([shard], draw=None, console=narrow)
    assert "…" not in narrow.export_text()
    assert "v1_000000_000090" in text
    assert (tmp_path / "middle.jpg").stat().st_size > 1000
    frame = reader.frames("v0_000000_000200", [3])[0]
    changed = (anchor_picture(frame) != frame.pixels()).any(-1)
    x, y = np.floor(frame.anchors.xy).astype(int).T
    assert changed[y, x].mean() > 0.95
    draw_frame(reader, "v0_000000_000200", 3, tmp_path / "out" / "frame.jpg")
    assert cv2.imread(str(tmp_path / "out" / "frame.jpg")).shape == (64, 96, 3)


def test_shards_can_be_read_without_sage(shard):
    duckdb = pytest.importorskip("duckdb")
    frames = duckdb.sql(
        f"SELECT clip, count(*), avg(len(anchor_depth)) FROM '{shard}/frames-*.parquet' "
        "GROUP BY clip ORDER BY clip"
    ).fetchall()
    assert [(clip, n) for clip, n, _ in frames] == [
        ("v0_000000_000200", 21),
        ("v1_000000_000090", 9),
    ]
    assert all(anchors > 10 for *_, anchors in frames)
    drawn = duckdb.sql(
        f"SELECT t.mode, t.context FROM (SELECT unnest(trajectories) AS t "
        f"FROM '{shard}/clips-*.parquet')"
    ).fetchall()
    assert drawn == [("perturbed", [0, 4, 8])]
    pandas = pytest.importorskip("pandas")
    clips = pandas.read_parquet(shard / "clips-abc.parquet", columns=["clip", "n_frames"])
    assert clips["n_frames"].tolist() == [21, 9]
