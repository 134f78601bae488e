"""Loading takes the memory of the weights once, whatever kind of file they are in."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the kernel does not tell VmHWM here"
)
def test_peak_memory_is_at_most_1_3_times_the_weights(tmp_path):
    out = tmp_path / "loading.json"
    command = [sys.executable, "-m", "benchmarks.loading", "--megabytes", "400", "--json", str(out)]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    rows = json.loads(out.read_text())["rows"]
    assert len(rows) == 4
    for row in rows:
        assert row["weights_mb"] > 350
        assert 0.95 <= row["peak / weights"] <= 1.3, row
