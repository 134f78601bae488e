"""The whole DAG on a real server: run, ask, run again for nothing; killed at each stage and run again."""

import hashlib
import json
import os
import random
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from benchmarks.faults import Night, run_once
from benchmarks.small_night import PYTHON_BIN, write_films, write_settings
from data_catalog import Workspace, canonical
from sage_core.types import Stage

pytestmark = [pytest.mark.slow, pytest.mark.server, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def night(tmp_path_factory, prefect_server):
    """Films, settings, and a workspace in which a night has run undisturbed."""
    folder = tmp_path_factory.mktemp("night")
    films, settings = write_films(folder / "films"), write_settings(folder)
    done = start(folder / "whole", settings, prefect_server, "run", films)
    output = done.communicate(timeout=900)[0]
    assert done.returncode == 0, output
    return folder, films, settings, output


def start(workspace, settings, server, *words):
    command = [PYTHON_BIN / "sage", *words, "--workspace", workspace, "--config", settings]
    return subprocess.Popen(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PREFECT_API_URL": f"{server}/api", "COLUMNS": "200"},
    )


def verdicts(workspace):
    return {(e.item, e.stage): e for e in Workspace.open(workspace, create=False).catalog.latest()}


def test_every_item_has_the_right_verdict(night):
    folder = night[0]
    events = verdicts(folder / "whole").values()
    by_name = {
        (Path(e.source).name, e.stage): (e.verdict, e.reason) for e in events if not e.parent
    }
    assert by_name[("no_film.mp4", "acquire")][0] != "accepted"
    assert by_name[("walk.mp4", "curate")] == ("accepted", None)
    assert by_name[("tripod.mp4", "curate")] == ("rejected", "static_camera")
    for stage in (Stage.RECONSTRUCT, Stage.ASSEMBLE, Stage.ADAPT, Stage.EVALUATE):
        assert [e.verdict for e in events if e.stage == stage] == ["accepted"], stage


def test_a_second_run_does_nothing_and_says_so(night, prefect_server):
    folder, films, settings, _ = night
    before = canonical(Workspace.open(folder / "whole", create=False))
    again = start(folder / "whole", settings, prefect_server, "run", films)
    output = again.communicate(timeout=300)[0]
    assert again.returncode == 0
    assert "nothing to do" in output
    assert canonical(Workspace.open(folder / "whole", create=False)) == before
    assert all(e.attempt == 1 for e in verdicts(folder / "whole").values())


def test_items_and_status_speak_json(night, sage):
    folder, _, _, _ = night
    items = json.loads(sage("items", "-w", folder / "whole", "--json").stdout)
    wanted = {"item", "parent", "source", "stage", "verdict", "reason", "figures", "attempt"}
    assert all(wanted | {"seconds"} <= set(item) for item in items)
    only = json.loads(
        sage(
            *("items", "-w", folder / "whole", "--stage", "curate"),
            *("--verdict", "rejected", "--json"),
        ).stdout
    )
    assert {i["reason"] for i in only if i["parent"] is None} == {"static_camera"}
    assert json.loads(sage("status", "-w", folder / "whole", "--json").stdout)


def test_killed_at_each_stage_it_ends_as_if_it_never_was(night, prefect_server):
    folder, films, settings, _ = night
    broken, rng = folder / "broken", random.Random(20260)
    for stage in Stage:
        words = (stage.value, films) if stage is Stage.ACQUIRE else (stage.value,)
        kill_at_work(start(broken, settings, prefect_server, *words), rng.uniform(0.0, 1.5))
        done = start(broken, settings, prefect_server, *words)
        output = done.communicate(timeout=600)[0]
        assert done.returncode == 0, output
    whole, again = (Workspace.open(folder / name, create=False) for name in ("whole", "broken"))
    assert canonical(again) == canonical(whole)
    assert checksums(again.root / "shards") == checksums(whole.root / "shards")


def test_hit_by_the_harness_of_faults_it_ends_equal(night):
    folder, films, settings, _ = night
    outcome = run_once(1, "kill", Night(settings, str(films)), folder / "whole")
    assert (outcome.equal, outcome.commands) == (True, 2), outcome
    assert not outcome.hit.startswith("nothing"), outcome


def kill_at_work(command, delay):
    """Kill the command a moment after its first worker started; let nothing of it live on."""
    process = psutil.Process(command.pid)
    deadline = time.monotonic() + 300
    while command.poll() is None and not any(map(is_worker, process.children(recursive=True))):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(delay)
    workers = [] if command.poll() is not None else process.children(recursive=True)
    command.kill()
    command.communicate()
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert not alive, "workers outlived the run that was killed"


def is_worker(process):
    try:
        return any("sage_core" in word for word in process.cmdline())
    except psutil.Error:
        return False


def checksums(folder):
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted(folder.iterdir())}
