"""The reader's promises: little is read, little is kept, and threads do not mind each other."""

import pickle
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from shard_scene import make_clip

from sage_core.errors import ShardError
from sage_core.shards import (
    ShardReader,
    ShardWriter,
    _files,
    read,
)
from sage_core.shards._files import FILES, GROUP_BYTES, OPEN_FILES
from sage_core.shards._frames import FrameGroup


def test_readers_survive_pickling_and_find_shards_by_either_file(shard):
    reader = pickle.loads(pickle.dumps(ShardReader([shard / "clips-abc.parquet"])))
    assert len(reader.frames("v0_000000_000200", [1, 20])) == 2
    assert reader.n_frames("v0_000000_000200") == 21
    with pytest.raises(ShardError, match="rows 0 to 20"):
        reader.frames("v0_000000_000200", [21])
    with pytest.raises(ShardError, match="no clip 'nobody'"):
        reader.frames("nobody", [0])


@pytest.fixture
def groups_read(monkeypatch):
    """The first bytes of the row groups that are read from now on."""
    FILES.forget()
    read = []
    original = FrameGroup.of_pages

    def counted(file, layout, **options):
        read.append(layout.chunks["image"][0])
        return original(file, layout, **options)

    monkeypatch.setattr(FrameGroup, "of_pages", counted)
    return read


def test_a_sample_reads_only_its_own_row_groups(shard, groups_read):
    ShardReader([shard]).frames("v0_000000_000200", [8, 15, 9])
    assert len(groups_read) == 1


def test_samples_of_one_clip_in_a_row_read_a_row_group_once(shard, clips, groups_read):
    """However many readers and threads: the process has the row groups that were read last."""
    readers = [ShardReader([shard]) for _ in range(2)]
    rows = [[8, 15, 9], [1, 12], [14], [0, 10]]
    with ThreadPoolExecutor(4) as pool:
        jobs = [
            pool.submit(readers[k % 2].frames, "v0_000000_000200", wanted)
            for k, wanted in enumerate(rows * 3)
        ]
        found = [job.result() for job in jobs]
    assert len(groups_read) == len(set(groups_read)) == 2
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


class Meddled(OrderedDict):
    """Before an entry is moved to the end, another thread does something, if it is let."""

    meanwhile = None

    def move_to_end(self, key, last=True):
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            other = threading.Thread(target=meanwhile)
            other.start()
            other.join(timeout=0.5)  # it waits for this thread where they keep apart
        super().move_to_end(key, last)


def test_threads_do_not_push_out_the_clip_that_another_looks_at(shard, monkeypatch):
    monkeypatch.setattr(read, "_CACHED_CLIPS", 1)
    reader = ShardReader([shard])
    first, second = reader.names
    reader._clips = Meddled()
    for _ in range(2):  # it is read, then found in memory
        reader._clips.meanwhile = lambda: reader.clip(second)
        assert reader.clip(first).clip == first
        assert reader._clips.meanwhile is None
    assert reader.clip(second).clip == second


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
