import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sage_core.sfm.figures import largest_jump, weakest_link
from sage_core.sfm.matching import mutual_matches
from sage_core.sfm.pairs import alike_pairs, all_pairs, loop_pairs, sequential_pairs


@given(st.integers(0, 70))
def test_neighbours_are_powers_of_two_apart(count):
    pairs = sequential_pairs(count)
    assert len(set(pairs)) == len(pairs)
    assert all(0 <= i < j < count and (j - i).bit_count() == 1 for i, j in pairs)
    assert len(pairs) == sum(count - 2**k for k in range(7) if 2**k < count)


def walk(places, features=60, seed=0):
    """Descriptors of frames that see what is around their place on a line: equal places look alike."""
    world = np.random.default_rng(seed).integers(0, 120, (2000, 128)).astype(np.uint8)
    noise = np.random.default_rng(seed + 1)
    return [
        np.clip(
            world[20 * p : 20 * p + features] + noise.integers(-2, 3, (features, 128)), 0, 255
        ).astype(np.uint8)
        for p in places
    ]


def test_coming_back_is_found_and_going_on_is_not():
    there = list(range(15))
    assert loop_pairs(walk(there), 1) == []
    loops = loop_pairs(walk(there + there[::-1]), 1)
    assert loops
    assert all(abs(i + j - 29) <= 2 for i, j in loops)
    assert not set(loops) & set(sequential_pairs(30))


def test_photos_are_matched_with_those_most_like_them():
    photos = walk(list(range(30)))
    pairs = alike_pairs(photos, 1)
    assert {(i, i + 1) for i in range(29)} <= set(pairs)
    assert len(pairs) < len(all_pairs(30)) / 1.5
    assert alike_pairs(photos[:8], 1) == all_pairs(8)


def test_pictures_without_features_are_like_none():
    empty = [np.empty((0, 128), np.uint8)] * 12
    assert loop_pairs(empty, 1) == []


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 30), st.integers(2, 30))
def test_matches_obey_the_rule_both_ways(seed, n, m):
    rng = np.random.default_rng(seed)
    a, b = (rng.random((k, 8)).astype(np.float32) for k in (n, m))
    b[: min(n, m) // 2] = a[: min(n, m) // 2] + rng.normal(0, 0.02, (min(n, m) // 2, 8))
    a, b = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (a, b))
    angle = np.arccos(np.clip(a.astype(float) @ b.T.astype(float), -1, 1))
    wanted = set()
    for i in range(n):
        j = angle[i].argmin()
        second = min(np.delete(angle[i], j).min(), np.delete(angle[:, j], i).min())
        if angle[:, j].argmin() == i and angle[i, j] <= 0.7 and angle[i, j] <= 0.8 * second:
            wanted.add((i, int(j)))
    found = {(int(i), int(j)) for i, j in mutual_matches(a, b)}
    # Single precision may decide otherwise only where two angles are nearly equal.
    assert all(abs(angle[i, j]) < 0.02 for i, j in found ^ wanted)


def test_a_model_of_two_halves_has_no_link():
    frames = list(range(60))
    chained = [range(i, min(i + 4, 60)) for i in frames for _ in range(5)]
    assert weakest_link(frames, [list(t) for t in chained]) == 1
    torn = [t for t in chained if t.stop <= 30 or t.start >= 30]
    assert weakest_link(frames, [list(t) for t in torn]) == 0
    assert weakest_link(frames[:4], []) is None


def test_a_leap_stands_out_of_an_even_walk():
    steps = np.ones((12, 3)) * (1, 0, 0)
    assert largest_jump(np.cumsum(steps, 0)) == 1
    steps[6] *= 5
    assert largest_jump(np.cumsum(steps, 0)) == 5
    assert largest_jump(steps[:3]) is None
