import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
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


@pytest.fixture(params=[(), ("sandbox_children",)], ids=["spawned", "forked"])
def child(request):
    """Calls a function in a child of its own, or in one forked from a process with its imports done."""

    def called(name, limits=None, **arguments):
        limits = limits or Limits(wall_s=120)
        return call(f"sandbox_children:{name}", arguments, limits, imports=request.param)

    return called


def test_result_comes_back(child):
    assert child("double", value=21) == {"value": 42}


def test_time_limit_stops_the_child(child):
    with pytest.raises(SandboxError, match=r"time limit of 0\.5 s") as caught:
        child("hang", Limits(wall_s=0.5))
    assert caught.value.reason is Reason.TIME_LIMIT


def test_memory_limit_stops_the_child(child):
    with pytest.raises(SandboxError, match="MiB of memory") as caught:
        child("grow", Limits(wall_s=120, memory_mb=200))
    assert caught.value.reason is Reason.MEMORY_LIMIT


def test_a_crash_is_an_error_that_names_the_signal(child):
    with pytest.raises(SandboxError, match="SIGSEGV") as caught:
        child("die")
    assert caught.value.reason is Reason.CRASHED


def test_a_named_error_keeps_its_kind_and_reason(child):
    with pytest.raises(MediaError, match=r"no picture in x\.mp4") as caught:
        child("refuse")
    assert caught.value.reason is Reason.NOT_VIDEO


def test_a_foreign_error_says_its_type(child):
    with pytest.raises(SageError, match="ValueError: seven") as caught:
        child("stumble")
    assert caught.value.reason is Reason.INTERNAL_ERROR


def test_what_children_use_is_metered(child):
    with metered() as usage:
        child("burn")
    assert usage.cpu_s > 0
    assert usage.peak_mb > 5


def test_program_status_other_than_zero_is_an_error_with_its_log():
    with pytest.raises(SandboxError, match="no such"):
        run(["sh", "-c", "echo no such thing >&2; exit 3"], Limits(wall_s=120))


def test_what_a_child_leaves_behind_is_killed(child, tmp_path):
    child("leave_orphan", path=str(tmp_path / "pid"))
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 120
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the grandchild outlived its group"
        time.sleep(0.05)


def test_a_forked_child_has_what_was_imported_and_its_own_session(child):
    facts = child("facts")
    assert facts["session"] == facts["pid"] != os.getsid(0)
    assert facts["parent"] == os.getpid()
    assert facts["folder"] == str(Path.cwd())


def test_imports_are_done_once(tmp_path, monkeypatch):
    (tmp_path / "slow_import.py").write_text(
        f"import os\nopen({str(tmp_path / 'log')!r}, 'a').write(str(os.getpid()) + chr(10))\n"
        "def pid():\n    return os.getpid()\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    pids = {call("slow_import:pid", {}, Limits(60), imports=("slow_import",)) for _ in range(3)}
    assert len(pids) == 3
    assert len((tmp_path / "log").read_text().split()) == 1


def test_a_broken_import_is_the_calls_error():
    with pytest.raises(SageError, match="ModuleNotFoundError: No module named 'not_there'"):
        call("not_there:work", {}, Limits(60), imports=("not_there",))


def test_an_import_that_crashes_is_reported_by_a_child(tmp_path, monkeypatch):
    (tmp_path / "crashing.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(SandboxError, match="SIGSEGV"):
        call("crashing:work", {}, Limits(60), imports=("crashing",))


def test_a_killed_process_of_imports_is_replaced(child):
    assert child("double", value=1) == {"value": 2}
    for process in psutil.Process().children():
        if process.status() != psutil.STATUS_ZOMBIE and "warm" in process.cmdline():
            process.kill()
    assert child("double", value=2) == {"value": 4}


def test_children_see_the_environment_of_their_call(child, monkeypatch):
    for value in ("one", "two"):
        monkeypatch.setenv("SANDBOX_TEST", value)
        assert child("environment", variable="SANDBOX_TEST") == value


def test_many_threads_have_children_at_once(child):
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda n: child("double", value=n), range(24)))
    assert answers == [{"value": 2 * n} for n in range(24)]


def test_nothing_is_left_of_children(child, tmp_path):
    child("leave_orphan", path=str(tmp_path / "pid"))
    orphan = int((tmp_path / "pid").read_text())
    assert orphan not in [process.pid for process in psutil.Process().children()]


@pytest.mark.skipif(sys.platform != "linux", reason="needs PR_SET_PDEATHSIG")
@pytest.mark.parametrize(
    "start",
    [
        "run(['sh', '-c', 'echo $$ > {pid}; exec sleep 600'], Limits(wall_s=60))",
        "call('sandbox_children:hang', dict(path='{pid}'), Limits(60), imports=('sandbox_children',))",
    ],
    ids=["program", "forked"],
)
def test_children_die_with_a_killed_parent(tmp_path, start):
    code = "from sage_core.sandbox import call, run, Limits\n" + start.format(pid=tmp_path / "pid")
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
