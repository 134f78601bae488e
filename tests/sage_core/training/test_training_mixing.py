"""Proportions, turns and stages of the stream of video samples; all pure functions."""

import json
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from room_shards import write_room_shard

from sage_core.config.losses import CurriculumConfig, MixingConfig
from sage_core.config.sampling import SamplingConfig
from sage_core.errors import ConfigError
from sage_core.models import MVDust3rConfig, build_model, save_model
from sage_core.training import DataSet, MinedClip, ShardPart, TrainSettings, mixed
from sage_core.training.curriculum import sampling_at
from sage_core.training.difficulty import main
from sage_core.training.drawing import SampleRules, VideoSamples
from sage_core.training.mixture import Mixture
from sage_core.training.order import Kind, SampleId

weights = st.lists(st.floats(0.05, 20), min_size=1, max_size=5).map(tuple)


@st.composite
def mixtures(draw):
    chosen = draw(weights)
    clips = tuple(draw(st.integers(1, 9)) for _ in chosen)
    return Mixture(chosen, clips, draw(st.integers(1, 300)), draw(st.integers(0, 2**31 - 1)))


@given(mixtures())
def test_an_epoch_holds_each_data_set_by_its_weight_to_the_sample(mixture):
    drawn = Counter(mixture.at(0, i)[0] for i in range(mixture.per_epoch))
    counts = mixture.counts()
    assert [drawn[d] for d in range(len(counts))] == list(counts)
    assert sum(counts) == mixture.per_epoch
    exact = np.array(mixture.weights) / sum(mixture.weights) * mixture.per_epoch
    assert (np.abs(np.array(counts) - exact) < 1 + 1e-6).all()


@given(mixtures())
def test_any_beginning_of_an_epoch_keeps_the_proportion(mixture):
    data = np.array([mixture.at(0, i)[0] for i in range(mixture.per_epoch)])
    share = np.array(mixture.counts()) / mixture.per_epoch
    for d, wanted in enumerate(share):
        so_far = np.cumsum(data == d)
        off = so_far - wanted * np.arange(1, len(data) + 1)
        assert np.abs(off).max() <= max(1, len(share) - 1)


@settings(max_examples=50)
@given(mixtures())
def test_no_clip_starves_whatever_the_epochs(mixture):
    """Before a clip is drawn again all others of its data set were, also across epochs."""
    turns = {d: [] for d in range(len(mixture.weights))}
    for epoch in range(4):
        for i in range(mixture.per_epoch):
            data, clip = mixture.at(epoch, i)
            turns[data].append(clip)
    for data, clips in turns.items():
        n = mixture.clips[data]
        for start in range(0, len(clips), n):
            lap = clips[start : start + n]
            assert len(set(lap)) == len(lap)


@settings(max_examples=50)
@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 2**31 - 1))
def test_several_samples_a_visit_are_drawn_while_the_clip_is_at_hand(clips, per_visit, seed):
    """Each lap holds every clip so often, eight at a time, none twice in a row unless it is alone."""
    lap = clips * per_visit
    mixture = Mixture((1.0,), (clips,), lap, seed, per_visit)
    drawn = [mixture.at(0, i)[1] for i in range(lap)]
    assert set(Counter(drawn).values()) == {per_visit}
    for clip in range(clips):
        places = [i for i, one in enumerate(drawn) if one == clip]
        assert places[-1] - places[0] < 8 * per_visit
    if clips % 8 != 1:
        assert all(a != b for a, b in pairwise(drawn))
    once = Mixture((1.0,), (clips,), lap, seed)
    if per_visit == 1:
        assert drawn == [once.at(0, i)[1] for i in range(lap)]


@given(mixtures(), st.integers(0, 5), st.data())
def test_a_turn_follows_from_seed_epoch_and_index_alone(mixture, epoch, data):
    indices = data.draw(st.lists(st.integers(0, mixture.per_epoch - 1), min_size=1, max_size=5))
    other = Mixture(mixture.weights, mixture.clips, mixture.per_epoch, mixture.seed)
    assert [mixture.at(epoch, i) for i in reversed(indices)] == [
        other.at(epoch, i) for i in reversed(indices)
    ]


def test_equal_weights_alternate():
    mixture = Mixture((1.0, 1.0), (3, 3), 8, 0)
    assert [mixture.at(0, i)[0] for i in range(8)] == [0, 1] * 4


def clips_of(*origins):
    return [
        MinedClip(f"c{i}", f"shards/frames-{i % 2}.parquet", (f"v{i}", origin))
        for i, origin in enumerate(origins)
    ]


def named(datasets):
    return {
        d.name: (d.weight, sorted(clip for part in d.parts for clip in part.clips))
        for d in datasets
    }


def test_without_weights_all_clips_are_one_data_set():
    (one,) = mixed(clips_of("a", "b", "a"), MixingConfig())
    assert (one.name, one.weight) == ("videos", 1.0)
    assert [(p.path, p.clips) for p in one.parts] == [
        ("shards/frames-0.parquet", ("c0", "c2")),
        ("shards/frames-1.parquet", ("c1",)),
    ]
    assert mixed([], MixingConfig()) == ()


def test_sources_are_told_by_text_and_the_rest_by_a_star():
    clips = clips_of("/films/estate1.mp4", "/films/dl3dv.mp4", "https://x/estate", "other")
    found = named(mixed(clips, MixingConfig(sources={"estate": 3, "v1": 1, "*": 0.5})))
    assert found == {"estate": (3, ["c0", "c2"]), "v1": (1, ["c1"]), "*": (0.5, ["c3"])}
    some = named(mixed(clips, MixingConfig(sources={"estate": 1, "dl3dv": 0})))
    assert list(some) == ["estate"]
    with pytest.raises(ConfigError, match="names esatte"):
        mixed(clips, MixingConfig(sources={"esatte": 1}))
    with pytest.raises(ConfigError, match="nothing is left"):
        mixed(clips, MixingConfig(sources={"estate": 0}))


def test_difficulty_splits_each_source_evenly(tmp_path):
    clips = clips_of(*"aabbaab")
    file = tmp_path / "difficulty.json"
    file.write_text(json.dumps({c.clip: 10.0 - i for i, c in enumerate(clips)}))
    mixing = MixingConfig(sources={"a": 2, "b": 1}, difficulty=str(file), difficulty_weights=(1, 3))
    assert named(mixed(clips, mixing)) == {
        "a, difficulty 1 of 2": (0.5, ["c4", "c5"]),
        "a, difficulty 2 of 2": (1.5, ["c0", "c1"]),
        "b, difficulty 1 of 2": (0.25, ["c6"]),
        "b, difficulty 2 of 2": (0.75, ["c2", "c3"]),
    }
    medium = mixing.model_copy(update={"difficulty_weights": (0.0, 1.0)})
    assert [d.name for d in mixed(clips, medium)] == [
        "a, difficulty 2 of 2",
        "b, difficulty 2 of 2",
    ]


@pytest.mark.parametrize(
    ("text", "weights", "message"),
    [
        ("[1, 2]", (1, 1), "no JSON file with a number"),
        ('{"c0": "hard"}', (1, 1), "no JSON file with a number"),
        ('{"c0": 1}', (1, 1), "how hard 1 of the 2 clips of videos are, among them c1"),
        ('{"c0": 1, "c1": 2}', (1, 1, 1), "do not make 3 classes"),
    ],
)
def test_difficulties_that_cannot_be_used_are_named(tmp_path, text, weights, message):
    file = tmp_path / "difficulty.json"
    file.write_text(text)
    mixing = MixingConfig(difficulty=str(file), difficulty_weights=weights)
    with pytest.raises(ConfigError, match=message):
        mixed(clips_of("a", "b"), mixing)


SAMPLING = SamplingConfig(interval_frames=20, jitter_frames=4, covisibility_min=0.2)


def test_the_curriculum_widens_to_the_settings_and_stays_there():
    plan = CurriculumConfig(share=0.5, interval_start=0.4, covisibility_start=0.6)
    start = sampling_at(SAMPLING, plan, 0.0)
    assert (start.interval_frames, start.jitter_frames) == pytest.approx((8, 1.6))
    assert start.covisibility_min == pytest.approx(0.6)
    assert start.min_parallax == pytest.approx(0.5 * SAMPLING.min_parallax)
    stages = [sampling_at(SAMPLING, plan, p) for p in np.linspace(0, 0.5, 40, endpoint=False)]
    intervals = [stage.interval_frames for stage in stages]
    assert intervals == sorted(intervals)
    assert all(s.covisibility_min <= s.covisibility_max for s in stages)
    assert len(set(intervals)) == 20
    for progress in (0.5, 0.8, 1.0):
        assert sampling_at(SAMPLING, plan, progress) is SAMPLING
    assert sampling_at(SAMPLING, CurriculumConfig(), 0.0) is SAMPLING


@given(st.floats(0, 0.6), st.floats(0.6, 1), st.floats(0, 1), st.floats(0, 1))
def test_the_curriculum_never_starts_harder_than_the_settings(low, high, start, progress):
    sampling = SamplingConfig(covisibility_min=low, covisibility_max=high)
    now = sampling_at(sampling, CurriculumConfig(share=1.0, covisibility_start=start), progress)
    assert low <= now.covisibility_min <= high + 1e-9
    assert now.interval_frames <= sampling.interval_frames


def spans(rules, shard, indices):
    sampling = SamplingConfig(n_context=3, n_targets=1)
    data = DataSet(parts=(ShardPart(path=str(shard)),))
    draw = VideoSamples([data], sampling, size=32, seed=2, shuffle_views=False, rules=rules)
    found = []
    for index in indices:
        numbers = draw(SampleId(Kind.VIDEO, 0, index)).name.split("[")[1][:-1].split(",")
        found.append(int(numbers[2]) - int(numbers[0]))
    return found


def test_samples_reach_farther_as_the_run_goes_on(room_shard):
    plan = CurriculumConfig(share=0.6, interval_start=0.3)
    rules = SampleRules(per_epoch=100, samples=100, curriculum=plan)
    early, late = spans(rules, room_shard, range(8)), spans(rules, room_shard, range(60, 68))
    assert np.mean(early) < 0.6 * np.mean(late)
    assert late == spans(SampleRules(per_epoch=100), room_shard, range(60, 68))


def test_samples_come_in_proportion_from_real_shards(tmp_path):
    paths = [write_room_shard(tmp_path / name, clips=1)[0] for name in ("a", "b")]
    datasets = [
        DataSet(name=p.parent.name, parts=(ShardPart(path=str(p)),), weight=w)
        for p, w in zip(paths, (3.0, 1.0), strict=True)
    ]
    sampling = SamplingConfig(n_context=2, n_targets=0)
    rules = SampleRules(per_epoch=8)
    draw = VideoSamples(datasets, sampling, size=32, seed=0, shuffle_views=False, rules=rules)
    data = [draw._mixture.at(0, i)[0] for i in range(8)]
    assert Counter(data) == {0: 6, 1: 2}
    assert draw(SampleId(Kind.VIDEO, 0, 0)).images.shape == (2, 3, 32, 32)


def test_a_clip_that_yields_no_sample_is_in_no_class_of_difficulty(tmp_path):
    file = tmp_path / "difficulty.json"
    file.write_text('{"c0": 1, "c1": null, "c2": 2}')
    easy, hard = mixed(clips_of("a", "b", "c"), MixingConfig(difficulty=str(file)))
    assert [d.parts[0].clips for d in (easy, hard)] == [("c0",), ("c2",)]


def test_difficulty_is_the_base_models_own_loss(room_shard, tmp_path, capsys):
    short, (short_clip,) = write_room_shard(tmp_path, clips=1, frames=2)
    base = tmp_path / "tiny.safetensors"
    widths = MVDust3rConfig(32, 8, 32, 1, 2, 32, 1, 2, skip_dim=4, gs_mlp_dim=16)
    save_model(build_model(widths, seed=1), base)
    run = TrainSettings.model_validate(
        {
            "adapt": {"base": str(base), "sampling": {"n_context": 3, "n_targets": 1}},
            "datasets": [{"parts": [{"path": str(room_shard)}]}, {"parts": [{"path": str(short)}]}],
            "out": str(tmp_path / "run"),
        }
    )
    file, out = tmp_path / "run.json", tmp_path / "difficulty.json"
    file.write_text(run.model_dump_json())
    argv = ["--settings", str(file), "--out", str(out), "--samples", "2"]
    assert main(argv) == 0
    found = json.loads(out.read_text())
    assert len(found) == 3
    assert [clip for clip in found if found[clip] is None] == [short_clip]
    assert f"{short_clip}: no trajectory" in capsys.readouterr().err
    assert all(np.isfinite(v) for clip, v in found.items() if clip != short_clip)
    mixing = MixingConfig(difficulty=str(out))
    clips = [MinedClip(clip, str(room_shard)) for clip in found]
    easy, hard = mixed(clips, mixing)
    assert found[easy.parts[0].clips[0]] <= found[hard.parts[0].clips[0]]
    file.write_text(run.model_copy(update={"datasets": ()}).model_dump_json())
    assert main(argv) == 1
    assert "none can be measured" in capsys.readouterr().err
    file.write_text(run.model_dump_json())
    assert main([*argv[:3], str(tmp_path / "no" / "where.json"), "--samples", "1"]) == 1
    assert "cannot write" in capsys.readouterr().err
