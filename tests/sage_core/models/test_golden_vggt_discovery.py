"""Further sets of VGGT's tensors are found and tested without touching any test."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from vggt_set import write_set

from sage_core.models import VGGTConfig

ROOT = Path(__file__).parents[1]
TESTS = (
    ROOT / "models" / "test_golden_vggt.py",
    ROOT / "losses" / "test_golden_vggt_losses.py",
)
WIDE = VGGTConfig(
    image_size=24,
    patch_size=8,
    embed_dim=32,
    num_heads=4,
    vit_depth=1,
    aa_depth=6,
    mlp_ratio=2,
    num_register_tokens=2,
    rope_base=50.0,
    camera_trunk_depth=1,
    camera_num_heads=2,
    camera_iterations=2,
    dpt_features=8,
    dpt_out_channels=(4, 8, 12, 16),
    dpt_layers=(0, 2, 4, 5),
    point_head=False,
)


def outcome(root, tmp_path):
    """Counts by outcome of the golden tests over the sets below ``root``, and what they said."""
    argv = [sys.executable, "-m", "pytest", *map(str, TESTS), "-rs", "-p", "no:cacheprovider"]
    ran = subprocess.run(
        [*argv, "--basetemp", str(tmp_path / "inner")],
        env={**os.environ, "SAGE_GOLDEN": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    last = ran.stdout.strip().splitlines()[-1]
    return {kind: int(count) for count, kind in re.findall(r"(\d+) (\w+)", last)}, ran.stdout


@pytest.mark.slow
def test_golden_tests_run_on_a_set_of_other_sizes_with_few_arrays(tmp_path):
    """Another patch, fewer registers and rounds, no point head; what the set lacks is said, by name."""
    write_set(tmp_path / "golden" / "vggt_wide", WIDE)
    found, said = outcome(tmp_path / "golden", tmp_path)
    # Tokens, poses, depth; the rest is said to be absent.
    assert found["passed"] == 3, said
    assert "failed" not in found, said
    assert "error" not in found, said
    for absent in ("world_points", "pos_embed", "training case", "pictures to preprocess"):
        assert absent in said


@pytest.mark.slow
def test_golden_tests_tell_a_wrong_set(tmp_path):
    write_set(tmp_path / "golden" / "vggt_off", WIDE, off_by=1e-3)
    found, said = outcome(tmp_path / "golden", tmp_path)
    assert found["failed"] == 1, said
    assert "test_golden_dense_maps[depth-vggt_off-wide]" in said or "vggt_off-wide-depth" in said
