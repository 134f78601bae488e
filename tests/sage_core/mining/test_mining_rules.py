"""The pure parts: windows, key frames, pose frames, cuts, fades, bars, photo folders."""

from dataclasses import fields
from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sage_core.config.curate import CurateConfig
from sage_core.mining import PhotoMeasures, curate_file, decide_photos, read_curation
from sage_core.mining._blends import BlendScorer, blend_and_wipe
from sage_core.mining._clips import _bar, _frozen
from sage_core.mining._kinds import Kind, kind_of
from sage_core.mining._measure import _bars, _overlay_share
from sage_core.mining._measures import FrameSeries, Measures, StepSeries
from sage_core.mining._shots import _fade_length, content_ratio, survival_around
from sage_core.mining._tracks import Chain, ChainTracker
from sage_core.mining._windows import (
    best_stretch,
    choose_key_frames,
    choose_pose_frames,
    covisible_pieces,
    covisible_windows,
    equal_windows,
    sound_stretches,
)
from sage_core.types import Reason, Verdict

CONFIG = CurateConfig()


@st.composite
def clips(draw):
    """Times with a varying rate, motion that may stand still, sharpness at random."""
    count = draw(st.integers(2, 400))
    seed = draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.uniform(0.015, 0.07, count))
    motion = np.cumsum(rng.exponential(draw(st.sampled_from([0.0, 1e-4, 0.01, 0.1])), count))
    return times, motion, rng.random(count)


@given(clips())
def test_key_frames_are_in_order_bounded_and_reach_both_ends(clip):
    times, motion, sharpness = clip
    keys = choose_key_frames(times, motion, sharpness, CONFIG)
    assert keys[0] == 0
    assert keys[-1] == len(times) - 1
    assert (np.diff(keys) > 0).all()
    assert len(keys) <= CONFIG.max_key_frames


@given(clips())
def test_pose_frames_hold_the_keys_and_leave_no_gap(clip):
    times, motion, sharpness = clip
    keys = choose_key_frames(times, motion, sharpness, CONFIG)
    poses = choose_pose_frames(times, keys, CONFIG)
    assert set(keys) <= set(poses)
    assert (np.diff(poses) > 0).all()
    assert np.diff(times[poses]).max() <= 5 / 30 * 1.06


def test_thirty_frames_a_second_give_poses_five_frames_apart():
    times = np.arange(301) / 29.97
    poses = choose_pose_frames(times, [0, 300], CONFIG)
    assert np.diff(poses).tolist() == [5] * 60


def test_a_source_slower_than_the_step_gets_every_frame():
    times = np.arange(40) / 4
    assert choose_pose_frames(times, [0, 39], CONFIG) == list(range(40))


def test_key_frames_follow_motion_and_are_capped_by_it():
    times = np.arange(600) / 30
    even = np.ones(600)
    slow = np.linspace(0, 0.05, 600)
    assert len(choose_key_frames(times, slow, even, CONFIG)) == CONFIG.min_key_frames
    fast = np.linspace(0, 20, 600)
    assert len(choose_key_frames(times, fast, even, CONFIG)) == CONFIG.max_key_frames
    late = np.concatenate([np.zeros(300), np.linspace(0, 2, 300)])
    keys = np.array(choose_key_frames(times, late, even, CONFIG))
    assert (keys >= 300).sum() > 2 * (keys < 300).sum()


def test_key_frames_prefer_sharp_neighbours():
    times = np.arange(300) / 30
    sharpness = np.zeros(300)
    sharpness[::2] = 1.0
    keys = choose_key_frames(times, times, sharpness, CONFIG)
    assert all(key % 2 == 0 for key in keys[1:-1])


@given(st.floats(1, 200), st.floats(2, 60), st.sampled_from([10, 24, 30]))
def test_equal_windows_part_a_shot_without_loss(seconds, longest, fps):
    times = np.arange(max(1, int(seconds * fps))) / fps
    parts = equal_windows(times, 1 / fps, longest)
    joined = np.concatenate([np.arange(len(times))[part] for part in parts])
    assert joined.tolist() == list(range(len(times)))
    lengths = [len(times[part]) / fps for part in parts]
    assert max(lengths) <= longest + 1.01 / fps
    assert max(lengths) - min(lengths) <= 2.01 / fps


@given(st.floats(12, 400), st.sampled_from([5, 24, 30]), st.integers(0, 99))
def test_covisible_windows_part_a_shot_within_bounds(seconds, fps, seed):
    times = np.arange(int(seconds * fps)) / fps
    lasting = np.random.default_rng(seed).random(len(times))
    parts = covisible_windows(times, 1 / fps, lasting, 10, 30)
    joined = np.concatenate([np.arange(len(times))[part] for part in parts])
    assert joined.tolist() == list(range(len(times)))
    assert len(parts) == len(equal_windows(times, 1 / fps, 30))
    lengths = [len(times[part]) / fps for part in parts]
    assert max(lengths) <= 30 + 1e-6 or len(parts) == 1
    assert min(lengths) >= 10 - 1e-6


def test_a_shot_is_cut_where_the_tracks_end():
    times = np.arange(1800) / 30
    lasting = np.full(1800, 0.9)
    equal = covisible_windows(times, 1 / 30, lasting, 10, 40)
    assert [part.start for part in equal] == pytest.approx([0, 900], abs=7)
    lasting[690:720] = 0.1  # through a door
    (_, second) = covisible_windows(times, 1 / 30, lasting, 10, 40)
    assert 690 <= second.start <= 720
    lasting[:] = 0.9
    lasting[300:330] = 0.1  # so early that the rest would be too long for one clip
    (_, second) = covisible_windows(times, 1 / 30, lasting, 10, 40)
    assert second.start >= 600


@given(st.lists(st.tuples(st.booleans(), st.floats(0.1, 1)), min_size=1, max_size=40))
def test_sound_stretches_are_apart_long_enough_and_good_enough(intervals):
    good = np.array([g for g, _ in intervals])
    seconds = np.array([s for _, s in intervals])
    found = sound_stretches(good, seconds, 0.5, 2.0)
    assert found == sorted(found)
    assert all(a[1] <= b[0] for a, b in pairwise(found))
    for start, end in found:
        assert seconds[start:end].sum() >= 2.0
        assert (seconds * good)[start:end].sum() >= 0.5 * seconds[start:end].sum() - 1e-9
    best = best_stretch(good, seconds, 0.5)
    assert (best in found) == bool(found)


@given(st.lists(st.tuples(st.booleans(), st.floats(0.1, 1)), min_size=1, max_size=25))
def test_best_stretch_is_the_best_of_all(intervals):
    good = np.array([g for g, _ in intervals])
    seconds = np.array([s for _, s in intervals])
    start, end = best_stretch(good, seconds, 0.5)
    gains = seconds * (good - 0.5)
    best = max(
        [0.0, *(gains[a:b].sum() for a in range(len(gains)) for b in range(a + 1, len(gains) + 1))]
    )
    assert gains[start:end].sum() == pytest.approx(best)


def test_doubled_frames_are_not_frozen_but_a_pause_is():
    times = np.arange(90) / 30
    doubled = np.tile([3.0, 0.0], 45)
    assert not _frozen(doubled, times).any()
    paused = np.full(90, 3.0)
    paused[30:60] = 0.0
    assert np.flatnonzero(_frozen(paused, times)).tolist() == list(range(30, 60))


def test_content_ratio_finds_the_spike_alone():
    content = np.full(20, 2.0)
    content[7] = 30.0
    ratio = content_ratio(content, np.arange(20) / 30)
    assert ratio[7] == pytest.approx(15.0)
    assert np.delete(ratio, 7).max() <= 1.0 + 1e-9


def test_a_cut_stands_out_where_the_rate_drops_behind_it():
    times = np.concatenate([np.arange(11) / 30, 10 / 30 + np.arange(1, 10) / 10])
    content = np.where(np.arange(20) < 11, 10.0, 26.0)
    content[10] = 44.0
    ratio = content_ratio(content, times)
    assert ratio[10] > 3.0
    assert np.delete(ratio, 10).max() <= 1.5


def test_fade_ends_where_contrast_stops_growing():
    times = np.arange(90) / 30
    contrast = np.minimum(np.arange(90) + 4.0, 40.0)
    assert 33 <= _fade_length(contrast, times) <= 40
    assert _fade_length(np.full(90, 40.0), times) == 0
    assert _fade_length(contrast[:10], times[:10]) == 10


def stills(count: int) -> np.ndarray:
    """Unrelated pictures, float32 [count, 18, 32, 3]."""
    rng = np.random.default_rng(7)
    return np.stack(
        [cv2.resize(rng.uniform(0, 255, (6, 8, 3)), (32, 18)) for _ in range(count)]
    ).astype(np.float32)


def test_a_mixture_is_a_blend_and_a_patchwork_a_wipe():
    a, b, other = stills(3)
    half = np.where(np.arange(32)[None, :, None] < 16, b, a)
    pictures = np.stack([(a + b) / 2, half, a, b, other])
    ones = np.ones(5)
    sharpness = np.stack([ones, np.array([0.5, 1, 1, 1, 1]), ones])
    blend, wipe = blend_and_wipe(np.stack([a] * 5), pictures, np.stack([b] * 5), sharpness)
    assert blend[0] > 0.8 > 0.3 > blend[1:].max()
    assert wipe[1] > 0.8 > 0.3 > np.delete(wipe, 1).max()


@given(st.integers(1, 400), st.sampled_from([3.0, 10.0, 30.0]), st.integers(0, 99))
@settings(max_examples=20)
def test_blends_do_not_depend_on_how_frames_come_in_blocks(count, rate, seed):
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.exponential(1 / rate, count) + 1e-3)
    images = rng.integers(0, 255, (count, 18, 32, 3), np.uint8)
    sharpness = rng.uniform(1, 9, count)
    blocks, whole = BlendScorer(), BlendScorer(block=10**9)
    for scorer in (blocks, whole):
        for frame in zip(times.tolist(), images, sharpness.tolist(), strict=True):
            scorer.add(*frame)
    np.testing.assert_allclose(blocks.series(), whole.series(), atol=1e-6)
    assert len(blocks._pictures) <= len(whole._pictures)


@pytest.mark.parametrize("cut", [False, True])
def test_a_flash_in_a_fast_pan_is_told_from_a_cut_by_the_nearest_pictures(cut):
    """Two white frames; 0.15 s to either side the camera has moved on too far to tell."""
    rng = np.random.default_rng(5)
    first, second = (
        cv2.resize(rng.integers(0, 255, (4, 24, 3), np.uint8), (480, 72)) for _ in range(2)
    )
    scorer = BlendScorer()
    for t in range(40):
        wide = second if cut and t >= 20 else first
        image = np.full((72, 128, 3), 250, np.uint8) if t in (20, 21) else wide[:, 3 * t :][:, :128]
        scorer.add(t / 30, image, 5.0)
    apart = scorer.series()[2]
    assert (apart[20:22] < 0.5).all() != cut
    assert not cut or (apart[20:22] > 0.7).all()


def test_tracks_that_end_in_a_flash_have_not_ended():
    """A step each six frames; the flash lies on the one at 60, a cut at 90."""
    count, at = 120, np.arange(0, 120, 6)
    flat = dict.fromkeys(
        ("content", "luma", "sharpness", "clipped", "blend", "wipe"), np.zeros(count)
    )
    contrast, apart = np.full(count, 50.0), np.ones(count)
    contrast[59:61], apart[59:61] = 0.0, 0.2
    frames = FrameSeries(
        index=np.arange(count), time_s=np.arange(count) / 30, contrast=contrast, apart=apart, **flat
    )
    steps = {field.name: np.zeros(len(at)) for field in fields(StepSeries)}
    survival = np.ones(len(at))
    survival[[10, 11, 15]] = 0.01
    steps |= {"at": at, "survival": survival, "bars": np.zeros((len(at), 4))}
    measures = Measures(320, 240, 30.0, count, 4.0, (320, 240), [], frames, StepSeries(**steps), [])
    around = survival_around(measures)
    assert around[60] == 1
    assert around[90] == pytest.approx(0.01)


def test_bars_need_a_pair():
    grey = np.full((180, 320), 90, np.uint8)
    grey[:20] = 3
    grey[-21:] = 0
    left, top, right, bottom = _bars(grey)
    assert (left, right) == (0, 0)
    assert _bar(top, bottom, 180) == pytest.approx(22 / 180)
    assert _bar(top, 0.0, 180) == 0.0
    assert _bar(0.2, 0.1, 180) == 0.0
    assert _bars(np.zeros((180, 320), np.uint8)) == (1, 1, 1, 1)


def test_overlay_is_what_stays_while_the_rest_moves():
    rng = np.random.default_rng(0)
    wide = cv2.GaussianBlur(rng.integers(0, 255, (120, 400), np.uint8), (0, 0), 2)
    frames = [np.ascontiguousarray(wide[:, 8 * t : 8 * t + 160]) for t in range(10)]
    assert _overlay_share(frames) < 0.02
    for frame in frames:
        cv2.putText(frame, "LOGO", (20, 60), cv2.FONT_HERSHEY_SIMPLEX, 1.5, 255, 3)
    assert _overlay_share(frames) > 0.05


def test_a_chain_is_judged_up_to_the_step_that_loses_it():
    rng = np.random.default_rng(3)
    wide = cv2.GaussianBlur(rng.integers(0, 255, (180, 500), np.uint8), (0, 0), 2)
    other = cv2.GaussianBlur(rng.integers(0, 255, (180, 320), np.uint8), (0, 0), 2)
    tracker = ChainTracker()
    for shift in (0, 4, 8, 12):
        tracker.step(np.ascontiguousarray(wide[:, shift : shift + 320]))
    tracker.step(other)
    tracker.finish()
    assert [(c.start, c.end, c.lost) for c in tracker.chains] == [(0, 3, False), (3, 4, True)]
    assert tracker.chains[0].flow == pytest.approx(12 / 320, rel=0.05)
    assert tracker.steps[4].survival < 0.2 < tracker.steps[3].survival


def chain(**changed) -> Chain:
    usual = {
        "start": 0, "end": 5, "flow": 0.09, "survival": 0.8, "tracks": 200, "parallax_px": 1.5,
        "off_plane": 0.6, "epipolar": 0.97, "moving": 0.0, "rotation_px": 6.0, "zoom_px": 5.0,
        "zoom": 1.1, "way": (1.0, 0.0, 0.0), "turn": 0.0, "lost": False,
    }  # fmt: skip
    return Chain(**{**usual, **changed})


@pytest.mark.parametrize(
    ("changed", "seconds", "kind"),
    [
        ({}, 1.0, Kind.PARALLAX),
        ({"lost": True}, 1.0, Kind.LOST),
        ({"flow": 0.003}, 5.0, Kind.STILL),
        ({"flow": 0.01}, 0.2, Kind.PARALLAX),
        ({"flow": 0.065}, 22.0, Kind.PARALLAX),
        ({"epipolar": 0.6}, 1.0, Kind.MOVING),
        ({"rotation_px": 0.5}, 1.0, Kind.TURNING),
        ({"flow": 0.25, "rotation_px": 2.0}, 1.0, Kind.TURNING),
        ({"rotation_px": 20.0, "zoom_px": 1.0}, 1.0, Kind.ZOOMING),
        ({"rotation_px": 3.0, "zoom_px": 1.0}, 1.0, Kind.PARALLAX),
        ({"off_plane": 0.05}, 1.0, Kind.FLAT),
    ],
)
def test_kinds(changed, seconds, kind):
    assert kind_of(chain(**changed), seconds, 320, CONFIG) is kind


def photos(count: int, size=(1000, 800), sharpness: float = 300.0) -> PhotoMeasures:
    return PhotoMeasures([size[0]] * count, [size[1]] * count, [sharpness] * count, [0.0] * count)


@pytest.mark.parametrize(
    ("measures", "reason"),
    [
        (photos(12), None),
        (photos(5), Reason.TOO_FEW_FRAMES),
        (photos(12, (640, 400)), Reason.RESOLUTION),
        (photos(12, sharpness=5.0), Reason.BLURRED),
    ],
)
def test_photo_folders(measures, reason):
    curation = decide_photos(measures, CONFIG, "v0")
    assert curation.judgement.reason is reason
    (verdict,) = curation.clips
    assert not verdict.clip.ordered


def test_photos_of_another_size_stay_out_and_large_folders_are_thinned():
    measures = photos(400)
    measures.width[7], measures.height[7] = 800, 1000
    clip = decide_photos(measures, CONFIG, "v0").clips[0].clip
    assert 7 not in clip.key_frames
    assert len(clip.key_frames) == CONFIG.max_images
    assert (clip.key_frames[0], clip.key_frames[-1]) == (0, 399)


def test_photo_folder_end_to_end(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(9):
        picture = cv2.resize(rng.integers(0, 255, (80, 100, 3), np.uint8), (700, 560))
        cv2.imwrite(str(folder / f"{index}.jpg"), picture)
    data = curate_file(str(folder), "images", CONFIG.model_dump(mode="json"), str(tmp_path), "v1")
    curation = read_curation(data)
    assert curation.judgement.verdict is Verdict.ACCEPTED
    assert curation.clips[0].clip.key_frames == list(range(9))
    assert (tmp_path / "contact.jpg").exists()


@given(st.floats(3, 90), st.integers(0, 2**16), st.floats(0, 0.5))
def test_pieces_are_cut_where_nothing_is_shared_and_long_enough(seconds, seed, least):
    times = np.arange(0, seconds, 0.1)
    lasting = np.random.default_rng(seed).random(len(times))
    pieces = covisible_pieces(times, 0.1, lasting, least, 10)
    assert [p.start for p in pieces[1:]] == [p.stop for p in pieces[:-1]]
    assert (pieces[0].start, pieces[-1].stop) == (0, len(times))
    assert all(lasting[p.start] < least for p in pieces[1:])
    if len(pieces) > 1:
        assert all((p.stop - p.start) * 0.1 >= 10 - 1e-6 for p in pieces)


def test_the_weakest_place_is_cut_first_and_short_ends_stay():
    times = np.arange(0, 30, 0.1)
    lasting = np.ones(300)
    lasting[[20, 130, 150, 290]] = [0.01, 0.05, 0.02, 0.03]
    pieces = covisible_pieces(times, 0.1, lasting, 0.1, 10)
    assert [(p.start, p.stop) for p in pieces] == [(0, 150), (150, 300)]
    assert covisible_pieces(times, 0.1, lasting, 0.0, 10) == [slice(0, 300)]
