"""The trainer's command line; see :mod:`sage_core.training`.

Exit status: 0 when the run is finished, 1 when it failed (``result.json`` says why), 2 on wrong usage, 74
when the disk is full, 75 when another process trains in the folder, 143 when it was asked to stop and saved
a checkpoint.
"""

from __future__ import annotations

import argparse
import ctypes
import logging
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from sage_core.errors import SageError
from sage_core.training.ending import leave
from sage_core.training.lock import RunHeldError
from sage_core.training.settings import TrainSettings
from sage_core.types import Reason

FULL = 74
STOPPED = 128 + signal.SIGTERM
HELD = 75
logger = logging.getLogger("sage.training")


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    if arguments.parent:
        _die_with(arguments.parent)
    try:
        settings = TrainSettings.read(arguments.settings)
    except SageError as error:
        print(error, file=sys.stderr)
        return 2
    processes = _processes(settings) if arguments.launch else 1
    if processes > 1 or (arguments.launch and settings.adapt.nodes > 1):
        _become_many(processes, settings, arguments)
    logging.basicConfig(format="%(message)s")
    quiet = arguments.quiet or os.environ.get("RANK", "0") != "0"
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    return _trained(settings)


def _trained(settings: TrainSettings) -> int:
    from sage_core.training.engine import Ending
    from sage_core.training.run import train

    try:
        finished = train(settings) is Ending.FINISHED
        if finished:
            logger.info("finished: %s", settings.folder / "model.safetensors")
        else:
            logger.info("stopped, and saved: the same command goes on in %s", settings.folder)
        return 0 if finished else STOPPED
    except SageError as error:
        with suppress(OSError):  # the log may lie on the disk that is full
            print(error, file=sys.stderr)
        if isinstance(error, RunHeldError):
            return HELD
        return FULL if error.reason is Reason.DISK_FULL else 1


def _processes(settings: TrainSettings) -> int:
    if settings.adapt.processes or settings.adapt.device == "cpu":
        return settings.adapt.processes or 1
    import torch

    return max(1, torch.cuda.device_count())


def _become_many(processes: int, settings: TrainSettings, arguments: argparse.Namespace) -> None:
    """Turn this process into ``torch.distributed.run`` with so many trainers on this machine."""
    run = ["-m", "torch.distributed.run", *_meeting(settings), "--nproc-per-node", str(processes)]
    own = ["-m", "sage_core.training", "--settings", str(arguments.settings)]
    options = ["--parent", str(os.getpid()), *(["--quiet"] if arguments.quiet else [])]
    os.execv(sys.executable, [sys.executable, *run, *own, *options])  # noqa: S606  (no shell is the point)


def _meeting(settings: TrainSettings) -> list[str]:
    """How the launchers of all machines find each other."""
    adapt = settings.adapt
    if adapt.nodes == 1:
        return ["--standalone"]
    place = ["--rdzv-backend", "c10d", "--rdzv-endpoint", adapt.rendezvous]
    name = ["--nnodes", str(adapt.nodes), "--rdzv-id", settings.fingerprint()]
    host = adapt.rendezvous.rpartition(":")[0]
    own = ["--local-addr", host] if host in ("127.0.0.1", "localhost") else []
    return [*place, *name, *own]


def _die_with(parent: int) -> None:
    """Ask Linux for a SIGTERM when the parent dies: the run then saves and ends."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(STOPPED)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sage_core.training",
        description="Adapt a model on shards. With many devices, start it under torch.distributed.run.",
    )
    parser.add_argument("--settings", type=Path, required=True, help="JSON file (docs/adapt.md)")
    parser.add_argument(
        "--launch",
        action="store_true",
        help="start as many processes on this machine as the settings ask for",
    )
    parser.add_argument(
        "--parent", type=int, help="save and end when the process with this id, the parent, dies"
    )
    parser.add_argument(
        "--quiet", action="store_true", help="say nothing of steps; metrics.jsonl has them all"
    )
    return parser


if __name__ == "__main__":
    leave(main())
