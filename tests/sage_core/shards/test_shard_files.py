import pickle
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from shard_scene import make_clip

from sage_core.errors import ShardError
from sage_core.shards import (
    CLIPS,
    FRAMES,
    ShardReader,
    ShardWriter,
    Trajectory,
    _files,
    join_shards,
    read,
)
from sage_core.shards import schema as shard_schema
from sage_core.shards._files import FILES, GROUP_BYTES, OPEN_FILES
from sage_core.shards.inspect import anchor_picture, draw_frame, inspect
from sage_core.shards.validate import validate
from sage_core.types import Reason


@pytest.fixture(scope="module")
def clips():
    trajectory = Trajectory([0, 4, 8], [2, 6], "perturbed", 0.5, 0.1, 1.0, 1.3, 0.7)
    first, *rest = make_clip("v0_000000_000200", n=21)
    return [
        (replace(first, trajectories=[trajectory]), *rest),
        make_clip("v1_000000_000090", n=9, seed=1),
    ]


@pytest.fixture
def shard(tmp_path, clips):
    with ShardWriter(tmp_path, "abc", row_group_frames=8) as writer:
        for clip in clips:
            writer.add(*clip)
    return tmp_path


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


def test_readers_survive_pickling_and_find_shards_by_either_file(shard):
    reader = pickle.loads(pickle.dumps(ShardReader([shard / "clips-abc.parquet"])))
    assert len(reader.frames("v0_000000_000200", [1, 20])) == 2
    assert reader.n_frames("v0_000000_000200") == 21
    with pytest.raises(ShardError, match="rows 0 to 20"):
        reader.frames("v0_000000_000200", [21])
    with pytest.raises(ShardError, match="no clip 'nobody'"):
        reader.frames("nobody", [0])


def test_a_sample_reads_only_its_own_row_groups(shard, monkeypatch):
    reader = ShardReader([shard])
    read = []
    original = pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile,
        "read_row_group",
        lambda self, group, **kw: read.append(group) or original(self, group, **kw),
    )
    reader.frames("v0_000000_000200", [8, 15, 9])
    assert read == [1]


def test_samples_of_one_clip_in_a_row_read_a_row_group_once(shard, clips, monkeypatch):
    """However many readers and threads: the process has the row groups that were read last."""
    FILES.forget()
    read = []
    original = pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile,
        "read_row_group",
        lambda self, group, **kw: read.append(group) or original(self, group, **kw),
    )
    readers = [ShardReader([shard]) for _ in range(2)]
    read.clear()
    rows = [[8, 15, 9], [1, 12], [14], [0, 10]]
    with ThreadPoolExecutor(4) as pool:
        jobs = [
            pool.submit(readers[k % 2].frames, "v0_000000_000200", wanted)
            for k, wanted in enumerate(rows * 3)
        ]
        found = [job.result() for job in jobs]
    assert sorted(read) == [0, 1]
    for wanted, frames in zip(rows * 3, found, strict=True):
        assert [f.image for f in frames] == [clips[0][1][row].image for row in wanted]


def test_a_file_that_was_replaced_is_read_anew(shard, clips, tmp_path):
    reader = ShardReader([shard])
    (before,) = reader.frames("v1_000000_000090", [4])
    info, frames, points = clips[1]
    other = [replace(frame, sharpness=7.0) for frame in frames]
    with ShardWriter(tmp_path / "new", "abc", row_group_frames=8) as writer:
        writer.add(*clips[0])
        writer.add(info, other, points)
    for path in (tmp_path / "new").glob("*.parquet"):
        path.replace(shard / path.name)
    (after,) = reader.frames("v1_000000_000090", [4])
    assert (before.sharpness, after.sharpness) == (50.0, 7.0)


def test_memory_and_open_files_stay_flat_however_many_shards(tmp_path):
    """200 shards read through and through hold as many files, and as many bytes of frames, as 1."""
    info, frames, points = make_clip(n=12)
    for number in range(200):
        name = f"v{number}_000000_000060"
        named = [replace(frame, clip=name) for frame in frames]
        with ShardWriter(tmp_path, f"{number:04d}") as writer:
            writer.add(replace(info, clip=name), named, points)
    held = []
    for count in (1, 200):
        names = [f"{number:04d}" for number in range(count)]
        reader = ShardReader([tmp_path / f"clips-{name}.parquet" for name in names])
        for clip in reader.names:
            reader.clip(clip)
            reader.frames(clip, [0, 11])
        held.append(len(list(Path("/proc/self/fd").iterdir())))
    assert held[1] - held[0] <= OPEN_FILES
    assert FILES.size <= GROUP_BYTES


def test_threads_share_the_clips_in_memory_of_one_reader(tmp_path, monkeypatch):
    """With room for one clip only, threads push each other's out all the time."""
    monkeypatch.setattr(read, "_CACHED_CLIPS", 1)
    info, frames, points = make_clip(n=12)
    names = [f"v{number}_000000_000060" for number in range(6)]
    with ShardWriter(tmp_path, "many") as writer:
        for name in names:
            named = [replace(frame, clip=name) for frame in frames]
            writer.add(replace(info, clip=name), named, points)
    reader, before = ShardReader([tmp_path]), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda name: reader.clip(name).clip, names * 300))
    finally:
        sys.setswitchinterval(before)
    assert found == names * 300


def test_row_groups_in_memory_are_bounded(shard, monkeypatch):
    FILES.forget()
    reader = ShardReader([shard])
    reader.frames("v0_000000_000200", [0])
    one = FILES.size
    assert one > 10_000
    monkeypatch.setattr(_files, "GROUP_BYTES", 2 * one)
    for rows in ([8], [16], [0], [8], [20]):
        reader.frames("v0_000000_000200", rows)
        assert FILES.size <= 2 * one
    FILES.forget()
    assert FILES.size == 0


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
