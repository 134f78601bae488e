"""A server of our own that dies is started again; a run that it had under way goes on to its end."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

LOSES_ITS_SERVER = """
import json, os, signal, sys
from pathlib import Path
from flows._server import prefect_api

folder = Path(sys.argv[1])
note = folder / "prefect" / "server.json"
with prefect_api(folder) as url:
    from prefect import flow, task
    from prefect.client.orchestration import get_client
    from flows._server import running_server

    @task
    def step(number):
        if number == 1:
            os.kill(json.loads(note.read_text())["pid"], signal.SIGKILL)
        return number

    @flow
    def steps():
        return [step(number) for number in range(3)]

    first = json.loads(note.read_text())
    state = steps(return_state=True)
    told = get_client(sync_client=True).read_flow_run(state.state_details.flow_run_id).state.name
    second = json.loads(note.read_text())
    print(json.dumps([state.result(), told, first, second, running_server(folder)]))
print(json.dumps(running_server(folder)))
"""


def test_a_run_outlives_its_server(tmp_path):
    command = [sys.executable, "-c", LOSES_ITS_SERVER, tmp_path]
    own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    own["PREFECT_HOME"] = str(tmp_path / "elsewhere")
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=True, env=own)
    whole, after = map(json.loads, done.stdout.splitlines())
    result, told, first, second, running = whole
    assert result == [0, 1, 2]
    assert told == "Completed"
    assert first["url"] == second["url"] == running
    assert first["pid"] != second["pid"]
    assert after is None, "it was started again though nobody wanted it"
    assert "the server had ended (-9)" in done.stderr
