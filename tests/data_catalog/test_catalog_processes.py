"""Several real processes on one workspace: appending, compacting, dying, taking over."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import catalog_workers as workers
import pytest
from catalog_workers import CONTEXT, event

from data_catalog import LeaseHeld, LeaseLost, Workspace, _files, _lease, _process
from data_catalog._catalog import Catalog

Spawn = Callable[..., BaseProcess]


def wait_for(path: Path, process: BaseProcess) -> None:
    while not path.exists():
        process.join(0.005)
        assert process.is_alive(), f"died with {process.exitcode}"


def test_appends_and_compactions_at_once_lose_and_double_nothing(
    ws: Workspace, spawn: Spawn, tmp_path: Path
) -> None:
    stop = tmp_path / "stop"
    writers = [spawn(workers.append_many, ws.root, ["shared", f"own{n}"], 25) for n in range(3)]
    compactor = spawn(workers.compact_until, ws.root, stop)
    seen = 0
    while any(writer.is_alive() for writer in writers):
        found = ws.catalog.find("shared", "curate")
        now = found.sequence if found else 0
        assert now >= seen
        seen = now
        sequences = sorted(e["sequence"] for e in shared_rows(ws))
        assert sequences == list(range(1, len(sequences) + 1))
        assert len(sequences) >= seen
    stop.touch()
    compactor.join()
    assert [process.exitcode for process in (*writers, compactor)] == [0, 0, 0, 0]
    rows = shared_rows(ws)
    assert sorted(row["sequence"] for row in rows) == list(range(1, 76))
    assert set(Counter(row["message"].split("-")[0] for row in rows).values()) == {25}
    assert [e.sequence for e in Catalog(ws.store).latest()] == [25, 25, 25, 75]


def shared_rows(ws: Workspace) -> list[dict[str, object]]:
    frame = ws.catalog.frame(all=True)
    return frame[frame["item"] == "shared"].to_dict("records")


def test_kill_while_appending(ws: Workspace, spawn: Spawn, tmp_path: Path) -> None:
    for round_ in range(3):
        told = tmp_path / f"told{round_}"
        process = spawn(workers.append_until_killed, ws.root, told)
        wait_for(told, process)
        process.kill()
        process.join()
        frame = Catalog(ws.store).frame(all=True)
        pairs = Counter("a" if item == "a" else "b" for item in frame["item"])
        assert pairs["a"] == pairs["b"]
        sequences = sorted(frame[frame["item"] == "a"]["sequence"])
        assert sequences == list(range(1, len(sequences) + 1))
        assert len(sequences) >= int(told.read_text() or 0) + 1


def killed_at_each_step(
    work: Callable[[Path, Path], None],
    check: Callable[[Workspace, str], None],
    tmp_path: Path,
    spawn: Spawn,
    stride: int,
) -> int:
    """Kill a fresh run before one write after the other until it gets through."""
    for step in range(0, 500, stride):
        root, told = tmp_path / f"ws{step}", tmp_path / f"told{step}"
        Workspace.open(root)
        process = spawn(workers.killed_at, step, work, root, told)
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        check(Workspace.open(root), told.read_text() if told.exists() else "")
        if process.exitcode == 0:
            return step
    raise AssertionError("it never got through")


EVERY = pytest.mark.parametrize("stride", [4, pytest.param(1, marks=pytest.mark.slow)])


@EVERY
def test_kill_before_every_single_write_of_append_and_compaction(
    tmp_path: Path, spawn: Spawn, stride: int
) -> None:
    def check(ws: Workspace, told: str) -> None:
        acknowledged = int(told or 0)
        for catalog in (ws.catalog, Catalog(ws.store)):
            whole(catalog, acknowledged)
        count = len(ws.catalog.frame(all=True))
        ws.catalog.append([event("a"), event("after")])
        ws.catalog.compact()
        frame = Catalog(ws.store).frame(all=True)
        assert len(frame) == count + 2
        assert sorted(frame[frame["item"] == "a"]["sequence"]) == list(range(1, count // 2 + 2))
        _files.sweep(ws.root / "catalog/tmp")
        assert not list((ws.root / "catalog/tmp").iterdir())
        files = {
            file.name.split("-")[0] for file in (ws.root / "catalog/events/stage=curate").iterdir()
        }
        assert len(list((ws.root / "catalog/events/stage=curate").iterdir())) == 2
        assert files == {"part", "_generation"}

    def whole(catalog: Catalog, acknowledged: int) -> None:
        frame = catalog.frame(all=True)
        messages = [int(m) for m in frame[frame["item"] == "a"]["message"]]
        assert sorted(messages) == list(range(len(messages)))
        assert acknowledged <= len(messages) <= acknowledged + 1
        assert len(frame) == 2 * len(messages)
        assert len(catalog.latest()) == len(messages) + bool(messages)

    assert killed_at_each_step(workers.append_and_compact, check, tmp_path, spawn, stride) > 25


@EVERY
def test_kill_before_every_single_write_of_publishing(
    tmp_path: Path, spawn: Spawn, stride: int
) -> None:
    def check(ws: Workspace, told: str) -> None:
        folder = ws.root / "sfm/clip"
        states = {"": (None, "one"), "one": ("one", "two"), "two": ("two",)}[told]
        contents = {file.read_text() for file in folder.iterdir()} if folder.exists() else {None}
        assert len(contents) == 1
        assert contents <= set(states)
        assert not folder.exists() or len(list(folder.iterdir())) == 2
        ws.store.sweep()
        assert not list((ws.root / "scratch").iterdir())

    assert killed_at_each_step(workers.publish_twice, check, tmp_path, spawn, stride) > 15


def test_a_dead_runners_lease_is_taken_over_a_living_ones_not(
    ws: Workspace, spawn: Spawn, tmp_path: Path
) -> None:
    process = spawn(workers.hold_lease, ws.root, tmp_path / "told")
    wait_for(tmp_path / "told", process)
    holder = rf"the first run \(process {process.pid} on"
    with pytest.raises(LeaseHeld, match=holder), ws.catalog.lease("curate", "the second run"):
        pass
    with ws.catalog.lease("acquire", "another stage"):
        pass
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with ws.catalog.lease("curate", "the second run") as lease:
        lease.check()
        with pytest.raises(LeaseHeld, match="second"), ws.catalog.lease("curate", "the third run"):
            pass
    assert not list((ws.root / "catalog/leases").iterdir())


def test_a_dead_process_is_dead_before_its_parent_has_noticed() -> None:
    with subprocess.Popen(["sleep", "600"]) as child:
        start = _process._start(child.pid)
        assert start is not None
        process = _process.Process(_process.Process.current().host, child.pid, start)
        assert process.is_dead() is False
        assert _process.Process.parse(f"{process.tag}-x.parquet") == process
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert process.is_dead() is True


def test_a_stopped_runner_is_alive(ws: Workspace, spawn: Spawn, tmp_path: Path) -> None:
    process = spawn(workers.hold_lease, ws.root, tmp_path / "told")
    wait_for(tmp_path / "told", process)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGSTOP)
    os.utime(ws.root / "catalog/leases/curate.json", (0, 0))
    with pytest.raises(LeaseHeld), ws.catalog.lease("curate", "the second run"):
        pass


def test_one_of_many_successors_gets_the_lease(ws: Workspace, spawn: Spawn, tmp_path: Path) -> None:
    dead = spawn(workers.hold_lease, ws.root, tmp_path / "told")
    wait_for(tmp_path / "told", dead)
    dead.kill()
    dead.join()
    barrier, outcomes = CONTEXT.Barrier(4), CONTEXT.Queue()
    rivals = [spawn(workers.contend, ws.root, barrier, outcomes) for _ in range(4)]
    found = sorted(outcomes.get() for _ in rivals)
    assert found == ["held", "refused", "refused", "refused"]


def elsewhere(path: Path, heartbeat: float | None) -> None:
    """Make the lease look as if its holder ran on a host that cannot be asked."""
    data = json.loads(path.read_text())
    data["process"]["host"] = "ffffffffffff"
    path.write_text(json.dumps(data))
    if heartbeat is not None:
        os.utime(path, (heartbeat, heartbeat))


def test_another_hosts_lease_ends_with_its_heartbeat(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_lease, "HEARTBEAT_S", 1000.0)
    path = ws.root / "catalog/leases/curate.json"
    with ws.catalog.lease("curate", "there"):
        elsewhere(path, None)
        with pytest.raises(LeaseHeld), ws.catalog.lease("curate", "here"):
            pass
        fresh = path.stat().st_mtime
        os.utime(path, (fresh - 30, fresh - 30))
        with pytest.raises(LeaseHeld), ws.catalog.lease("curate", "here"):
            pass
        os.utime(path, (fresh - 120, fresh - 120))
        with Catalog(ws.store).lease("curate", "here") as lease:
            lease.check()


def test_a_reused_process_id_is_not_its_holder(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ws.root / "catalog/leases/curate.json"
    with ws.catalog.lease("curate", "before"):
        data = json.loads(path.read_text())
        data["process"]["start"] -= 1
        path.write_text(json.dumps(data))
        with Catalog(ws.store).lease("curate", "after") as lease:
            lease.check()


def test_the_heart_beats(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_lease, "HEARTBEAT_S", 0.01)
    path = ws.root / "catalog/leases/curate.json"
    with ws.catalog.lease("curate", "me"):
        os.utime(path, (0, 0))
        while path.stat().st_mtime == 0:  # pytest's own time limit ends it, should it never beat
            pass


def test_who_lost_the_lease_can_record_nothing_and_leaves_the_successors_alone(
    ws: Workspace, spawn: Spawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_lease, "HEARTBEAT_S", 1000.0)
    path = ws.root / "catalog/leases/curate.json"
    with ws.catalog.lease("curate", "the first run") as lease:
        ws.catalog.append([event("a", message="first")])
        elsewhere(path, 0.0)
        successor = spawn(workers.take_over_and_append, ws.root)
        successor.join()
        assert successor.exitcode == 0
        with pytest.raises(LeaseLost, match="the second run"):
            lease.check()
        with pytest.raises(LeaseLost):
            ws.catalog.append([event("a", message="too late", attempt=9)])
        ws.catalog.append([event("a", stage="assemble")])
    assert json.loads(path.read_text())["owner"] == "the second run"
    assert [e.message for e in ws.catalog.latest("curate")] == ["second"]


FULL_DISK = """
import errno, pathlib, sys
from data_catalog import StageEvent, Workspace
root = pathlib.Path(sys.argv[1])
ws = Workspace.open(root / "ws")
def event(item, **fields):
    return StageEvent(**({"item": item, "stage": "curate", "verdict": "accepted"} | fields))
with ws.catalog.lease("curate", "me"):
    kept = ws.store.write_bytes("videos/v0/source.mp4", b"x" * 100_000)
    before = sorted(p for p in ws.root.rglob("*"))
    source = pathlib.Path(sys.argv[2])
    for attempt in (lambda: ws.store.write_bytes("videos/v1/source.mp4", b"y" * 8_000_000),
                    lambda: ws.store.publish(source, "videos/v2")):
        try:
            attempt()
        except OSError as error:
            assert error.errno == errno.ENOSPC, error
        else:
            raise AssertionError("there was room")
    assert sorted(p for p in ws.root.rglob("*")) == before, "something was left"
    with open(root / "ballast", "wb", buffering=0) as file:
        try:
            while True:
                file.write(b"z" * 4096)
        except OSError:
            pass
    ws.catalog.append([event("v1", verdict="failed", reason="disk_full", retryable=True)])
    assert ws.catalog.find("v1", "curate").reason == "disk_full"
    assert ws.store.verify(kept, deep=True)
"""


def test_a_full_disk_leaves_nothing_behind_and_still_gets_its_verdict(tmp_path: Path) -> None:
    mount, source = tmp_path / "small", tmp_path / "big"
    mount.mkdir()
    source.mkdir()
    (source / "0.jpg").write_bytes(b"a" * 1000)
    (source / "1.jpg").write_bytes(b"a" * 8_000_000)
    script = tmp_path / "fill.py"
    script.write_text(textwrap.dedent(FULL_DISK))
    if subprocess.run(
        ["unshare", "-rm", "mount", "-t", "tmpfs", "none", mount], check=False
    ).returncode:
        pytest.skip("this system lets no user mount a small tmpfs")
    command = 'mount -t tmpfs -o size=7m none "$1" && exec "$2" "$3" "$1" "$4"'
    arguments = [mount, sys.executable, script, source]
    subprocess.run(["unshare", "-rm", "sh", "-c", command, "sh", *arguments], check=True)
