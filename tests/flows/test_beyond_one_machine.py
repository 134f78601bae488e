"""A command whose Prefect server is on PostgreSQL and whose workspace is on S3, both real and on loopback."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.postgres import binaries, postgres
from data_catalog import Workspace

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(binaries() is None, reason="no PostgreSQL here (Debian's package postgresql)")
def test_a_run_on_postgresql_and_s3(s3_server, tmp_path):
    (tmp_path / "words.mp4").write_bytes(b"these are only words")
    url = s3_server.url("beyond")
    with postgres() as database:
        told = subprocess.run(
            [sys.executable, "-m", "flows.cli", "run", "-w", url, "--stages", "acquire", tmp_path],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={
                **{k: v for k, v in os.environ.items() if k != "PREFECT_API_URL"},
                "PYTHONPATH": str(ROOT),
                "PREFECT_HOME": str(tmp_path / "prefect"),
                "PREFECT_API_DATABASE_CONNECTION_URL": database,
            },
            check=False,
        )
        assert told.returncode == 0, told.stderr
        assert asyncio.run(_flow_runs(database)) == ["acquire", "nightly"]
    assert not list((tmp_path / "prefect").glob("*.db"))
    (event,) = Workspace.open(url, create=False).catalog.latest("acquire")
    assert (event.verdict, event.reason) == ("rejected", "not_video")


async def _flow_runs(database):
    import asyncpg

    connection = await asyncpg.connect(database.replace("+asyncpg", ""))
    try:
        query = "SELECT flow.name FROM flow_run JOIN flow ON flow.id = flow_run.flow_id"
        return sorted(row["name"] for row in await connection.fetch(query))
    finally:
        await connection.close()
