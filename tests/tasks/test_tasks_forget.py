"""Forgetting on a real workspace: what came of a video is gone, others' is as it was, and it stays away."""

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

sys.path.append(str(Path(__file__).parents[1] / "sage_core" / "shards"))
from shard_scene import make_clip

from data_catalog import LeaseHeld, StageEvent, Workspace
from data_catalog._objects import Objects
from data_catalog._remote_store import RemoteStore
from flows._housekeeping import compacted
from flows.cli import app
from sage_core.acquisition.hosts import HostGate
from sage_core.assembly import shard_name
from sage_core.config import load_config
from sage_core.errors import SageError
from sage_core.fingerprints import Recorder
from sage_core.shards import ShardReader, ShardWriter
from sage_core.shards.validate import validate
from sage_core.types import Clip, Reason
from tasks.acquire import Contents, fetch_item, find_items, is_ruled_otherwise, record_item
from tasks.duplicates import settle_duplicates
from tasks.forget import forget_uploader, forget_videos, remove_forgotten
from tasks.tombstones import Tombstone, Tombstones, read_list, write_list

CONFIG = load_config()
URLS = ("https://e.org/secret-walk.mp4", "https://e.org/other.mp4")
GONE, STAYS = (Tombstone.of_video(url, "", "").key for url in URLS)


def pictures(seed, n=60):
    """A fingerprint of footage that changes, 10 pictures a second."""
    draw, recorder = np.random.default_rng(seed), Recorder()
    scene = draw.integers(0, 256, (12, 40), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
    for k in range(n):
        recorder.add(k / 10, scene[:, 4 * k : 4 * k + 300])
    return recorder.fingerprint()


def clip_of(video, n):
    frames = list(range(n))
    return Clip(
        *(f"{video}_000000_{n:06d}", video, 0, n, 0.0, n / 10, 10.0, 320, 192, frames, frames),
        times_s=[k / 10 for k in frames],
    )


def fill(ws, video, url, uploader, seed, shard_writer):
    """All that six stages leave of one video, with one clip."""
    clip = clip_of(video, 60)
    asked = {"item": video, "source": url, "kind": "url", "location": url, "sections": [],
             "title": "", "problem": "", "reason": None}  # fmt: skip
    content = ws.store.write_bytes(f"videos/{video}/source.mp4", f"film of {url}".encode())
    ws.store.write_bytes(f"clips/{video}/contact.jpg", b"pictures")
    with ws.store.scratch() as area:
        pictures(seed).write(area / "fingerprint.npz")
        path = f"clips/{video}/fingerprint.npz"
        fingerprint = ws.store.publish(area / "fingerprint.npz", path)
    model = ws.store.write_bytes(f"sfm/{clip.item}/points.bin", b"points")
    shard_writer.add(*renamed(make_clip(clip.item, n=9, seed=seed), video, url))
    common = {"verdict": "accepted", "source": url, "input_hash": f"{seed:016x}"}
    details = {"asked": asked, "uploader": uploader, "title": f"title of {url}"}
    figures = {"duration_s": {"value": 6.0, "threshold": None, "rule": None}}
    child = {"item": clip.item, "parent": video, **common}
    return [
        StageEvent(item=video, stage="acquire", artifacts={"video": content}, details=details,
                   figures=figures, **common),
        StageEvent(item=video, stage="curate", artifacts={"fingerprint": fingerprint},
                   details={"children": [clip.item]}, **common),
        StageEvent(stage="curate", details={"clip": clip.to_json()}, **child),
        StageEvent(stage="reconstruct", artifacts={"model": model}, **child),
        StageEvent(stage="assemble", config_hash="c0", **child),
    ]  # fmt: skip


def renamed(parts, video, url):
    info, *rest = parts
    return (replace(info, video=video, source=url), *rest)


@pytest.fixture
def ws(tmp_path):
    return filled(tmp_path / "ws")


def filled(where):
    """Two videos mined into one shard, a model trained on it, its evaluation, a report."""
    ws = Workspace.open(where)
    with ws.store.scratch() as area:
        with ShardWriter(area, "old") as writer:
            events = fill(ws, GONE, URLS[0], "Ann", 1, writer)
            events += fill(ws, STAYS, URLS[1], "Bob", 2, writer)
        shard = {
            kind: ws.store.publish(area / f"{kind}-old.parquet", f"shards/{kind}-old.parquet")
            for kind in ("frames", "clips")
        }
    ws.catalog.append([replace(e, artifacts=shard) if e.stage == "assemble" else e for e in events])
    clips = [e.item for e in events if e.stage == "assemble"]
    frozen = ws.catalog.snapshot(list(shard.values()), {"clips": {shard["frames"].path: clips}})
    weights = ws.store.write_bytes("runs/r0/model.safetensors", b"weights")
    ws.store.write_bytes("runs/r0/renders/step_00000002.png", b"pictures of both")
    run = {"artifacts": {"checkpoint": weights}, "details": {"snapshot": frozen.id}}
    ws.catalog.append([StageEvent(item="r0", stage="adapt", verdict="accepted", **run)])
    ws.store.write_json("evaluations/r0/metrics.json", {"held_out": clips[0]})
    ws.store.write_bytes("reports/latest/index.html", b"with pictures of it")
    return ws


def everything(ws):
    return {f: f.read_bytes() for f in ws.root.rglob("*") if f.is_file()}


def test_all_that_came_of_a_video_goes_and_nothing_else(ws):
    before = ShardReader([ws.root / "shards"])
    kept_clip = f"{STAYS}_000000_000060"
    frames = [f.image for f in before.frames(kept_clip, range(9))]
    done = forget_videos(ws, [GONE], "asked for by its author")
    assert done.runs == {"r0": "runs/r0/model.safetensors"}
    assert ws.catalog.find(GONE, "acquire").reason == "forgotten"
    removed = remove_forgotten(ws, "test")
    files = everything(ws)
    for trace in (
        b"secret-walk",
        b"title of https://e.org/secret",
        b"film of https://e.org/secret",
        f"{GONE}_".encode(),
    ):
        holders = [
            str(f) for f, data in files.items() if trace in data and "snapshots" not in str(f)
        ]
        assert not holders, trace
    gone = [
        f"videos/{GONE}",
        f"clips/{GONE}",
        f"sfm/{GONE}_000000_000060",
        "evaluations/r0",
        "reports",
        "runs/r0/renders",
    ]
    assert not [path for path in gone if ws.store.exists(path)]
    assert removed.shards == {
        "shards/frames-old.parquet": ws.catalog.find(kept_clip, "assemble").artifacts["frames"].path
    }
    reader = ShardReader([ws.root / "shards"])
    assert reader.names == [kept_clip]
    assert [f.image for f in reader.frames(kept_clip, range(9))] == frames
    assert validate([ws.root / "shards"]) == []
    assert (
        ws.root / "shards" / f"frames-{shard_name({kept_clip: f'{2:016x}'}, 'c0')}.parquet"
    ).is_file()
    assert {e.item for e in ws.catalog.latest()} == {GONE, STAYS, kept_clip, "r0"}
    reread = [e for e in ws.catalog.frame(all=True).itertuples() if e.item == GONE]
    assert [(e.stage, e.source, e.message) for e in reread] == [
        (
            "acquire",
            f"sha256:{hashlib.sha256(URLS[0].encode()).hexdigest()}",
            "forgotten: asked for by its author",
        )
    ]
    assert "secret" not in ws.catalog.frame(all=True).to_json()  # its files are compressed
    assert remove_forgotten(ws, "test").paths == []


@pytest.mark.slow
def test_at_a_url_it_goes_from_there_and_from_this_machine(s3_server, tmp_path):
    ws = filled(s3_server.url("forget"))
    kept_clip = f"{STAYS}_000000_000060"
    with ws.store.scratch() as area:  # as stages publish them: folders
        for folder, about in (("evaluations/r1", GONE), ("evaluations/r2", STAYS)):
            (area / "new/parts").mkdir(parents=True)
            (area / "new/parts/metrics.json").write_text(json.dumps({"clip": about}))
            ws.store.publish(area / "new", folder)
    before = ws.store.fetch(*ws.catalog.find(kept_clip, "assemble").artifacts.values())
    frames = [f.image for f in ShardReader([before.parent]).frames(kept_clip, range(9))]
    ws.store.fetch(ws.catalog.find(GONE, "acquire").artifacts["video"])
    command = ["forget", "-w", ws.url, GONE, "--reason", "asked for", "--now", "--json"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    removed = json.loads(done.stdout)["removed"]
    shard = ws.catalog.find(kept_clip, "assemble").artifacts
    assert removed["shards"] == {"shards/frames-old.parquet": shard["frames"].path}
    assert {"runs/r0/renders", "evaluations/r0", "evaluations/r1"} <= set(removed["paths"])
    assert ws.store.exists("evaluations/r2")
    there = {key: ws.store._objects.read(key) for key in Objects(ws.url).sizes("")}
    traces = (b"secret-walk", f"film of {URLS[0]}".encode(), f"{GONE}_".encode())
    for name, data in (there | everything(ws)).items():
        assert not any(trace in data for trace in traces) or "snapshots" in str(name), name
    elsewhere = RemoteStore(tmp_path / "elsewhere", Objects(ws.url))
    reader = ShardReader([elsewhere.fetch(*shard.values()).parent])
    assert reader.names == [kept_clip]
    assert [f.image for f in reader.frames(kept_clip, range(9))] == frames
    assert remove_forgotten(ws, "test").paths == ["reports"]  # written anew


def test_it_is_not_mined_again_under_its_url_or_any_other(ws, tmp_path):
    copy = tmp_path / "again.mp4"
    copy.write_bytes(f"film of {URLS[0]}".encode())
    forget_videos(ws, [URLS[0]], "asked for")
    remove_forgotten(ws, "test")
    gate = HostGate()
    (source,) = find_items(str(ws.root), [URLS[0]], CONFIG, gate)
    assert not is_ruled_otherwise(
        ws.catalog.find(GONE, "acquire"), source, CONFIG, Tombstones.of(ws)
    )
    fetched = fetch_item.fn(str(ws.root), source, CONFIG, gate)  # without asking the host
    result = record_item(ws, source, fetched, Contents.of(ws), CONFIG, "run")
    assert (result["verdict"], result["reason"]) == ("rejected", "forgotten")
    assert b"secret-walk" not in b"".join(everything(ws).values())
    digest = hashlib.sha256(copy.read_bytes()).hexdigest()
    assert Tombstones.of(ws).of_content(digest).key == GONE


def test_another_upload_of_the_footage_is_known_by_its_pictures(ws, tmp_path):
    forget_videos(ws, [GONE], "asked for")
    remove_forgotten(ws, "test")
    with ws.store.scratch() as area, ShardWriter(area, "x") as writer:
        again = fill(ws, "v00000000000000cc", "https://f.org/again.mp4", "Eve", 1, writer)
    ws.catalog.append(again[:3])
    (event,) = settle_duplicates(ws, CONFIG.curate.duplicates, "run")
    assert (event.item, event.reason) == ("v00000000000000cc_000000_000060", "forgotten")
    assert event.figures["duplicate_of"]["value"] == GONE
    assert settle_duplicates(ws, CONFIG.curate.duplicates, "run") == []


def test_an_uploader_is_forgotten_with_all_videos_now_and_later(ws):
    done = forget_uploader(ws, "aNN", "asked for")
    assert {stone.key for stone in done.stones} > {GONE}
    assert ws.catalog.find(STAYS, "acquire").verdict == "accepted"
    (digest,) = Tombstones.of(ws).uploaders
    assert digest == hashlib.sha256(b"ann").hexdigest()
    remove_forgotten(ws, "test")
    assert b"Ann" not in b"".join(everything(ws).values())


def test_compacting_removes_it_too(ws):
    forget_videos(ws, [GONE], "asked for")
    compacted(ws)
    assert not ws.store.exists(f"videos/{GONE}")
    assert ShardReader([ws.root / "shards"]).names == [f"{STAYS}_000000_000060"]
    assert compacted(ws).removed == []


def test_nothing_is_removed_beside_a_running_stage(ws):
    forget_videos(ws, [GONE], "asked for")
    with ws.catalog.lease("adapt", "ann@night"), pytest.raises(LeaseHeld, match="ann@night"):
        remove_forgotten(ws, "test")
    assert ws.store.exists(f"videos/{GONE}")


def test_a_shared_list_says_the_same_elsewhere_and_names_nothing(ws, tmp_path):
    forget_videos(ws, [GONE], "asked for")
    write_list(Tombstones.of(ws), tmp_path / "list.jsonl")
    assert "e.org" not in (tmp_path / "list.jsonl").read_text()
    assert read_list(tmp_path / "list.jsonl") == list(Tombstones.of(ws))
    other = tmp_path / "other"
    Workspace.open(other)
    told = ["forget", "-w", str(other), "--from", str(tmp_path / "list.jsonl"), "--json"]
    done = CliRunner().invoke(app, told)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["tombstones"][0]["key"] == GONE
    assert Workspace.open(other).catalog.find(GONE, "acquire").reason == "forgotten"


@pytest.mark.parametrize(
    "line",
    ["nonsense", "[]", "{}", '{"key": "v0", "kind": "video", "sha256": "..", "reason": "", "time": ""}',
     json.dumps({"key": "../../x", "kind": "video", "sha256": "0" * 64, "reason": "", "time": ""})],
)  # fmt: skip
def test_a_list_that_is_none_is_refused(tmp_path, line):
    (tmp_path / "list.jsonl").write_text(line + "\n")
    with pytest.raises(SageError, match="line 1 is no tombstone") as caught:
        read_list(tmp_path / "list.jsonl")
    assert caught.value.reason is Reason.BAD_CONFIG


def test_what_cannot_be_forgotten_is_wrong_usage(ws):
    for words, teaches in [(["nowhere"], "no item of this workspace"), ([], "name what to forget"),
                           ([GONE, "--uploader", "x"], "name what to forget")]:  # fmt: skip
        reason = ["--reason", "x"] if words else []
        done = CliRunner().invoke(app, ["forget", "-w", str(ws.root), *words, *reason])
        assert done.exit_code in (1, 2)
        assert teaches in " ".join(done.stderr.split())
    done = CliRunner().invoke(app, ["forget", "-w", str(ws.root), GONE])
    assert "say why" in done.stderr


def test_an_export_holds_what_is_there_now(ws, tmp_path):
    def exported(name, *more):
        words = ["export", "re10k", "-w", str(ws.root), "-o", str(tmp_path / name), "--json", *more]
        return CliRunner().invoke(app, words)

    before = exported("before")
    assert before.exit_code == 0, before.output
    assert json.loads(before.stdout)["clips"] == 2
    assert json.loads(exported("one", "--item", STAYS).stdout)["clips"] == 1
    forget_videos(ws, [GONE], "asked for")  # and nothing is removed yet
    assert json.loads(exported("after").stdout) == {
        "out": str(tmp_path / "after"), "clips": 1, "frames": 9, "left_out": {}
    }  # fmt: skip
    assert "secret" not in "".join(f.read_text() for f in (tmp_path / "after").iterdir())
    again = exported("after")
    assert again.exit_code != 0
    assert "is there already" in again.stderr
