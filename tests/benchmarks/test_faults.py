"""The harness of faults: its faults strike, and its comparison sees what differs and nothing else."""

import random
import subprocess
import sys
from dataclasses import replace

import pytest

from benchmarks import fault_kinds
from benchmarks.fault_kinds import FAULTS, Moment
from benchmarks.faults import difference
from data_catalog import StageEvent, Workspace

WAITS = "import time; time.sleep(600)"
SEES_THE_CLOCK_TURN = """
import time
wall, steady = time.time(), time.monotonic()
while time.time() > wall - 3600:
    assert time.monotonic() >= steady
    time.sleep(0.05)
print(wall - time.time() > 7000)
"""
ASKS_UNTIL_REFUSED = """
import os, time, urllib.error, urllib.request
while True:
    try:
        urllib.request.urlopen(os.environ["AWS_ENDPOINT_URL"])
    except urllib.error.HTTPError as error:
        if error.code == 503:
            break
    time.sleep(0.05)
print("refused")
"""


@pytest.fixture
def hit(tmp_path):
    """Strike a child with a fault; what was hit, the child's output, and where the workspace lies."""

    def strike(fault, program):
        with FAULTS[fault](tmp_path / "ws", tmp_path) as armed:
            command = [sys.executable, "-c", program]
            child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            try:
                what = armed.hit(child, Moment(0.5), random.Random(0))
                output = child.communicate(timeout=120)[0].strip()
            finally:
                child.kill()
        return what, output, armed.address

    return strike


def test_the_clock_goes_back_for_a_child_and_steady_clocks_go_on(hit, tmp_path):
    pytest.importorskip("libfaketime")
    assert hit("clock", SEES_THE_CLOCK_TURN) == ("clock", "True", str(tmp_path / "ws"))


def test_the_store_refuses_for_a_while(hit, monkeypatch):
    monkeypatch.setattr(fault_kinds, "_ILLNESSES", ("503",))
    assert hit("store", ASKS_UNTIL_REFUSED) == ("503", "refused", "s3://sage-test/ws")


def test_a_process_is_killed(hit):
    assert hit("kill", WAITS)[1] == ""
    assert hit("kill", "")[0] == "nothing: it had ended"


def filled(where, shard=b"rows"):
    """A video's verdict, a shard and a run's weights."""
    ws = Workspace.open(where)
    event = StageEvent(item="v0", stage="acquire", verdict="accepted")
    run = StageEvent(item="r0", stage="adapt", verdict="accepted")
    ws.catalog.append([event, run])
    ws.store.write_bytes("shards/frames-1.parquet", shard)
    with ws.store.working("runs/r0") as work:
        work.path.mkdir(parents=True, exist_ok=True)
        (work.path / "model.safetensors").write_bytes(b"weights")
    return ws


def test_what_differs_is_named(tmp_path, s3_server):
    whole, hit = tmp_path / "whole", s3_server.url("faults")
    filled(whole)
    ws = filled(hit)
    assert difference(hit, whole) == ""
    partial = StageEvent(item="r1", stage="adapt", verdict="failed", reason="no_data")
    ws.catalog.append([partial])
    ws.store.write_bytes("runs/r1/model.safetensors", b"of less")
    assert difference(hit, whole) == ""
    ws.store.write_bytes("shards/frames-1.parquet", b"other rows")
    assert difference(hit, whole) == "shards/*"
    ws.catalog.append([replace(partial, item="v0", stage="acquire", attempt=2)])
    assert difference(hit, whole).startswith("catalog: ")


def test_what_is_left_behind_is_named(tmp_path):
    filled(tmp_path / "whole")
    ws = filled(tmp_path / "ws")
    (ws.root / "scratch/left").mkdir()
    assert difference(tmp_path / "ws", tmp_path / "whole") == "left in scratch: ['left']"
