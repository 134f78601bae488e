"""`sage run` with a selector against a real server: only the chosen is done again; the UI has its lines."""

import json
import time

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import LogFilter
from prefect.client.schemas.sorting import LogSort

from data_catalog import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.server, pytest.mark.timeout(600)]


def test_by_reason_and_number_and_what_the_ui_is_told(tmp_path, prefect_server, sage):
    sources, ws = tmp_path / "in", tmp_path / "ws"
    sources.mkdir()
    for name in ("a.mp4", "b.mp4"):
        (sources / name).write_text(f"only words of {name}")
    (sources / "c.mp4").write_bytes(b"")
    api = {"PREFECT_API_URL": f"{prefect_server}/api"}
    acquire = ("acquire", "-w", ws, "-s", "run.max_failed_share=1")
    assert sage(*acquire, sources, SAGE_LOG="json", **api).returncode == 0

    def attempts():
        events = Workspace.open(ws, create=False).catalog.latest("acquire")
        return {(e.source.rpartition("/")[2], e.reason): e.attempt for e in events}

    before = attempts()
    assert set(before.values()) == {1}
    done = sage(*acquire, "--reason", "not_video", "--limit", "1", SAGE_LOG="json", **api)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    told = [line for line in lines if "verdict" in line]
    assert [(line["stage"], line["reason"], line["attempt"]) for line in told] == [
        ("acquire", "not_video", 2)
    ]
    now = attempts()
    assert sorted(now.values()) == [1, 1, 2]
    assert now.keys() == before.keys()
    assert _in_the_ui(prefect_server, f"stage=acquire item={told[0]['item']} verdict=rejected")
    assert "sage_verdicts_total" in (ws / "metrics/sage.prom").read_text()
    done = sage("run", "-w", ws, "--stages", "curate", "--snapshot", "0" * 64, **api)
    assert done.returncode == 1
    assert "there is no snapshot" in " ".join(done.stderr.split())


def _in_the_ui(server, words):
    """Whether the server's logs hold a line; they are sent in batches."""
    with SyncPrefectClient(f"{server}/api") as client:
        for _ in range(100):
            logs = client.read_logs(LogFilter(), limit=200, offset=0, sort=LogSort.TIMESTAMP_DESC)
            if any(words in log.message and log.flow_run_id for log in logs):
                return True
            time.sleep(0.2)
    return False
