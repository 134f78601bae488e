"""acquire on a real workspace: order decides on duplicates, a killed run fetches nothing twice."""

import functools
import http.server
import subprocess
import threading
from pathlib import Path

import pytest

from data_catalog import Workspace
from sage_core.acquisition.hosts import HostGate
from sage_core.config import load_config
from sage_core.types import Stage
from sage_core.video.ffmpeg import ffmpeg_exe
from tasks.acquire import Contents, fetch_item, find_items, record_item

CONFIG = load_config(
    overrides=["acquire.allow_hosts=[127.0.0.1]", "acquire.retries=0", "acquire.socket_timeout_s=5"]
)


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("video") / "room.mp4"
    source = ("-f", "lavfi", "-i", "testsrc=s=160x120:r=10:d=2", "-pix_fmt", "yuv420p")
    subprocess.run([ffmpeg_exe(), "-v", "error", *source, str(file)], check=True)
    return file


@pytest.fixture
def server(video):
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            asked.append(self.path)

    handler = functools.partial(Handler, directory=str(video.parent))
    http_server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=http_server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{http_server.server_port}", asked
    http_server.shutdown()
    http_server.server_close()


def acquire(root, sources, order=None):
    """Fetch all, finishing in ``order``, then record in the order of the sources."""
    gate = HostGate()
    items = find_items(str(root), sources, CONFIG, gate)
    fetched = {}
    for number in order or range(len(items)):
        fetched[number] = fetch_item.fn(str(root), items[number], CONFIG, gate)
    ws = Workspace.open(root)
    contents = Contents.of(ws)
    return [
        record_item(ws, items[n], fetched[n], contents, CONFIG, "run") for n in range(len(items))
    ]


def test_the_first_of_the_sources_counts_whatever_finished_first(tmp_path, video):
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(video.read_bytes())
    first, *others = acquire(tmp_path / "ws", [str(tmp_path / "in")], order=[2, 0, 1])
    assert first["verdict"] == "accepted"
    assert [(o["verdict"], o["reason"]) for o in others] == [("rejected", "duplicate")] * 2
    ws = Workspace.open(tmp_path / "ws")
    for other in others:
        event = ws.catalog.find(other["item"], Stage.ACQUIRE.value)
        assert event.figures["duplicate_of"]["value"] == first["item"]
        assert not ws.store.exists(f"videos/{other['item']}")


def test_an_accepted_video_leaves_file_facts_and_details(tmp_path, video):
    (result,) = acquire(tmp_path / "ws", [str(video)])
    ws = Workspace.open(tmp_path / "ws")
    event = ws.catalog.find(result["item"], Stage.ACQUIRE.value)
    assert (event.verdict, event.source) == ("accepted", str(video))
    assert event.artifacts["video"].path == f"videos/{result['item']}/source.mp4"
    assert all(ws.store.verify(a, deep=True) for a in event.artifacts.values())
    assert ws.store.path(event.artifacts["video"].path).read_bytes() == video.read_bytes()
    assert event.details["title"] == "room.mp4"
    assert event.details["probe"]["n_frames"] == 20
    assert ws.store.read_json(event.artifacts["info"].path)["probe"] == event.details["probe"]


def test_a_run_killed_before_the_verdict_fetches_nothing_twice(tmp_path, server):
    url, asked = server
    gate = HostGate()
    root = str(tmp_path / "ws")
    (item,) = find_items(root, [f"{url}/room.mp4"], CONFIG, gate)
    fetch_item.fn(root, item, CONFIG, gate)  # and here the run was killed
    requests = len(asked)
    assert requests > 0
    (result,) = acquire(root, [f"{url}/room.mp4"])
    assert result["verdict"] == "accepted"
    assert len(asked) == requests


def test_a_copy_that_was_damaged_is_fetched_again(tmp_path, server, video):
    url, asked = server
    root = tmp_path / "ws"
    (result,) = acquire(root, [f"{url}/room.mp4"])
    copy = root / "videos" / result["item"] / "source.mp4"
    copy.write_bytes(copy.read_bytes()[:2000])
    requests = len(asked)
    (again,) = acquire(root, [f"{url}/room.mp4"])
    assert again["verdict"] == "accepted"
    assert len(asked) > requests
    assert copy.read_bytes() == video.read_bytes()


def test_what_cannot_be_had_gets_a_verdict_too(tmp_path, server):
    url, _ = server
    sources = [f"{url}/none.mp4", str(tmp_path / "none.mp4"), "http://127.0.0.2/x.mp4", "../x"]
    results = acquire(tmp_path / "ws", sources)
    assert [r["reason"] for r in results] == [
        *("not_found", "bad_source", "forbidden_host", "bad_source"),
    ]
    assert all(r["message"] for r in results)
    ws = Workspace.open(tmp_path / "ws")
    events = [ws.catalog.find(r["item"], Stage.ACQUIRE.value) for r in results]
    assert [e.source for e in events] == sources
