"""Each benchmark at toy size: what it measures here says nothing, but it must run and say it all."""

import json

import pytest

from benchmarks import chamfer, masks, rasteriser, reader, starts
from sage_core.types import Reason


def rows(capsys, main, out, *options):
    main([*options, "--json", str(out)])
    record = json.loads(out.read_text())
    assert record["title"] in capsys.readouterr().out.replace("\n", " ")
    assert record["machine"]["cores"] > 0
    return record["rows"], record


def test_rasteriser(capsys, tmp_path):
    small = ("--views", "2", "--side", "24", "--threads", "2", "--rounds", "2")
    found, record = rows(capsys, rasteriser.main, tmp_path / "out.json", *small)
    names = [row["rasteriser"] for row in found]
    assert names[:6] == ["torch, 8 px", "torch, 16 px", "numba", "numba", "numba", "numba"]
    assert [row["threads"] for row in found[2:4]] == [1, 2]
    assert [row["Gaussians"] for row in found[3:6]] == [1152, 2304, 4608]
    assert all(row["both s"] > row["forward s"] > 0 for row in found)
    assert record["numba_times_torch"] > 0


def test_rasteriser_contestants_draw_the_same():
    scene = rasteriser.wavy_scene(2, 24, 2)
    drawn = [
        draw(*scene.gaussians, scene.cameras, scene.intrinsics, 24, 24)
        for draw in (rasteriser.ours(), rasteriser.tiled(8), rasteriser.tiled(16))
    ]
    assert drawn[0][1].mean() > 0.5
    for image, alpha, depth in drawn[1:]:
        for a, b in zip((image, alpha, depth), drawn[0], strict=True):
            assert (a - b).abs().mean() < 1e-4


def test_chamfer(capsys, tmp_path):
    small = ("--views", "2", "--size", "16", "--rounds", "1")
    found, record = rows(capsys, chamfer.main, tmp_path / "out.json", *small)
    assert next(row["nearest neighbours"] for row in found) == "plain, 1 thread"
    assert record["points"] == 512
    assert all(row["CPU, share of plain"] > 0 for row in found)


def test_reader(capsys, tmp_path):
    small = (
        "--width", "64", "--height", "48", "--clips", "2", "--frames", "70", "--anchors", "20",
        "--samples", "16", "--rounds", "2",
    )  # fmt: skip
    found, record = rows(capsys, reader.main, tmp_path / "out.json", *small)
    assert [row["from"] for row in found][:4] == [
        "memory", "our shards, 1 per visit", "our shards, 4 per visit", "our shards, 16 per visit",
    ]  # fmt: skip
    assert found[0]["share"] == 1
    assert [row["samples per row group"] for row in found[:2]] == [None, 1]
    assert found[3]["samples per row group"] > found[2]["samples per row group"] > 1
    assert all(row["samples/s"] > 0 for row in found)
    if record["webdataset"] == "measured":
        assert found[-1]["from"] == "WebDataset, in order"


@pytest.mark.parametrize("per_visit", [1, 4])
def test_reader_reads_what_it_says(tmp_path, per_visit):
    """The shards give back the very pictures that decoding from memory gives."""
    options = reader._options(["--width", "64", "--height", "48", "--clips", "2", "--frames", "70"])
    clips = reader._write_shard(tmp_path, options)
    shards = reader.ShardReader([tmp_path])
    plan = reader._plan(shards, per_visit, options)
    pairs = zip(
        reader._decoding(plan, clips).read(), reader._ours(shards, plan, 1).read(), strict=True
    )
    assert all((a == b).all() for a, b in pairs)


@pytest.mark.slow
def test_starts(capsys, tmp_path):
    found, _ = rows(capsys, starts.main, tmp_path / "out.json", "--rounds", "1")
    assert [row["child"] for row in found] == ["acquire", "curate", "reconstruct", "assemble"]
    assert all(row["forked"] > 0 and row["started"] > 0 for row in found)


def test_masks(capsys, tmp_path):
    small = ("--only", "two movers, logo", "--frames", "24", "--size", "320", "240")
    found, _ = rows(capsys, masks.main, tmp_path / "out.json", *small)
    assert [row["masks"] for row in found] == ["off", "on"]
    assert all(row["verdict"] in ("accepted", *Reason) for row in found)
