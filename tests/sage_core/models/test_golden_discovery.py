"""Further sets of tensors are found and tested without touching any test."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from golden_sets import golden_sets
from mvdust3r_set import write_set

TESTS = Path(__file__).with_name("test_golden_mvdust3r.py")


def outcome(root, tmp_path):
    """Counts by outcome of the golden tests over the sets below ``root``, and what they said."""
    argv = [sys.executable, "-m", "pytest", str(TESTS), "-rs", "-p", "no:cacheprovider"]
    ran = subprocess.run(
        [*argv, "--basetemp", str(tmp_path / "inner")],
        env={**os.environ, "SAGE_GOLDEN": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    last = ran.stdout.strip().splitlines()[-1]
    found = {kind: int(count) for count, kind in re.findall(r"(\d+) (\w+)", last)}
    return found, ran.stdout


def test_golden_sets_are_found_by_prefix(tmp_path):
    for name in ("mvdust3r_b", "mvdust3r", "vggt_a"):
        (tmp_path / name).mkdir()
    (tmp_path / "mvdust3r.txt").touch()
    assert [f.name for f in golden_sets("mvdust3r", tmp_path)] == ["mvdust3r", "mvdust3r_b"]
    assert golden_sets("pi3", tmp_path) == []


@pytest.mark.slow
def test_golden_tests_run_on_a_set_of_other_dims_with_few_files(tmp_path):
    """Images that are not square, another patch and depth; files that the set lacks are said, by name."""
    write_set(tmp_path / "golden" / "mvdust3r_wide")
    found, said = outcome(tmp_path / "golden", tmp_path)
    # Outputs, gradients, two references, nothing unread; the rest is said to be absent.
    assert found["passed"] == 4, said
    assert "failed" not in found, said
    for absent in ("keys_full.json", "outputs_plus.npz", "outputs_train_mode.npz"):
        assert f"the set mvdust3r_wide has no {absent}" in said
    assert "outputs.npz of mvdust3r_wide has no int_patch_pos" in said


@pytest.mark.slow
def test_golden_tests_tell_a_wrong_set(tmp_path):
    write_set(tmp_path / "golden" / "mvdust3r_off", off_by=1e-3)
    found, said = outcome(tmp_path / "golden", tmp_path)
    assert found["failed"] >= 1
    assert "test_golden_outputs_in_evaluation_mode[mvdust3r_off]" in said
