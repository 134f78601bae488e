"""The figures of the mining benchmarks on cameras and shares that are known."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from benchmarks import mining
from benchmarks.damages import DAMAGES, Shown
from benchmarks.gate import area, wilson
from benchmarks.gate_sources import HALVES, sources
from benchmarks.mining import trajectory_error
from benchmarks.mining_cases import uniform
from sage_core.geometry import invert


def cameras(count, seed=0):
    """cam_from_world [N, 3, 4] on a wavy path, turning a little."""
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(np.eye(3) + 0.2 * rng.normal(size=(count, 3, 3)))[0]
    Q *= np.sign(np.linalg.det(Q))[:, None, None]
    t = np.linspace(0, 3, count)
    centre = np.stack([t, np.sin(2 * t), 0.3 * np.cos(3 * t)], -1)
    return np.concatenate([Q, -(Q @ centre[:, :, None])], 2)


def moved(cam_from_world, scale=2.0):
    """The same cameras in another world: turned by a quarter, shifted, scaled."""
    R, t = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), np.array([4.0, -1, 2])
    world_from_cam = invert(cam_from_world)
    centre = scale * world_from_cam[:, :, 3] @ R.T + t
    return invert(np.concatenate([R @ world_from_cam[:, :, :3], centre[:, :, None]], 2))


def test_the_offset_of_another_camera_is_no_error():
    ours = cameras(30)
    world_from_cam = invert(ours)
    truth = world_from_cam[:, :, 3] + world_from_cam[:, :, :3] @ np.array([0.02, -0.01, 0.03])
    assert trajectory_error(moved(ours), truth) < 1e-3
    assert trajectory_error(moved(ours), truth + np.eye(30, 3) * 0.5) > 0.02


def test_shares_come_with_their_intervals():
    assert wilson(0, 10) == "0/10 = 0.000 (0.000 to 0.278)"
    assert wilson(0, 0) == "none"
    assert area([3.0, 4.0], [1.0, 2.0]) == 1
    assert area([1.0, 3.0], [1.0, 3.0]) == pytest.approx(0.5)
    assert area([], [1.0]) is None
    assert set(HALVES.values()) == {"a", "b"}


@pytest.mark.parametrize("name", DAMAGES)
def test_each_damage_says_what_it_shows(name):
    images = [np.full((60, 80, 3), 8 * i, np.uint8) for i in range(12)]
    damaged, shown = DAMAGES[name](images, 70.0, 0)
    assert len(damaged) == len(shown)
    assert all(image.dtype == np.uint8 and image.shape == damaged[0].shape for image in damaged)
    for image, one in zip(damaged, shown, strict=True):
        assert abs(float(np.median(image)) - 8 * one.frame) < 8


def test_a_mirrored_picture_shows_the_mirrored_world():
    (pose,), mirror = cameras(1), np.array([-1.0, 1, 1])
    point = np.array([0.3, -0.2, 5.0])
    mirrored = Shown(0, mirrored=True).pose(pose)
    seen = mirrored[:, :3] @ (mirror * point) + mirrored[:, 3]
    np.testing.assert_allclose(seen, mirror * (pose[:, :3] @ point + pose[:, 3]))


def test_uniform_frames_hold_both_ends():
    frames = uniform(27, 510)
    assert (frames[0], frames[-1], len(frames)) == (27, 510, 48)


def test_mining_at_toy_size(capsys, tmp_path):
    out = tmp_path / "out.json"
    mining.main(["--frames", "12", "--json", str(out)])
    record = json.loads(out.read_text())
    assert "Mining" in capsys.readouterr().out
    assert [(row["clip"], row["recipe"]) for row in record["rows"]] == [
        ("room", "paper"),
        ("room", "fast"),
        ("all", "fast"),
        ("all", "paper"),
    ]
    paper, fast, *_ = record["rows"]
    assert {paper["verdict"], fast["verdict"]} == {"accepted"}
    for row in (paper, fast):
        assert row["ATE cm"] < 2
        assert row["AbsRel anchors"] <= row["AbsRel all"] < 0.1
        assert row["features s"] > 0
    assert fast["from paper %"] < 2
    assert record["CPU_ratio_geometric_mean"] == pytest.approx(fast["ratio"])


def test_the_table_of_the_docs_has_a_cell_for_each_column():
    parts = {f"{part} s": 1.0 for part in ("decode", "features", "matching", "mapping", "writing")}
    paper = {"clip": "hall", "recipe": "paper", **parts, "CPU s": 60.0, "wall s": 70.0}
    paper |= {"peak MiB": 320.0, "registered": 1.0, "anchors": 300.0}
    fast = {**paper, "recipe": "fast", "from paper %": 0.1, "from paper deg": 0.2, "ratio": 7.0}
    head, _, first, second = mining.docs_table([paper, fast]).splitlines()
    assert head.count("|") == first.count("|") == second.count("|") == 12
    assert first.endswith("|  |  |")
    assert second.endswith("| 0.10 / 0.20 | 7.0 |")
    assert "1.0 + 1.0 + 1.0 + 1.0 + 1.0; 60.0" in second


def test_every_damage_comes_up_among_fresh_rooms():
    found = list(sources(None, Path(), 2, 13))
    assert [source.half for source in found] == ["a", "b", *"c" * 13]
    of_fresh = Counter(damage for source in found[2:] for damage in source.damages)
    assert of_fresh == dict.fromkeys(DAMAGES, 4)
    assert (
        len({source.name.split(" ", 2)[2] for source in found[2:]}) == 12
    )  # each kind in each look
    for source in found:
        (places,) = source.stretches.values()
        assert len(source.poses) == len(places)
