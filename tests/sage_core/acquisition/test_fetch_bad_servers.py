"""Real yt-dlp against a real server: every bad answer gets its reason, and nothing leaves the guard."""

import subprocess
import sys

import pytest
from bad_server import CONFIG, url_item

from sage_core.acquisition.fetch import fetch_url, list_url
from sage_core.acquisition.hosts import HostGate
from sage_core.acquisition.obtain import obtain
from sage_core.acquisition.sources import SourceKind, expand
from sage_core.errors import SourceError
from sage_core.types import Reason, Verdict

VERDICTS = {
    "404": (Verdict.FAILED, Reason.NOT_FOUND, False),
    "410": (Verdict.FAILED, Reason.NOT_FOUND, False),
    "429": (Verdict.FAILED, Reason.BLOCKED, True),
    "short.mp4": (Verdict.FAILED, Reason.TRUNCATED, True),
    "cut_tail.mp4": (Verdict.FAILED, Reason.TRUNCATED, True),
    "liar.mp4": (Verdict.FAILED, Reason.DURATION_MISMATCH, True),
    "empty.mp4": (Verdict.FAILED, Reason.EMPTY_FILE, False),
    "stalled.mp4": (Verdict.FAILED, Reason.TRANSIENT, True),
    "trickle.mp4": (Verdict.FAILED, Reason.TRANSIENT, True),
    "away.mp4": (Verdict.FAILED, Reason.FORBIDDEN_HOST, False),
    "elsewhere.m3u8": (Verdict.FAILED, Reason.FORBIDDEN_HOST, False),
    "file.m3u8": (Verdict.FAILED, Reason.BAD_SOURCE, False),
    "huge.mp4": (Verdict.REJECTED, Reason.TOO_LARGE, False),
    "page.html": (Verdict.REJECTED, Reason.NOT_VIDEO, False),
    "live.m3u8": (Verdict.REJECTED, Reason.LIVE_STREAM, False),
}


@pytest.mark.parametrize("path", VERDICTS)
def test_a_bad_answer_gets_its_reason(obtained, path):
    judgement = obtained[path].judgement
    assert (judgement.verdict, judgement.reason, judgement.retryable) == VERDICTS[path]
    assert len(judgement.message) > 10
    assert obtained[path].content is None


@pytest.mark.parametrize("path", ["ok.mp4", "flaky.mp4", "climbing.mp4", "good.m3u8"])
def test_a_video_is_fetched_whole_under_our_own_name(obtained, media, path):
    got = obtained[path]
    assert got.judgement.verdict is Verdict.ACCEPTED, got.judgement.message
    original = "segment.ts" if path == "good.m3u8" else "ok.mp4"
    assert got.content.read_bytes() == (media / original).read_bytes()
    assert got.content.stem == "source"
    assert got.content.parent.name == "item"
    assert got.info["probe"]["n_frames"] == 30
    assert got.info["site"]["extractor"] == "generic"


def test_a_url_that_climbs_stays_inside(obtained, media):
    got = obtained["a/../../ok.mp4?title=../../x"]
    assert got.content.name == "source.mp4"


def test_passing_trouble_is_retried_and_nothing_else(obtained, servers):
    allowed, other = servers
    assert allowed.requests["/flaky.mp4"] >= 2
    assert allowed.requests["/404"] == 1
    assert allowed.requests["/429"] == 1
    assert allowed.requests["/stalled.mp4"] >= CONFIG.retries + 1
    assert not other.requests, "a host that is not allowed was talked to"


def test_a_private_host_is_refused_before_any_request(servers, tmp_path):
    allowed, other = servers
    before = sum(allowed.requests.values())
    config = CONFIG.model_copy(update={"allow_hosts": []})
    for url in (f"{allowed.url}/ok.mp4", allowed.url.replace("127.0.0.1", "localhost")):
        with pytest.raises(SourceError) as caught:
            fetch_url(url, tmp_path, config, HostGate())
        assert caught.value.reason is Reason.FORBIDDEN_HOST
        assert "acquire.allow_hosts" in str(caught.value)
    assert sum(allowed.requests.values()) == before
    assert not other.requests


GUARDED = """
import socket, subprocess, urllib.request, sys
import deno
from sage_core.acquisition.guard import Watch, set_guard
from sage_core.acquisition.hosts import HostGuard
watch = Watch()
set_guard(HostGuard(["127.0.0.1"]), watch)
port = int(sys.argv[1])
def refused(what):
    try:
        what()
    except Exception as error:
        return type(error).__name__
    return "passed"
socket.create_connection(("127.0.0.1", port)).close()
subprocess.run([deno.find_deno_bin(), "--version"], check=True, stdout=subprocess.DEVNULL)
print(refused(lambda: socket.create_connection(("127.0.0.2", port))),
      refused(lambda: urllib.request.urlopen("file:///etc/hostname")),
      refused(lambda: urllib.request.urlopen("ftp://127.0.0.1/x")),
      refused(lambda: subprocess.run(["true"])),
      watch.stopped.reason.value)
"""


def test_the_guard_holds_below_every_library(servers):
    port = servers[0].url.rpartition(":")[2]
    run = subprocess.run(
        [sys.executable, "-c", GUARDED, port], capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == [
        *("SourceError", "SourceError", "SourceError", "PermissionError", "forbidden_host"),
    ]


REBOUND = """
import socket, sys, urllib.request
from sage_core.acquisition.guard import Watch, set_guard
from sage_core.acquisition.hosts import HostGuard
answers = ["93.184.216.34", "127.0.0.2"]  # a name that is another's by the second time of asking
plain = socket.getaddrinfo
def lookup(host, port, *rest, **more):
    return plain(answers.pop(0) if host == "e.org" else host, port, *rest, **more)
socket.getaddrinfo = lookup
watch = Watch()
set_guard(HostGuard([]), watch)
try:
    urllib.request.urlopen(f"http://e.org:{sys.argv[1]}/ok.mp4", timeout=5)
except Exception as error:
    print(type(error).__name__, watch.stopped.reason.value, answers)
"""


def test_a_name_that_changes_its_address_is_held_to_the_one_that_is_connected(servers):
    _, other = servers
    before = other.requests.total()
    run = subprocess.run(
        [sys.executable, "-c", REBOUND, other.url.rpartition(":")[2]],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert run.stdout.split() == ["SourceError", "forbidden_host", "[]"]
    assert other.requests.total() == before


def test_a_login_comes_from_a_file_and_is_written_nowhere(servers, tmp_path):
    allowed, _ = servers
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login ann password s3cret\n")
    for name, file, verdict in [("a", None, "failed"), ("b", str(netrc), "accepted")]:
        (tmp_path / name).mkdir()
        config = CONFIG.model_copy(update={"netrc_file": file})
        got = obtain(url_item(f"{allowed.url}/private.mp4"), tmp_path / name, config, HostGate())
        assert got.judgement.verdict == verdict, got.judgement.message
        assert "s3cret" not in f"{got.judgement}{got.info}"
    netrc.write_text("machine")
    (tmp_path / "c").mkdir()
    got = obtain(url_item(f"{allowed.url}/private.mp4"), tmp_path / "c", config, HostGate())
    assert got.judgement.reason is Reason.BAD_CONFIG


def test_a_playlist_becomes_its_entries(servers, tmp_path):
    allowed, _ = servers

    def listed(url):
        return list_url(url, tmp_path, CONFIG, HostGate())

    items = expand([f"{allowed.url}/feed.xml"], listed)
    assert [(i.kind, i.source, i.title) for i in items] == [
        (SourceKind.URL, f"{allowed.url}/ok.mp4", "one"),
        (SourceKind.URL, f"{allowed.url}/404", "two"),
        (SourceKind.BAD, "file:///etc/passwd", "three"),
    ]
    config = CONFIG.model_copy(update={"max_entries": 1})
    assert len(list_url(f"{allowed.url}/feed.xml", tmp_path, config, HostGate())) == 1


def test_a_host_that_refuses_again_and_again_is_left_alone(servers, tmp_path):
    allowed, _ = servers
    gate = HostGate(block_after=2)
    asked = allowed.requests["/429"]
    messages = []
    for number in range(3):
        area = tmp_path / str(number)
        area.mkdir()
        judgement = obtain(url_item(f"{allowed.url}/429"), area, CONFIG, gate).judgement
        assert (judgement.reason, judgement.retryable) == (Reason.BLOCKED, True)
        messages.append(judgement.message)
    assert allowed.requests["/429"] == asked + 2
    assert "stopped for this run" in messages[2]
    assert list(gate.closed) == ["127.0.0.1"]
