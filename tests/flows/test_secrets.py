"""A password in a URL comes into no catalog, log, artifact or database."""

import socket
import urllib.request
from urllib.parse import urlsplit

import pytest

from data_catalog import Workspace
from sage_core.config import load_config

SECRET = "s3cret-word"


def asked(server, what):
    """All that the Prefect server keeps of one kind."""
    request = urllib.request.Request(
        f"{server}/api/{what}/filter", b'{"limit": 200}', {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read().decode()


@pytest.mark.slow
@pytest.mark.server
def test_a_login_in_a_source_is_written_nowhere(sage, tmp_path, prefect_server):
    """The command is given one, in a source and in a list; the whole disk is searched afterwards."""
    (tmp_path / "list.txt").write_text(f"https://ann:{SECRET}@127.0.0.1/two.mp4\n")
    workspace = tmp_path / "ws"
    done = sage(
        "run", "-w", workspace, "--stages", "acquire", f"https://ann:{SECRET}@127.0.0.1/one.mp4",
        tmp_path / "list.txt", PREFECT_API_URL=f"{prefect_server}/api",
    )  # fmt: skip
    assert done.returncode == 1, done.stdout
    assert SECRET not in done.stdout + done.stderr
    events = Workspace.open(workspace, create=False).catalog.latest("acquire")
    assert {e.source for e in events} == {
        "https://***@127.0.0.1/one.mp4",
        "https://***@127.0.0.1/two.mp4",
    }
    assert {e.reason for e in events} == {"bad_source"}
    assert SECRET not in Workspace.open(workspace).catalog.frame(all=True).to_json()
    holders = [f for f in tmp_path.rglob("*") if f.is_file() and SECRET.encode() in f.read_bytes()]
    assert holders == [tmp_path / "list.txt"]
    told = [asked(prefect_server, what) for what in ("flow_runs", "task_runs", "logs", "artifacts")]
    assert "one.mp4" in told[0]  # the parameters of the flow run
    assert all(SECRET not in text for text in told)


def test_settings_hold_no_login():
    with pytest.raises(Exception, match="HTTPS_PROXY"):
        load_config(overrides=["acquire.proxy=http://ann:secret@proxy:3128"])


@pytest.mark.slow
@pytest.mark.server
def test_the_server_listens_on_loopback_alone(prefect_server):
    """On one address of it: what listens on all would answer on 127.0.0.2, too."""
    port = urlsplit(prefect_server).port
    socket.create_connection(("127.0.0.1", port), timeout=30).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), timeout=30)
