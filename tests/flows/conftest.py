import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows._server import prefect_api

PYTHON_BIN = Path(sys.executable).parent


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory):
    """A real Prefect server with a database of its own, for every command that a test starts."""
    home = tmp_path_factory.mktemp("prefect")
    before = os.environ.get("PREFECT_HOME")
    os.environ["PREFECT_HOME"] = str(home / "prefect")
    try:
        with prefect_api(home) as url:
            yield url
    finally:
        if before is None:
            os.environ.pop("PREFECT_HOME", None)
        else:
            os.environ["PREFECT_HOME"] = before


@pytest.fixture
def sage():
    """Run the command ``sage`` as a user does; returns the finished process."""

    def run(*arguments, timeout=600, **environment):
        return subprocess.run(
            [str(PYTHON_BIN / "sage"), *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**os.environ, "COLUMNS": "200", **environment},
            check=False,
        )

    return run
