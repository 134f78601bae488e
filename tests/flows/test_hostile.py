"""Whatever is thrown at the command ``sage`` ends in words: a verdict, or an exit status that says why."""

import errno
import functools
import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time

import psutil
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from typer.testing import CliRunner

from benchmarks.small_night import PYTHON_BIN
from data_catalog import LeaseHeld, StageEvent, Workspace
from flows import _show
from flows._progress import in_words, literal
from flows._stage import courtesy
from flows._summary import StageSummary, describe
from flows.cli import app
from flows.report import write_report
from sage_core import sandbox
from sage_core.errors import SandboxError
from sage_core.types import Reason, Stage, Verdict
from sage_core.video.ffmpeg import ffmpeg_exe

SAGE = PYTHON_BIN / "sage"
ESCAPE, MARKUP, HALF = "\x1b[31mred\x07", "[red]x[/] [/] :smile:", "\udce9\ud800"
HOSTILE = f"{ESCAPE}{MARKUP}\u202e{HALF}<script>alert(1)</script>\nnext"


def film(target, seconds=2):
    """A test picture that moves; not footage, but a sound video."""
    picture = f"testsrc2=s=640x480:r=10:d={seconds}"
    options = ("-pix_fmt", "yuv420p", "-c:v", "libx264", "-g", "10", "-threads", "1")
    command = [ffmpeg_exe(), "-v", "error", "-y", "-f", "lavfi", "-i", picture, *options, target]
    subprocess.run([os.fsencode(word) for word in command], check=True, stdin=subprocess.DEVNULL)
    return target


def rejected(item="v0", **fields):
    known = {"verdict": "rejected", "reason": "not_video", "source": HOSTILE, "message": HOSTILE}
    return StageEvent(item=item, stage="acquire", **known | fields)


def hostile_workspace(root):
    ws = Workspace.open(root)
    figures = {
        "not_a_number": {"value": float("nan"), "threshold": 1.0, "rule": ">="},
        "infinite": {"value": float("inf"), "threshold": 3, "rule": "<="},
        "held": {"value": 5, "threshold": 3, "rule": ">="},
        "words": {"value": "x", "threshold": "y", "rule": ">="},
        "nothing": {"value": None, "threshold": None, "rule": None},
    }
    ws.catalog.append([rejected(figures=figures, details={"title": HOSTILE})])
    return ws


def shown(capsys, *arguments, **options):
    _show.console = Console(width=400)
    _show.items(*arguments, **options)
    return capsys.readouterr().out


# What is shown


def test_hostile_text_is_shown_and_not_obeyed(tmp_path, capsys):
    hostile_workspace(tmp_path)
    text = shown(capsys, tmp_path, None, None, None, as_json=False)
    assert not {"\x1b", "\x07", "\u202e"} & set(text)
    assert "[/] :smile:" in text
    assert r"\u202e" in text


def test_the_figures_that_decided_are_told_whatever_they_hold(tmp_path, capsys):
    hostile_workspace(tmp_path)
    text = shown(capsys, tmp_path, None, None, None, as_json=False)
    assert "infinite inf, not <= 3; not_a_number nan, not >= 1" in text
    assert "held" not in text
    assert "words" not in text


def test_a_failure_without_figures_tells_its_message(tmp_path, capsys):
    Workspace.open(tmp_path).catalog.append(
        [rejected(verdict="failed", reason="not_found", message="gone\nand more")]
    )
    text = shown(capsys, tmp_path, Stage.ACQUIRE, Verdict.FAILED, Reason.NOT_FOUND, as_json=False)
    assert "gone" in text
    assert "and more" not in text


def test_items_as_json_are_nothing_but_json(tmp_path, capsys):
    hostile_workspace(tmp_path)
    (item,) = json.loads(shown(capsys, tmp_path, None, None, None, as_json=True))
    assert item["figures"]["not_a_number"]["value"] == "nan"
    assert item["details"]["title"] == HOSTILE


def test_hostile_text_stays_text_in_the_report(tmp_path):
    hostile_workspace(tmp_path)
    page = write_report(tmp_path).read_text()
    assert "<script>alert(1)" not in page
    assert "\x1b" not in page


def test_a_report_for_a_folder_is_its_index(tmp_path):
    hostile_workspace(tmp_path / "ws")
    assert write_report(tmp_path / "ws", tmp_path) == tmp_path / "index.html"


def test_literal_text_is_one_line_of_printable_characters():
    assert literal(HOSTILE).plain.isprintable()
    assert literal("plain ünï 空 😀").plain == "plain ünï 空 😀"


# What is said of errors


def test_errors_are_told_in_words():
    assert "disk is full" in in_words(OSError(errno.ENOSPC, "x"))
    assert in_words(LeaseHeld("held by ann")) == "held by ann"
    assert in_words(OSError(errno.EROFS, "Read-only", "/a/b")) == "/a/b: Read-only"
    assert in_words(KeyError("k")) == "KeyError: 'k'"


def test_what_the_ui_cannot_be_told_stops_nothing(capsys):
    with courtesy("progress"):
        raise ConnectionError("no server")


def test_a_stage_that_broke_off_says_so():
    assert "broke off" in describe(StageSummary("curate", broken=["x"]))
    both = StageSummary("curate", {"accepted": 1}, broken=["x"])
    assert "1 accepted, 1 WITHOUT A VERDICT" in describe(both)
    assert not both.within(1.0)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("SQLite error: database or disk is full", Reason.DISK_FULL),
        ("cannot write: No space left on device", Reason.DISK_FULL),
        ("no such luck", Reason.CRASHED),
    ],
)
def test_a_child_that_dies_of_a_full_disk_says_so(words, reason):
    with pytest.raises(SandboxError) as caught:
        sandbox.run(["sh", "-c", f"echo '{words}'; kill -ABRT $$"], sandbox.Limits(60))
    assert caught.value.reason is reason
    assert caught.value.retryable is (reason is Reason.DISK_FULL)


def test_a_child_without_memory_says_so():
    command = ["sh", "-c", "echo std::bad_alloc; kill -ABRT $$"]
    with pytest.raises(SandboxError) as caught:
        sandbox.run(command, sandbox.Limits(60))
    assert caught.value.reason is Reason.MEMORY_LIMIT


def test_what_a_child_says_at_its_death_is_the_same_each_time():
    said = "[mov @ 0x55d40f53] bad; *** Aborted at 17953 (unix time) PC: @ 0x7f4b by PID 29739"
    with pytest.raises(SandboxError) as caught:
        sandbox.run(["sh", "-c", f"echo '{said}'; exit 3"], sandbox.Limits(60))
    assert str(caught.value) == "sh ended with status 3. [mov] bad;"


# What is refused


def newer(folder):
    Workspace.open(folder)
    mark = folder / "workspace.json"
    mark.write_text(json.dumps(json.loads(mark.read_text()) | {"version": 99}))


def damaged(folder):
    Workspace.open(folder)
    (folder / "workspace.json").write_text("nonsense")


@pytest.mark.parametrize(
    ("prepare", "words", "teaches"),
    [
        (lambda f: f.write_text(""), ["run", "-w", "{w}", "x.mp4"], "is a file: name a folder"),
        (None, ["run", "-w", "/proc/none", "x.mp4"], "cannot be a workspace"),
        (None, ["run", "-w", "{w}\udce9", "x.mp4"], "is not UTF-8"),
        (None, ["run", "-w", "{w}", "x.mp4", "--stages", ""], "names none: stages are acquire"),
        (None, ["run", "-w", "{w}", "x.mp4", "-s", "run.seed=[red]x[/]"], "[red]x[/]"),
        (None, ["run", "-w", "x[/]y"], "x[/]y holds nothing yet"),
        (newer, ["run", "-w", "{w}", "x.mp4"], "made by a newer SAGE"),
        (newer, ["items", "-w", "{w}", "--json"], "made by a newer SAGE"),
        (damaged, ["status", "-w", "{w}"], "is damaged"),
        (damaged, ["run", "-w", "{w}"], "is damaged"),
        (damaged, ["export", "colmap", "-w", "{w}", "--out", "{w}/x"], "is damaged"),
    ],
)
def test_what_cannot_be_worked_with_is_wrong_usage(tmp_path, prepare, words, teaches):
    workspace = tmp_path / "w"
    if prepare:
        prepare(workspace)
    done = CliRunner().invoke(app, [word.format(w=workspace) for word in words])
    assert done.exit_code == 2, done.exception
    assert teaches in " ".join(done.stderr.split())
    assert done.stdout == ""


def test_settings_that_are_no_text_are_wrong_usage(tmp_path):
    (tmp_path / "noise.yaml").write_bytes(b"\xc7\xff\x00")
    done = CliRunner().invoke(app, ["config", "show", "-c", str(tmp_path / "noise.yaml")])
    assert done.exit_code == 2, done.exception
    assert "no UTF-8 text" in done.stderr


def test_a_log_of_a_newer_sage_is_named(tmp_path):
    ws = hostile_workspace(tmp_path)
    (file,) = (ws.root / "catalog/events/stage=acquire").glob("event-*.parquet")
    table = pq.read_table(file)
    pq.write_table(table.replace_schema_metadata({"sage.catalog.version": "99"}), file)
    done = subprocess.run([SAGE, "status", "-w", tmp_path], capture_output=True, text=True)
    assert done.returncode == 1
    assert "catalog version 99" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_named_as_a_preset_does_not_hide_it(tmp_path, monkeypatch):
    (tmp_path / "demo").mkdir()
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, ["config", "show", "-c", "demo"]).exit_code == 0


def test_a_server_that_is_not_there_is_named(sage, tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/api"
        done = sage("run", "-w", tmp_path / "w", "x.mp4", PREFECT_API_URL=url)
    assert done.returncode == 2
    assert "does not answer" in done.stderr


def test_a_narrow_terminal_without_unicode_keeps_the_ids_whole(sage, tmp_path):
    hostile_workspace(tmp_path).catalog.append([rejected(item="v0123456789abcdef")])
    done = sage("items", "-w", tmp_path, PYTHONIOENCODING="ascii", COLUMNS="60")
    assert done.returncode == 0, done.stderr
    assert "v0123456789abcdef" in done.stdout
    none = sage("items", "-w", tmp_path, "--reason", "nosuch")
    assert (none.returncode, "is not one of" in none.stderr) == (2, True)


# Whole runs


@pytest.fixture
def served(tmp_path):
    """A folder, and its URL: numbers are answered with that HTTP status."""
    folder = tmp_path / "site"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            name = self.path.strip("/").removesuffix(".mp4")
            return self.send_error(int(name)) if name.isdecimal() else super().do_GET()

        def log_message(self, *arguments): ...

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def by_source(workspace, stage="acquire"):
    events = Workspace.open(workspace, create=False).catalog.latest(stage)
    return {event.source: event for event in events if not event.parent}


SETTINGS = ("-s", "acquire.allow_hosts=[127.0.0.1]", "-s", "acquire.retry_wait_s=0")


def mine(server, workspace, *words):
    """``sage run`` on a server, or with one of its own, as from a shell without other settings."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    if server:
        environment["PREFECT_API_URL"] = f"{server}/api"
    command = [SAGE, "run", "-w", workspace, *words]
    return subprocess.Popen(
        [os.fsencode(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**environment, "COLUMNS": "200"},
        start_new_session=True,
        # A shell starts what runs in its background deaf to Ctrl-C, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def mined(*arguments):
    run = mine(*arguments)
    output = run.communicate(timeout=300)[0]
    assert "Traceback" not in output
    return run.returncode, output


@pytest.mark.slow
@pytest.mark.server
def test_every_bad_source_gets_its_verdict_and_harms_no_other(served, tmp_path, prefect_server):
    site, url = served
    good = film(site / "good.mp4", seconds=4).read_bytes()
    (site / "cut.mp4").write_bytes(good[: len(good) // 2])
    (site / "page.mp4").write_text("<!doctype html><p>hello")
    files = tmp_path / "fi les ü"
    files.mkdir()
    film(files / "\udce9\udcff.mp4", seconds=2)
    film(files / "\x1b[31m[red]x[ ].mp4", seconds=3)
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "loop.mp4").symlink_to(tmp_path / "loop.mp4")
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXTINF:1,\n/etc/passwd\n#EXT-X-ENDLIST\n")
    (tmp_path / "concat.mp4").write_text("ffconcat version 1.0\nfile '/etc/passwd'\n")
    wanted = {
        f"{url}/good.mp4": None,
        f"{url}/404.mp4": Reason.NOT_FOUND,
        f"{url}/429.mp4": Reason.BLOCKED,
        f"{url}/cut.mp4": Reason.TRUNCATED,
        f"{url}/page.mp4": Reason.NOT_VIDEO,
        "http://127.0.0.1:1/dead.mp4": Reason.TRANSIENT,
        f"{files}/\\xe9\\xff.mp4": None,
        f"{files}/\x1b[31m[red]x[ ].mp4": None,
        str(tmp_path / "pipe.mp4"): Reason.BAD_SOURCE,
        str(tmp_path / "loop.mp4"): Reason.BAD_SOURCE,
        str(tmp_path / "list.mp4"): Reason.NOT_VIDEO,
        str(tmp_path / "concat.mp4"): Reason.NOT_VIDEO,
        "[red]x[/]": Reason.BAD_SOURCE,
        "no\\xe9where": Reason.BAD_SOURCE,
    }
    named = [s for s in wanted if not s.startswith(str(files))] + [str(files)]
    named[named.index("no\\xe9where")] = "no\udce9where"
    workspace = tmp_path / "ws ünï 空"
    arguments = (prefect_server, workspace, "--stages", "acquire", *SETTINGS, *named)
    status, output = mined(*arguments)
    assert status == 1, output  # more than a fifth failed
    assert "\x1b" not in output
    found = {source: event.reason for source, event in by_source(workspace).items()}
    assert found == {k: v and v.value for k, v in wanted.items()}
    status, output = mined(*arguments)
    assert status == 0, output
    assert "nothing to do" in output


@pytest.mark.slow
@pytest.mark.server
def test_a_second_run_names_the_first_and_touches_nothing(tmp_path, prefect_server):
    ws = Workspace.open(tmp_path / "ws")
    with ws.catalog.lease("acquire", "ann@night"):
        status, output = mined(prefect_server, ws.root, tmp_path / "any.mp4")
    assert status == 1, output
    assert "is being run by ann@night" in output
    assert "curate" not in output
    assert ws.catalog.latest() == []


@pytest.mark.slow
@pytest.mark.server
def test_ctrl_c_ends_all_that_was_started_and_loses_nothing(tmp_path):
    films = tmp_path / "films"
    films.mkdir()
    for number in range(12):  # the same film, which is time enough for a hand on a keyboard
        shutil.copyfile(films / "0.mp4", films / f"{number}.mp4") if number else film(
            films / "0.mp4"
        )
    run = mine(None, tmp_path / "ws", "--stages", "acquire", films)
    parquet = tmp_path / "ws/catalog/events/stage=acquire"
    deadline = time.monotonic() + 200
    while run.poll() is None and not list(parquet.glob("event-*.parquet")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    children = psutil.Process(run.pid).children(recursive=True)
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does
    output = run.communicate(timeout=60)[0]
    assert run.returncode == 130, output
    assert "the same command goes on" in output
    assert "Traceback" not in output
    assert not psutil.wait_procs(children, timeout=60)[1]
    assert not list((tmp_path / "ws/catalog/leases").iterdir())
    ws = Workspace.open(tmp_path / "ws")
    ws.store.sweep()  # the interrupt may have come while a scratch folder was being removed
    assert not list((tmp_path / "ws/scratch").iterdir())
    assert ws.catalog.latest()


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 8 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)]
    if mount is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here: that takes root")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.slow
@pytest.mark.server
def test_a_full_disk_is_a_verdict_on_every_item_and_passes(small_disk, tmp_path, prefect_server):
    """With a server of the run's own at first, whose database is on the same disk."""
    films, workspace = tmp_path / "films", small_disk / "ws"
    films.mkdir()
    for number in range(3):
        film(films / f"{number}.mp4", seconds=25 + number)
    assert sum(file.stat().st_size for file in films.iterdir()) > 4 << 20
    (films / "text.mp4").write_text("only words")
    whole = ("-s", "run.min_free_gb=0")
    status, output = mined(None, workspace, "--stages", "acquire", *whole, films)
    assert status == 1, output
    assert "is full: free some space" in output
    found = [str(event.reason) for event in by_source(workspace).values()]
    assert len(found) == 4
    assert {"disk_full", "not_video"} <= set(found) <= {"disk_full", "not_video", "None"}
    subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True)
    retry = ("--stages", "acquire", "--retry", "failed", *whole)
    status, output = mined(prefect_server, workspace, *retry)
    assert status == 0, output
    found = sorted(str(event.reason) for event in by_source(workspace).values())
    assert found == ["None", "None", "None", "not_video"]
