import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from sage_core.errors import MediaError, SageError, SandboxError
from sage_core.sandbox import Limits, call, metered, run
from sage_core.types import Reason

HERE = str(Path(__file__).parent)


@pytest.fixture(autouse=True)
def _children_importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", HERE)


def child(name, limits=None, **arguments):
    return call(f"sandbox_children:{name}", arguments, limits or Limits(wall_s=120))


def test_result_comes_back():
    assert child("double", value=21) == {"value": 42}


def test_time_limit_stops_the_child():
    with pytest.raises(SandboxError, match=r"time limit of 0\.5 s") as caught:
        child("hang", Limits(wall_s=0.5))
    assert caught.value.reason is Reason.TIME_LIMIT


def test_memory_limit_stops_the_child():
    with pytest.raises(SandboxError, match="MiB of memory") as caught:
        child("grow", Limits(wall_s=120, memory_mb=200))
    assert caught.value.reason is Reason.MEMORY_LIMIT


def test_a_crash_is_an_error_that_names_the_signal():
    with pytest.raises(SandboxError, match="SIGSEGV") as caught:
        child("die")
    assert caught.value.reason is Reason.CRASHED


def test_a_named_error_keeps_its_kind_and_reason():
    with pytest.raises(MediaError, match=r"no picture in x\.mp4") as caught:
        child("refuse")
    assert caught.value.reason is Reason.NOT_VIDEO


def test_a_foreign_error_says_its_type():
    with pytest.raises(SageError, match="ValueError: seven") as caught:
        child("stumble")
    assert caught.value.reason is Reason.INTERNAL_ERROR


def test_what_children_use_is_metered():
    with metered() as usage:
        child("burn")
    assert usage.cpu_s > 0
    assert usage.peak_mb > 5


def test_program_status_other_than_zero_is_an_error_with_its_log():
    with pytest.raises(SandboxError, match="no such"):
        run(["sh", "-c", "echo no such thing >&2; exit 3"], Limits(wall_s=120))


def test_what_a_child_leaves_behind_is_killed(tmp_path):
    child("leave_orphan", path=str(tmp_path / "pid"))
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 120
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the grandchild outlived its group"
        time.sleep(0.05)


@pytest.mark.skipif(sys.platform != "linux", reason="needs PR_SET_PDEATHSIG")
def test_children_die_with_a_killed_parent(tmp_path):
    code = (
        "from sage_core.sandbox import run, Limits\n"
        f"run(['sh', '-c', 'echo $$ > {tmp_path}/pid; exec sleep 600'], Limits(wall_s=60))\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 120
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    pid = int((tmp_path / "pid").read_text())
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the child outlived its parent"
        time.sleep(0.05)


def test_process_1_of_a_container_has_children_too():
    alone = ["unshare", "--user", "--map-root-user", "--pid", "--fork"]
    if shutil.which("unshare") is None or subprocess.run([*alone, "true"], check=False).returncode:
        pytest.skip("needs unshare and namespaces, to be process 1 somewhere")
    code = (
        "import os; from sage_core.sandbox import Limits, call\n"
        "print(os.getpid(), call('sandbox_children:double', {'value': 21}, Limits(wall_s=60)))"
    )
    done = subprocess.run(
        [*alone, sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "1 {'value': 42}", done.stderr
