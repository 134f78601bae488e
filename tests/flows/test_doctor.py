"""`sage doctor` on faults that are real: a wrong binary, dead holders, a full quota, runs of nobody."""

import os
import signal
import subprocess
import sys

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.states import Running

from data_catalog import StageEvent, Workspace
from flows._checks import Level, repaired, workspace_checks
from flows._checks_server import server_checks
from flows._housekeeping import examined
from sage_core.config import load_config


def by_name(checks):
    return {check.name: check for check in checks}


@pytest.fixture
def ws(tmp_path):
    return Workspace.open(tmp_path / "ws")


@pytest.mark.slow
def test_without_a_workspace_it_looks_at_the_machine_and_names_what_is_broken(
    monkeypatch, tmp_path
):
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "no-ffmpeg"))
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    monkeypatch.setenv("SAGE_MODELS", str(tmp_path / "models"))
    found = by_name(examined(None, load_config(), fix=True))
    assert found["ffmpeg"].level is Level.FAIL
    assert "no-ffmpeg" in found["ffmpeg"].found
    assert "IMAGEIO_FFMPEG_EXE" in found["ffmpeg"].fix
    assert (found["server"].level, "does not answer" in found["server"].found) == (Level.FAIL, True)
    assert found["colmap"].level is Level.OK
    assert found["colmap"].found.startswith("pycolmap 4.")
    assert found["weights"].level is Level.WARN
    assert "sage models pull" in found["weights"].found
    assert {"sage", "decord", "yt-dlp", "torch", "gsplat"} <= found.keys()


def killed_at_work(ws):
    """A process that held curate and a scratch folder when it was killed."""
    script = f"""
import os, signal
from data_catalog import Workspace
ws = Workspace.open({str(ws.root)!r})
with ws.catalog.turn("nightly", "all"), ws.catalog.lease("curate", "a night"), ws.store.scratch() as area:
    (area / "part").write_bytes(bytes(5000))
    os.kill(os.getpid(), signal.SIGKILL)
"""
    ended = subprocess.run([sys.executable, "-c", script], check=False, env={**os.environ})
    assert ended.returncode == -signal.SIGKILL


def test_what_the_dead_hold_is_named_and_freed(ws):
    killed_at_work(ws)
    found = by_name(workspace_checks(ws, load_config()))
    lease, scratch = found["lease of curate"], found["scratch"]
    assert lease.level is Level.WARN
    assert "held by a night (process" in lease.found
    assert "is dead" in lease.found
    assert scratch.level is Level.WARN
    assert "1 folders of dead processes" in scratch.found
    assert ws.catalog.holder("curate") is not None  # looking changes nothing
    night = found["lease of nightly"]
    assert "held by all (process" in night.found
    assert [repaired(check).level for check in (lease, scratch, night)] == [Level.OK] * 3
    assert ws.catalog.holder("curate") is None
    assert ws.catalog.at_turn("nightly") is None
    again = by_name(workspace_checks(ws, load_config()))
    assert not {"lease of curate", "lease of nightly"} & set(again)
    assert again["scratch"].level is Level.OK


def test_a_living_holder_is_left_alone(ws):
    with ws.catalog.lease("assemble", "me"), ws.store.scratch():
        found = by_name(workspace_checks(ws, load_config()))
        assert found["lease of assemble"].level is Level.OK
        assert found["lease of assemble"].repair is None
        assert found["scratch"].level is Level.OK


def test_a_full_quota_and_a_full_disk_fail(ws):
    ws.store.write_bytes("videos/v1", bytes(5000))
    config = load_config(overrides=["run.disk_quota_gb=0.000001", "run.min_free_gb=1000000"])
    found = by_name(workspace_checks(ws, config))
    for name in ("quota", "disk"):
        assert found[name].level is Level.FAIL
        assert "sage prune" in found[name].fix
    roomy = load_config(overrides=["run.disk_quota_gb=1000", "run.min_free_gb=0"])
    assert by_name(workspace_checks(ws, roomy))["quota"].level is Level.OK


def test_a_damaged_catalog_fails(ws):
    ws.catalog.append([StageEvent(item="v1", stage="curate", verdict="accepted")])
    (file,) = ws.root.glob("catalog/events/stage=curate/event-*.parquet")
    file.with_name("event-0.parquet").write_bytes(b"no parquet")
    found = by_name(workspace_checks(ws, load_config()))["catalog"]
    assert found.level is Level.FAIL
    assert "is damaged" in found.found


@flow(name="doctors-patient")
def patient():
    pass


@pytest.mark.slow
@pytest.mark.server
def test_runs_that_nobody_runs_and_slots_that_leaked_are_ended(prefect_server, ws, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", f"{prefect_server}/api")
    with SyncPrefectClient(f"{prefect_server}/api") as client:
        dead = client.create_flow_run(patient, state=Running())
        alive = client.create_flow_run(patient, state=Running())
        slots = GlobalConcurrencyLimitCreate(name="leaked", limit=2, active_slots=1)
        client.create_global_concurrency_limit(slots)
        known = [c.found for c in server_checks(ws) if c.name == "run"]
        assert not [text for text in known if str(dead.id) in text]  # not silent for long yet
        with ws.catalog.turn("nightly", f"{alive.id}@here:1"):
            found = list(server_checks(ws, silent_s=0))
        assert by_name(found)["server"].level is Level.OK
        assert by_name(found)["server's clock"].level is Level.OK
        (stuck,) = [c for c in found if c.name == "run" and str(dead.id) in c.found]
        assert not [c for c in found if c.name == "run" and str(alive.id) in c.found]
        assert by_name(found)["limit leaked"].level is Level.OK  # a flow runs that may hold it
        assert repaired(stuck).level is Level.OK
        assert client.read_flow_run(dead.id).state.is_crashed()
        for check in [c for c in server_checks(ws, silent_s=0) if c.name == "run"]:
            repaired(check)
        leaked = by_name(server_checks(ws))["limit leaked"]
        assert leaked.level is Level.WARN
        assert repaired(leaked).level is Level.OK
        assert client.read_global_concurrency_limit_by_name("leaked").active_slots == 0
