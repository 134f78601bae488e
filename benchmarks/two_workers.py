"""Two workers that share a Prefect server on PostgreSQL and a workspace on S3; one is killed in the middle.

    python -m benchmarks.two_workers [--films 4] [--apart] [--json FILE]

Each worker has a cache of its own and knows of the other only through the server and the workspace's URL.
With ``--apart`` (root only) each also has a host name and a PID namespace of its own, so that neither can ask
whether the other's processes live: a lease then ends with its heartbeat. While one curates, the other fetches
more films; the one that curates is killed with all its processes, and curate is run again. The catalog in the
end is compared with that of an undisturbed run in a folder.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.object_store import object_store
from benchmarks.postgres import binaries, postgres
from data_catalog import Workspace, canonical
from flows._server import prefect_api
from sage_core.world import build_scene, camera_path
from sage_core.world.videos import Shot, write_shots

ROOT = Path(__file__).resolve().parent.parent
POOL = "mining"
SETTINGS = {
    "run": {"workers": 1, "max_failed_share": 1.0},
    "curate": {"min_duration_s": 3, "min_clip_s": 2, "max_flat_share": 1},
}
STAGES = ("acquire", "curate", "reconstruct", "assemble")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--films", type=int, default=4)
    parser.add_argument("--apart", action="store_true")
    parser.add_argument("--stages", default=",".join(STAGES))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="two-workers-") as folder:
        result = run(Path(folder), arguments.films, arguments.apart, arguments.stages.split(","))
    print(json.dumps(result, indent=1))
    if arguments.json:
        with arguments.json.open("a") as file:
            file.write(json.dumps(result) + "\n")
    sys.exit(not result["equal_to_undisturbed"])


def run(folder: Path, count: int, apart: bool, stages: list[str]) -> dict[str, Any]:
    films = _films(folder / "films", 2 * count)
    os.environ["SAGE_CACHE"] = str(folder / "cache-of-the-operator")
    os.environ["PREFECT_HOME"] = str(folder / "prefect")
    with ExitStack() as stack:
        store = stack.enter_context(object_store())
        database = "sqlite"
        if binaries():
            os.environ["PREFECT_API_DATABASE_CONNECTION_URL"] = stack.enter_context(postgres())
            database = "postgresql"
        stack.enter_context(prefect_api(folder))
        url = store.url("night")
        ws = Workspace.open(url)
        _deploy(url)
        workers = {name: _worker(folder, name, apart) for name in ("one", "two")}
        stack.callback(lambda: [_kill(worker) for worker in workers.values()])
        told = _two_at_once(ws, films, count, workers)
        for stage in stages[1:]:
            told[f"{stage} again"] = _until_completed(stage, url)
        return {
            "database": database,
            "workers": "own host names and PID namespaces" if apart else "processes",
            "films": len(films),
            **told,
            "requests_to_s3": len(store.requests),
            **_compared(ws, folder, films, stages),
        }


def _until_completed(stage: str, workspace: str) -> str:
    """Run a stage as often as it takes: it is refused while the dead worker's lease lasts."""
    refusals, since = 0, time.monotonic()
    while not (state := _ended(_start(stage, workspace))).startswith("Completed"):
        refusals += 1
        assert refusals < 20, state
        time.sleep(20)
    waited = f", {refusals} times refused in {time.monotonic() - since:.0f} s" if refusals else ""
    return state + waited


def _two_at_once(
    ws: Workspace, films: list[Path], count: int, workers: dict[str, subprocess.Popen[bytes]]
) -> dict[str, Any]:
    """Curate some films while others are fetched; kill the worker that curates."""
    first, rest = [str(film) for film in films[:count]], [str(film) for film in films[count:]]
    told: dict[str, Any] = {"acquire": _ended(_start("acquire", ws.address, sources=first))}
    curating = _start("curate", ws.address)
    fetching = _start("acquire", ws.address, sources=rest)
    while not (done := ws.catalog.latest("curate")):
        time.sleep(0.2)
    victim = next(name for name in workers if _runs(workers[name], curating))
    _kill(workers[victim])
    told["killed"] = (
        f"the worker with curate, after {len({e.parent or e.item for e in done})} videos"
    )
    told["acquire meanwhile"] = _ended(fetching)
    told["curate, as its server has it"] = _state(curating)
    return told


def _compared(ws: Workspace, folder: Path, films: list[Path], stages: list[str]) -> dict[str, Any]:
    settings = folder / "settings.json"
    settings.write_text(json.dumps(SETTINGS))
    command = [sys.executable, "-m", "flows.cli", "run", "-w", folder / "undisturbed"]
    command += ["--stages", ",".join(stages), "--config", settings, *films]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    frame = ws.catalog.frame(all=True)
    keys = frame[["stage", "item", "attempt"]].apply(tuple, axis=1)
    return {
        "events": len(frame),
        "doubled_attempts": int(keys.duplicated().sum()),
        "items_judged_twice": int((frame["attempt"] > 1).sum()),
        "equal_to_undisturbed": canonical(ws) == canonical(Workspace.open(folder / "undisturbed")),
    }


def _films(folder: Path, count: int) -> list[Path]:
    folder.mkdir()
    paths = []
    for number in range(count):
        scene = build_scene(71_000 + number, "V")
        motion = "static" if number % 2 else "handheld"
        paths.append(folder / f"film{number}.mp4")
        write_shots([Shot(scene, camera_path(scene, motion, 60, 15, number))], paths[-1], 15)
    return paths


def _deploy(workspace: str) -> None:
    command = [sys.executable, "-m", "flows.cli", "deploy", "--workspace", workspace]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)


def _worker(folder: Path, name: str, apart: bool) -> subprocess.Popen[bytes]:
    """A worker of the pool that takes one run at a time."""
    home = folder / f"worker-{name}"
    home.mkdir()
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--limit", "1"]
    command += ["--name", name]
    if apart:
        inside = f"hostname worker-{name} && exec " + " ".join(command)
        command = [
            "unshare",
            "--uts",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "sh",
            "-c",
            inside,
        ]
    keep_out = ("PREFECT_HOME", "PREFECT_API_DATABASE_CONNECTION_URL")
    environment = {key: value for key, value in os.environ.items() if key not in keep_out}
    environment |= {
        "SAGE_CACHE": str(home),
        "PREFECT_HOME": str(home / "prefect"),
        "PYTHONPATH": str(ROOT),
    }
    environment |= {"OMP_NUM_THREADS": "1", "PREFECT_WORKER_QUERY_SECONDS": "2"}
    with (home / "log").open("wb") as log:
        return subprocess.Popen(
            command, cwd=home, env=environment, stdout=log, stderr=log, start_new_session=True
        )


def _runs(worker: subprocess.Popen[bytes], run: Any) -> bool:
    import psutil

    def has_it(process: psutil.Process) -> bool:
        try:
            return process.environ().get("PREFECT__FLOW_RUN_ID") == str(run.id)
        except psutil.Error:
            return False

    return any(map(has_it, psutil.Process(worker.pid).children(recursive=True)))


def _kill(worker: subprocess.Popen[bytes]) -> None:
    """SIGKILL a worker and all that it has started, as when its machine loses power."""
    import psutil

    try:
        family = [psutil.Process(worker.pid), *psutil.Process(worker.pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in family:
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    worker.wait()


def _start(stage: str, workspace: str, **more: Any) -> Any:
    from prefect.deployments import run_deployment

    parameters = {"workspace": workspace, "config": SETTINGS, **more}
    return run_deployment(f"{stage}/{stage}", parameters=parameters, timeout=0)


def _ended(run: Any) -> str:
    """The state in which a run ended, and the seconds that it took."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        while not (found := client.read_flow_run(run.id)).state.is_final():
            time.sleep(0.5)
    seconds = found.total_run_time.total_seconds()
    return f"{found.state.name} after {seconds:.0f} s: {found.state.message}"


def _state(run: Any) -> str:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return str(client.read_flow_run(run.id).state.name)


if __name__ == "__main__":
    main()
