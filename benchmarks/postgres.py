"""A PostgreSQL of one's own on loopback, from the system's package."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def binaries() -> Path | None:
    """The folder of the newest PostgreSQL here; None where there is none."""
    on_path = shutil.which("postgres")
    packaged = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda p: int(p.parts[4])
    )
    found = packaged[-1] if packaged else Path(on_path).resolve() if on_path else None
    return found.parent if found else None


@contextmanager
def postgres() -> Iterator[str]:
    """Serve an empty database for the block; the URL that PREFECT_API_DATABASE_CONNECTION_URL takes."""
    folder = binaries()
    assert folder is not None, "ask binaries() first"
    with tempfile.TemporaryDirectory(prefix="postgres-") as home:
        port, user = _free_port(), _user()
        if user is not None:  # it refuses to run as root
            shutil.chown(home, user)
        data = f"{home}/data"
        common = {"user": user, "cwd": home, "env": {**os.environ, "HOME": home}}
        subprocess.run(
            [folder / "initdb", "-D", data, "-U", "sage", "--auth=trust", "--no-sync"],
            check=True,
            capture_output=True,
            **common,
        )
        options = ["-h", "127.0.0.1", "-p", str(port), "-k", home, "-c", "fsync=off"]
        with Path(home, "log").open("wb") as log:
            server = subprocess.Popen(
                [folder / "postgres", "-D", data, *options], stdout=log, stderr=log, **common
            )
        try:
            _wait_until_ready([folder / "pg_isready", "-h", "127.0.0.1", "-p", str(port)], server)
            create = [
                folder / "createdb",
                "-h",
                "127.0.0.1",
                "-p",
                str(port),
                "-U",
                "sage",
                "prefect",
            ]
            subprocess.run(create, check=True, capture_output=True)
            yield f"postgresql+asyncpg://sage@127.0.0.1:{port}/prefect"
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(30)


def _user() -> str | None:
    if os.getuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


def _wait_until_ready(ask: list[object], server: subprocess.Popen[bytes]) -> None:
    while subprocess.run([str(word) for word in ask], capture_output=True, check=False).returncode:
        assert server.poll() is None, "PostgreSQL ended"
        time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
