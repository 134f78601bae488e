"""The policy on a real workspace: a rule that changes is applied to what is there; nothing is fetched."""

import json
import subprocess

import pytest
from prefect.logging import disable_run_logger

from data_catalog import Workspace
from flows.acquire import _ruled_otherwise
from sage_core.acquisition.hosts import HostGate
from sage_core.config import SageConfig, load_config
from sage_core.types import Stage
from sage_core.video.ffmpeg import ffmpeg_exe
from tasks._plan import accepted_videos
from tasks.acquire import Contents, fetch_item, find_items, is_ruled_otherwise, record_item
from tasks.forget import forget_videos
from tasks.tombstones import Tombstones

BASE = ["acquire.policy.apply_to_files=true"]


def rules(*more):
    return load_config(overrides=[*BASE, *more])


@pytest.fixture
def film(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    source = ("-f", "lavfi", "-i", "testsrc=s=160x120:r=10:d=2", "-pix_fmt", "yuv420p")
    subprocess.run([ffmpeg_exe(), "-v", "error", *source, str(folder / "f.mp4")], check=True)
    facts = {
        "license": "by-nc",
        "uploader": "Ann",
        "uploader_id": "@ann",
        "webpage_url": "https://e.org/1",
    }
    (folder / "f.info.json").write_text(json.dumps(facts))
    return folder / "f.mp4"


def last(ws):
    return {event.item: event for event in ws.catalog.latest(Stage.ACQUIRE.value)}


def acquire(ws, source, config: SageConfig):
    gate = HostGate()
    with disable_run_logger():
        fetched = fetch_item.fn(str(ws.root), source, config, gate)
    return record_item(ws, source, fetched, Contents.of(ws), config, "run")


def test_a_rule_that_changes_is_applied_to_what_is_there(tmp_path, film):
    ws = Workspace.open(tmp_path / "ws")
    (source,) = find_items(str(ws.root), [str(film)], rules(), HostGate())
    assert acquire(ws, source, rules())["verdict"] == "accepted"
    details = ws.catalog.find(source.item, Stage.ACQUIRE.value).details
    assert (details["license"], details["uploader_id"]) == ("by-nc", "@ann")
    stones = Tombstones.of(ws)
    strict = rules("acquire.policy.deny_licences=['*-nc*']")
    assert strict.stage_hash(Stage.ACQUIRE) == SageConfig().stage_hash(Stage.ACQUIRE)
    assert _ruled_otherwise(ws, [], rules(), stones) == []
    assert [i.item for i in _ruled_otherwise(ws, [], strict, stones)] == [source.item]
    film.unlink()  # nothing is read again
    result = acquire(ws, source, strict)
    assert (result["verdict"], result["reason"]) == ("rejected", "denied_licence")
    event = ws.catalog.find(source.item, Stage.ACQUIRE.value)
    assert event.figures["licence"] == {"value": "cc-by-nc", "threshold": "*-nc*", "rule": "not in"}
    assert accepted_videos(ws) == []
    assert not is_ruled_otherwise(last(ws)[source.item], source, strict, stones)
    assert is_ruled_otherwise(last(ws)[source.item], source, rules(), stones)


def test_a_rule_taken_back_takes_what_is_still_there(tmp_path, film):
    ws = Workspace.open(tmp_path / "ws")
    (source,) = find_items(str(ws.root), [str(film)], rules(), HostGate())
    acquire(ws, source, rules())
    acquire(ws, source, rules("acquire.policy.deny_uploaders=[ann]"))
    assert accepted_videos(ws) == []
    assert acquire(ws, source, rules())["verdict"] == "accepted"


def test_what_is_forgotten_while_it_is_fetched_is_not_taken(tmp_path, film):
    ws = Workspace.open(tmp_path / "ws")
    (source,) = find_items(str(ws.root), [str(film)], rules(), HostGate())
    with disable_run_logger():
        fetched = fetch_item.fn(str(ws.root), source, rules(), HostGate())
    forget_videos(ws, [str(film)], "asked for")
    result = record_item(ws, source, fetched, Contents.of(ws), rules(), "run")
    assert (result["verdict"], result["reason"]) == ("rejected", "forgotten")
    assert not ws.store.exists(f"videos/{source.item}")
    assert str(film) not in ws.catalog.frame(all=True).to_json().replace("\\/", "/")
