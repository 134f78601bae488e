"""`sage replay`: the same code says the same of saved inputs, other settings do not; nothing is written."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

sys.path.append(str(Path(__file__).parents[1] / "sage_core" / "assembly"))
import glide

from data_catalog import StageEvent, Workspace
from data_catalog._objects import Objects
from flows.cli import app
from sage_core.acquisition.hosts import HostGate
from sage_core.config import load_config
from sage_core.types import Stage
from sage_core.video.ffmpeg import ffmpeg_exe
from tasks.acquire import Contents, fetch_item, find_items, record_item
from tasks.assemble import assemble_shard
from tasks.curate import curate_video
from tasks.replay import _frame_lists, replay, sample

SET = [
    *("curate.min_duration_s=2", "curate.min_clip_s=2", "curate.min_short_side_px=100"),
    *("assemble.long_side_px=160", "assemble.candidates=4", "assemble.anchors.min_angle_deg=2"),
    *("assemble.sampling.interval_frames=6", "assemble.sampling.jitter_frames=2"),
]
CONFIG = load_config(overrides=SET)
GLIDE = "v00000000000000aa"
CLIP = glide.make_clip(GLIDE).item


@pytest.fixture(scope="module")
def ws(tmp_path_factory):
    """A video that went through acquire and curate, and a clip that went through assemble."""
    ws = Workspace.open(tmp_path_factory.mktemp("replay") / "ws")
    film = ws.root.parent / "film.mp4"
    source = (
        "-f",
        "lavfi",
        "-i",
        "testsrc2=size=320x240:rate=30:duration=3",
        "-pix_fmt",
        "yuv420p",
    )
    subprocess.run([ffmpeg_exe(), "-v", "error", *source, str(film)], check=True)
    (item,) = find_items(str(ws.root), [str(film)], CONFIG, HostGate())
    fetched = fetch_item.fn(str(ws.root), item, CONFIG, HostGate())
    record_item(ws, item, fetched, Contents.of(ws), CONFIG, "r1")
    curate_video.fn(str(ws.root), item.item, CONFIG, "r1")
    _assembled(ws)
    return ws


def _assembled(ws):
    xyz = glide.dots(0)
    with ws.store.scratch() as area:
        glide.film(area / "video.mp4", xyz)
        glide.reconstruct(area / "model", xyz, 0)
        media = ws.store.publish(area / "video.mp4", f"videos/{GLIDE}/source.mp4")
        model = ws.store.publish(area / "model", f"sfm/{CLIP}")
    common = {"verdict": "accepted", "source": "a.mp4"}
    clip = {"clip": glide.make_clip(GLIDE).to_json()}
    ws.catalog.append(
        [
            StageEvent(item=GLIDE, stage="acquire", artifacts={"video": media}, **common),
            StageEvent(item=CLIP, stage="curate", parent=GLIDE, details=clip, **common),
            StageEvent(
                item=CLIP, stage="reconstruct", parent=GLIDE, artifacts={"model": model}, **common
            ),
        ]
    )
    assemble_shard.fn(str(ws.root), [CLIP], CONFIG, "r1")


def everything(ws):
    return {p: (p.stat().st_size, p.stat().st_mtime_ns) for p in ws.root.rglob("*")}


def film_of(ws):
    return next(e.item for e in ws.catalog.latest("acquire") if e.item != GLIDE)


def test_the_same_code_says_the_same_and_writes_nothing(ws, tmp_path):
    before, film = everything(ws), film_of(ws)
    for stage, item, told in (
        (Stage.ACQUIRE, film, "n_frames"),
        (Stage.CURATE, film, "curation.json, bytes"),
        (Stage.ASSEMBLE, CLIP, "rows in frames"),
    ):
        found = replay(ws, stage, item, CONFIG, tmp_path)
        assert found.same, [row for row in found.rows if row.difference]
        assert told in [row.name for row in found.rows]
        assert found.notes == []
    assert everything(ws) == before
    assert list(tmp_path.iterdir()) == []


def test_a_workspace_at_a_url_is_replayed_and_nothing_is_written_there(s3_server, tmp_path):
    ws = Workspace.open(s3_server.url("replay"))
    _assembled(ws)
    with ws.store.working("evaluations/tuples") as lists:
        (lists.path / "frames.json").write_text("[]")
    ws.store.drop_copies()
    before = set(Objects(ws.url).sizes(""))
    found = replay(ws, Stage.ASSEMBLE, CLIP, CONFIG, tmp_path)
    assert found.same, [row for row in found.rows if row.difference]
    assert "rows in frames" in [row.name for row in found.rows]
    assert [file.name for file in _frame_lists(ws, tmp_path).iterdir()] == ["frames.json"]
    assert set(Objects(ws.url).sizes("")) == before


def test_what_differs_is_named_with_its_size(ws):
    clip = next(e.item for e in ws.catalog.latest("curate", parent=film_of(ws)))
    other = load_config(overrides=[*SET, "assemble.jpeg_quality=50"])
    found = replay(ws, Stage.ASSEMBLE, CLIP, other)
    assert not found.same
    differ = {row.name: row.difference for row in found.rows if row.difference}
    assert "image" in differ["rows in frames"]
    assert "other settings" in found.notes[0]
    # A clip at curate stands for its video.
    shorter = load_config(overrides=[*SET, "curate.min_short_side_px=300"])
    found = replay(ws, Stage.CURATE, clip, shorter)
    assert found.item == film_of(ws)
    differ = {row.name: row for row in found.rows if row.difference}
    assert differ["reason"].replayed == "resolution"
    assert "keys" in differ["curation.json, bytes"].difference


def command(ws, *words):
    settings = [word for one in SET for word in ("-s", one)]
    done = CliRunner().invoke(app, ["replay", "-w", str(ws.root), *settings, *words])
    return done.exit_code, done.stdout + done.stderr


def test_the_command_ends_with_0_or_1_and_speaks_json(ws):
    film = film_of(ws)
    status, output = command(ws, "curate", film, "--json")
    (result,) = json.loads(output)
    assert (status, result["same"], result["error"]) == (0, True, None)
    status, output = command(ws, "curate", film, "-s", "curate.min_short_side_px=300")
    assert status == 1
    assert "resolution" in output
    assert command(ws, "acquire", "--sample", "1")[0] == 0
    assert command(ws, "curate")[0] == 2


def test_what_cannot_be_replayed_says_why(ws):
    for words, told in (
        (("adapt", "r0"), "adapt is not replayed"),
        (("curate", "v0"), "v0 has no verdict at curate"),
        (("acquire", GLIDE), "is missing or not as recorded"),
    ):
        if words[0] == "acquire":
            (ws.root / f"videos/{GLIDE}/source.mp4").unlink()
        status, output = command(ws, *words)
        assert status == 1
        assert told in " ".join(output.split())
        assert "Traceback" not in output


def test_a_sample_is_drawn_by_its_seed_from_what_can_be_replayed(tmp_path):
    ws = Workspace.open(tmp_path)
    accepted = {"stage": "reconstruct", "verdict": "accepted"}
    events = [StageEvent(item=f"c{n}", **accepted) for n in range(20)]
    failed = StageEvent(item="c20", stage="reconstruct", verdict="failed", reason="crashed")
    ws.catalog.append([*events, failed])
    assert sample(ws, Stage.RECONSTRUCT, 5, 1) == sample(ws, Stage.RECONSTRUCT, 5, 1)
    assert sample(ws, Stage.RECONSTRUCT, 5, 1) != sample(ws, Stage.RECONSTRUCT, 5, 2)
    assert "c20" not in sample(ws, Stage.RECONSTRUCT, 99, 1)
