"""The disk's room: sizes known before a download, sizes that lie, a quota, and how a run's downloads end."""

import http.server
import shutil
import threading

import pytest

from data_catalog import Workspace
from sage_core.acquisition.hosts import HostGate
from sage_core.acquisition.room import Room, used_bytes
from sage_core.acquisition.sources import expand
from sage_core.config import load_config
from sage_core.errors import SourceError
from sage_core.types import Reason
from tasks.acquire import fetch_item

CONFIG = load_config(
    overrides=["acquire.allow_hosts=[127.0.0.1]", "acquire.retries=0", "acquire.socket_timeout_s=5"]
)
MIB = 1 << 20


@pytest.fixture
def site():
    """Half-MiB downloads that tell their size, or (``/unsaid``) do not; every GET is written down."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Type", "video/mp4")
            if "unsaid" not in self.path:
                self.send_header("Content-Length", str(MIB // 2))
            self.end_headers()
            try:
                for _ in range(32):
                    self.wfile.write(bytes(MIB // 64))
            except OSError:
                pass

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def fetch(root, url, gate):
    (item,) = expand([url], lambda _: None)
    return fetch_item.fn(str(root), item, CONFIG, gate).outcome.judgement


@pytest.mark.parametrize("name", ["said.mp4", "unsaid.mp4"])
def test_over_the_quota_downloads_end_as_retryable_and_the_next_asks_nobody(tmp_path, site, name):
    url, asked = site
    ws = Workspace.open(tmp_path / "ws")
    gate = HostGate(room=Room(ws.root, quota_gb=(used_bytes(ws.root) + MIB // 4) / 2**30))
    first = fetch(ws.root, f"{url}/{name}", gate)
    assert (first.reason, first.retryable) == (Reason.QUOTA, True)
    assert "run.disk_quota_gb" in first.message
    assert "--retry failed" in first.message
    requests = len(asked)
    second = fetch(ws.root, f"{url}/other.mp4", gate)
    assert (second.reason, second.retryable) == (Reason.QUOTA, True)
    assert "downloads of this run were stopped" in second.message
    assert len(asked) == requests
    assert not list(ws.root.glob("scratch/*-*"))
    # With room, the same download is let through to what judges it: these bytes are no video.
    assert fetch(ws.root, f"{url}/{name}", HostGate(room=Room(ws.root))).reason not in (
        Reason.QUOTA,
        Reason.DISK_FULL,
    )


def test_a_disk_with_too_little_left_is_not_asked_to_hold_more(tmp_path, site):
    url, asked = site
    ws = Workspace.open(tmp_path / "ws")
    free_gb = shutil.disk_usage(ws.root).free / 2**30
    gate = HostGate(room=Room(ws.root, min_free_gb=2 * free_gb))
    judgement = fetch(ws.root, f"{url}/said.mp4", gate)
    assert (judgement.reason, judgement.retryable) == (Reason.DISK_FULL, True)
    assert "run.min_free_gb" in judgement.message
    assert asked == []


def test_a_local_copy_counts_too_and_a_smaller_one_still_fits(tmp_path):
    ws = Workspace.open(tmp_path / "ws")
    large, small = tmp_path / "large.mp4", tmp_path / "small.mp4"
    large.write_bytes(bytes(MIB))
    small.write_bytes(b"only words")
    gate = HostGate(room=Room(ws.root, quota_gb=(used_bytes(ws.root) + MIB // 2) / 2**30))
    assert fetch(ws.root, str(large), gate).reason is Reason.QUOTA
    assert fetch(ws.root, str(small), gate).reason is Reason.NOT_VIDEO


def test_what_is_kept_is_counted_once_it_is_whole(tmp_path):
    room = Room(tmp_path, quota_gb=MIB / 2**30)
    room.take(MIB // 2, "a")
    room.take(MIB // 2, "b")
    with pytest.raises(SourceError, match=r"c: 0\.0 MiB do not fit, 0\.0 MiB are left under"):
        room.take(1, "c")
    with pytest.raises(SourceError, match="stopped"):
        room.check_open("d")
