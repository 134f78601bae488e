"""Masks are a further column: shards with it and without it are read alike."""

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from shard_scene import HEIGHT, WIDTH, make_clip

from sage_core.errors import ShardError
from sage_core.shards import ShardReader, ShardWriter, encode_mask, join_shards
from sage_core.shards.validate import validate

MASKED = np.zeros((HEIGHT, WIDTH), bool)
MASKED[10:30, 5:50] = True


def write(folder, shard, name, masks):
    info, frames, points = make_clip(name, n=9)
    if masks:
        frames = [replace(frames[0], mask=encode_mask(MASKED)), *frames[1:]]
    with ShardWriter(folder, shard, masks=masks) as writer:
        writer.add(info, frames, points)
    return info


def test_masks_come_back_and_their_absence_too(tmp_path):
    info = write(tmp_path, "with", "v0_0", masks=True)
    first, second = ShardReader([tmp_path]).frames(info.clip, [0, 1])
    np.testing.assert_array_equal(first.masked(), MASKED)
    assert second.masked() is None
    assert validate([tmp_path]) == []


def test_shards_without_the_column_are_the_same_as_ever(tmp_path):
    info = write(tmp_path, "without", "v0_0", masks=False)
    assert "mask" not in pq.read_schema(tmp_path / "frames-without.parquet").names
    assert ShardReader([tmp_path]).frames(info.clip, [0])[0].masked() is None


def test_joined_shards_keep_the_masks_of_those_that_have_them(tmp_path):
    for masks in (True, False):
        write(tmp_path / "parts", f"part{masks:d}", f"v{masks:d}_0", masks)
    join_shards([(tmp_path / "parts", f"part{k}") for k in (0, 1)], tmp_path / "all", "joined")
    reader = ShardReader([tmp_path / "all"])
    assert reader.frames("v0_0", [0])[0].masked() is None
    assert reader.frames("v1_0", [0])[0].masked().sum() == MASKED.sum()
    assert validate([tmp_path / "all"]) == []


@pytest.mark.parametrize(
    ("mask", "found"), [(b"no picture", "no picture"), (encode_mask(MASKED[:-1]), "96x63")]
)
def test_a_mask_that_does_not_fit_is_named(tmp_path, mask, found):
    info, frames, points = make_clip("v0_0", n=9)
    frames = [replace(frames[0], mask=mask), *frames[1:]]
    with ShardWriter(tmp_path, "bad", masks=True) as writer:
        writer.add(info, frames, points)
    with pytest.raises(ShardError, match=f"mask of frame 0 of clip v0_0 is {found}"):
        ShardReader([tmp_path]).frames(info.clip, [0])[0].masked()
    assert "mask" in str(validate([tmp_path])[0])
