"""The films of the motion benchmark move as they say, and the benchmark counts what they are called."""

import json

import numpy as np
import pytest

from benchmarks import motion, motions
from sage_core.world import build_scene


def centres(move):
    return -np.einsum("nji,nj->ni", move.cam_from_world[:, :, :3], move.cam_from_world[:, :, 3])


def gaze(move):
    return move.cam_from_world[:, 2, :3]


def moved(kind, seed=45_000):
    """The way of one kind in the first room that has space for it."""
    for number in range(20):
        try:
            return motions.KINDS[kind].move(
                build_scene(seed + number, "V"), np.random.default_rng(0)
            )
        except ValueError:
            continue
    pytest.fail(f"no room for {kind!r}")


@pytest.mark.parametrize("kind", ["tripod", "pan", "zoom"])
def test_a_tripod_stays_where_it_is(kind):
    move = moved(kind)
    assert np.ptp(centres(move), axis=0).max() < 1e-9
    turned = np.degrees(np.arccos(np.clip(gaze(move)[0] @ gaze(move)[-1], -1, 1)))
    assert turned == pytest.approx({"pan": 10 * 11.8}.get(kind, 0), abs=2)
    ratio = move.focal.max() / move.focal.min()
    assert ratio == pytest.approx(2.0 if kind == "zoom" else 1.0)


@pytest.mark.parametrize(("kind", "speed", "along"), [("walk", 0.2, 1.0), ("slide", 0.2, 0.0)])
def test_straight_ways_go_ahead_or_aside(kind, speed, along):
    move = moved(kind)
    steps = np.diff(centres(move), axis=0) * motions.FPS
    assert np.linalg.norm(steps, axis=1) == pytest.approx(speed, rel=1e-6)
    level = gaze(move)[:-1] * (1, 0, 1)
    level /= np.linalg.norm(level, axis=1, keepdims=True)
    assert np.abs((steps / speed * level).sum(axis=1)) == pytest.approx(along, abs=1e-6)


def test_the_benchmark_tells_a_poster_from_a_tripod(tmp_path, monkeypatch):
    monkeypatch.setattr(
        motion, "KINDS", {n: motions.KINDS[n] for n in ("tripod", "along a poster")}
    )
    out = tmp_path / "out.json"
    monkeypatch.setattr("sys.argv", ["motion", "--rooms", "1", "--half", "a", "--json", str(out)])
    motion.main()
    record = json.loads(out.read_text())
    assert [row["called so"] for row in record["rows"]] == [1, 1]
    assert record["others wanted"] == 0
