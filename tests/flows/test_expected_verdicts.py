"""Verdicts on real video against those of people: as files, and as URLs from a local server."""

import functools
import json
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from data_catalog import Workspace
from sage_core.types import Stage

pytestmark = [
    pytest.mark.slow,
    pytest.mark.server,
    pytest.mark.shared,
    pytest.mark.timeout(1500),
]


@pytest.fixture(scope="module")
def mined(shared_data, tmp_path_factory, prefect_server, sage_session):
    """The same videos mined twice: workspaces ``files`` and ``urls``."""
    folder = tmp_path_factory.mktemp("real")
    names = sorted(json.loads((shared_data / "expected.json").read_text()).keys() - {"_"})
    api = {"PREFECT_API_URL": f"{prefect_server}/api"}
    stages = ("--stages", "acquire,curate,reconstruct")
    files = [shared_data / "videos", shared_data / "negatives"]
    done = sage_session("run", "-w", folder / "files", *stages, *files, timeout=1400, **api)
    assert done.returncode == 0, done.stderr
    with Served(shared_data) as base:
        urls = [f"{base}/{name}" for name in names]
        allow = ("--set", "acquire.allow_hosts=[127.0.0.1]", "--stages", "acquire,curate")
        done = sage_session("run", "-w", folder / "urls", *allow, *urls, timeout=1400, **api)
    assert done.returncode == 0, done.stderr
    return folder, names


class Served:
    """A folder over HTTP on loopback."""

    def __init__(self, folder):
        handler = functools.partial(_Quiet, directory=str(folder))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def last_word(workspace):
    """File name -> (verdict, reason): a video is accepted if one of its clips is, at every stage."""
    catalog = Workspace.open(workspace, create=False).catalog
    words = curated(workspace)
    clips = {}
    for event in catalog.latest(Stage.RECONSTRUCT.value):
        clips.setdefault(Path(event.source).name, []).append((event.verdict, event.reason))
    for name, verdicts in clips.items():
        words[name] = min(verdicts, key=lambda one: one[0] != "accepted")
    return words


def test_every_file_gets_the_verdict_that_people_gave(mined, shared_data):
    folder, names = mined
    expected = json.loads((shared_data / "expected.json").read_text())
    got = last_word(folder / "files")
    assert len(got) == len(names) == 15
    wrong = {}
    for name in names:
        verdict, reason = got[Path(name).name]
        want = expected[name]
        right = (
            verdict == "accepted"
            if want["verdict"] == "accept"
            else verdict == "rejected" and reason in want["reasons"]
        )
        if not right or reason in want.get("never", ()):
            wrong[name] = (verdict, reason)
    assert not wrong


def test_urls_get_the_same_verdicts_as_files(mined):
    folder, _ = mined
    assert curated(folder / "urls") == curated(folder / "files")


def curated(workspace):
    catalog = Workspace.open(workspace, create=False).catalog
    return {
        Path(e.source).name: (e.verdict, e.reason)
        for e in catalog.latest(Stage.CURATE.value)
        if e.parent is None
    }
