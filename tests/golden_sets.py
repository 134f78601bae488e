"""Reference tensors for the tests with ``golden`` in their names: folders below ``SAGE_GOLDEN``.

Each folder whose name begins with a model's is one set; its dims, cases and seeds stand in its
``config.json``.
"""

import json
import os
from pathlib import Path

import pytest

ROOT = Path(os.environ.get("SAGE_GOLDEN", Path(__file__).parents[1].parent / "shared" / "golden"))


def golden_sets(prefix, root=None):
    """Folders of reference tensors whose names begin with ``prefix``, sorted; empty where there are none."""
    return sorted(folder for folder in Path(root or ROOT).glob(f"{prefix}*") if folder.is_dir())


def needs_golden(prefix):
    """Mark of tests that are skipped, saying why, where no such set is."""
    absent = not golden_sets(prefix)
    return pytest.mark.skipif(
        absent, reason=f"no reference tensors {prefix}* under {ROOT} (set SAGE_GOLDEN)"
    )


def facts_of(folder):
    """The set's ``config.json``; a set without one is broken, which is an error and no skip."""
    return json.loads((folder / "config.json").read_text())


def file_of(folder, name):
    """A file of a set, or a skip that says so where the set does without it."""
    path = folder / name
    if not path.is_file():
        pytest.skip(f"the set {folder.name} has no {name}")
    return path
