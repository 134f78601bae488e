"""Difficulty measured once by a model and kept beside the shards; by covisibility without any."""

import json

import pytest
from room_shards import write_room_shard
from typer.testing import CliRunner

from flows.cli import app
from sage_core.config.adapt import AdaptConfig
from sage_core.config.sampling import SamplingConfig
from sage_core.errors import ConfigError, ShardError
from sage_core.shards import ShardReader
from sage_core.training import MinedClip, mixed
from sage_core.training.difficulties import (
    DifficultyMeasure,
    covisibility_difficulty,
    known_difficulties,
    read_stored,
)
from sage_core.training.difficulty import measure_shards

SEED = 5


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    """Frames file and ids of two clips."""
    return write_room_shard(tmp_path_factory.mktemp("difficulty"), clips=2)


def adapt(base, **mixing):
    return AdaptConfig.model_validate(
        {
            "base": str(base),
            "sampling": {"n_context": 3, "n_targets": 1},
            "mixing": {"difficulty": "loss", "difficulty_samples": 2, **mixing},
            "device": "cpu",
            "threads": 1,
        }
    )


def test_losses_are_measured_once_and_kept_beside_the_shards(shard, base, tmp_path):
    path, names = shard
    settings = adapt(base)
    clips = [MinedClip(name, str(path)) for name in names]
    with pytest.raises(ConfigError, match=r"lacks 2 of 2 clips.*sage shards difficulty"):
        known_difficulties(clips, settings, SEED)
    told = []
    found = measure_shards([path], settings, SEED, lambda clip, loss: told.append((clip, loss)))
    assert [clip for clip, _ in told] == names
    assert {clip: one.loss for clip, one in found.items()} == dict(told)
    file = DifficultyMeasure.of(settings, SEED).file(path.parent)
    assert read_stored(file) == {"rooms": found}
    assert json.loads(file.read_text())["measure"]["seed"] == SEED
    before = file.read_bytes()
    told.clear()
    assert measure_shards([path.parent], settings, SEED, lambda *_: told.append(_)) == found
    assert (told, file.read_bytes()) == ([], before)
    known = known_difficulties(clips, settings, SEED)
    assert known == {clip: one.loss for clip, one in found.items()}
    easy, hard = mixed(clips, settings.mixing, known)
    assert found[easy.parts[0].clips[0]].loss < found[hard.parts[0].clips[0]].loss


def test_only_clips_that_are_new_are_measured(base, tmp_path):
    path, (name,) = write_room_shard(tmp_path, clips=1)
    settings = adapt(base, difficulty_samples=1)
    first = measure_shards([tmp_path], settings, SEED)
    write_room_shard(tmp_path / "more", clips=2)
    for file in (tmp_path / "more").iterdir():
        file.rename(tmp_path / file.name.replace("rooms", "newer"))
    told = []
    measure_shards(
        [path, tmp_path / "frames-newer.parquet"], settings, SEED, lambda c, _: told.append(c)
    )
    assert len(told) == 2
    stored = read_stored(DifficultyMeasure.of(settings, SEED).file(tmp_path))
    assert sorted(stored) == ["newer", "rooms"]
    assert stored["rooms"] == first
    assert stored["newer"][name] == first[name]


def test_another_model_or_way_of_sampling_is_another_measure(base, tmp_path):
    settings = adapt(base)
    measure = DifficultyMeasure.of(settings, SEED)
    wider = settings.model_copy(update={"sampling": SamplingConfig(n_context=4, n_targets=1)})
    others = [
        DifficultyMeasure.of(wider, SEED),
        DifficultyMeasure.of(settings, SEED + 1),
        DifficultyMeasure.of(adapt("mini"), SEED),
        DifficultyMeasure.of(adapt(base, difficulty_samples=3), SEED),
    ]
    assert len({one.file(tmp_path) for one in (measure, *others)}) == 5
    assert DifficultyMeasure.of(adapt(base, per_visit=4), SEED) == measure


def test_views_farther_apart_are_harder_by_covisibility(shard, tmp_path):
    path, names = shard
    reader = ShardReader([path])
    intervals = (5, 20, 40)
    for name in names:
        clip = reader.clip(name)
        figures = [
            covisibility_difficulty(
                clip, SamplingConfig(n_context=3, n_targets=1, interval_frames=i), 8, SEED
            )
            for i in intervals
        ]
        assert figures == sorted(figures)
        assert 0 <= figures[0] < figures[-1] <= 1
    short, (short_name,) = write_room_shard(tmp_path, clips=1, frames=2)
    info = ShardReader([short]).clip(short_name)
    assert covisibility_difficulty(info, SamplingConfig(), 4, SEED) is None


def test_mixing_by_covisibility_needs_no_model(shard):
    path, names = shard
    settings = adapt("/no/such/weights.safetensors", difficulty="covisibility")
    clips = [MinedClip(name, str(path)) for name in names]
    known = known_difficulties(clips, settings, SEED)
    reader = ShardReader([path])
    assert known == {
        name: covisibility_difficulty(reader.clip(name), settings.sampling, 2, SEED)
        for name in names
    }
    easy, hard = mixed(clips, settings.mixing, known)
    assert known[easy.parts[0].clips[0]] <= known[hard.parts[0].clips[0]]
    off = settings.model_copy(
        update={"mixing": settings.mixing.model_copy(update={"difficulty": None})}
    )
    assert known_difficulties(clips, off, SEED) is None


@pytest.mark.parametrize("text", ["no json", "[]", '{"format": 9, "shards": {}}', '{"format": 1}'])
def test_stored_difficulties_that_cannot_be_read_are_named(tmp_path, text):
    file = tmp_path / "difficulty-0.json"
    assert read_stored(file) == {}
    file.write_text(text)
    with pytest.raises(ShardError, match=r"difficulty-0\.json holds no difficulties"):
        read_stored(file)


def test_the_command_measures_with_mini_and_prints_the_hardest_first(tmp_path):
    write_room_shard(tmp_path, clips=2)
    settings = (
        "adapt.base=mini",
        "adapt.mixing.difficulty_samples=1",
        "adapt.sampling.n_context=3",
    )
    words = ["shards", "difficulty", str(tmp_path), *(w for s in settings for w in ("-s", s))]
    told = CliRunner().invoke(app, [*words, "--json"])
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)
    assert len(found) == 2
    assert all(one["loss"] is not None and 0 <= one["covisibility"] <= 1 for one in found.values())
    table = CliRunner().invoke(app, words)
    assert table.exit_code == 0
    hardest = max(found, key=lambda clip: found[clip]["loss"])
    lines = [line for line in table.stdout.splitlines() if "v0000" in line]
    assert hardest[:16] in lines[0]
