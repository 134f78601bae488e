"""A small study runs through, is not run again, and tells what has not run."""

import csv
from pathlib import Path

import pytest
import torch
import yaml

from sage_core.config import SageConfig
from sage_core.errors import ConfigError
from sage_core.study import VARIANTS, Study, StudySettings, write_tables
from sage_core.study.run import Cell, _datasets
from sage_core.study.variants import merged
from sage_core.training.lock import RunHeldError, run_lock
from sage_core.world.clips import RoomClip, write_room_shard

torch.set_num_threads(1)

ADAPT = {
    "base": "mini",
    "steps": 2,
    "device": "cpu",
    "threads": 1,
    "sampling": {"n_context": 2, "n_targets": 1, "interval_frames": 20},
    "loss": {"perceptual": "none", "rendered_context": 1},
    "regularisation": {"source": "world:labelled", "pool": 4, "ratio": 7},
    "optimizer": {"batch": 1},
}
EVALUATE = {"world": ["choice", "near"], "world_tuples": 2, "views": 2, "pictures": 0}


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    write_room_shard(folder, [RoomClip(seed) for seed in range(2)])
    return str(folder)


def settings(shards, **changes):
    tree = {"shards": [shards], "seeds": [0], "variants": ["base", "full", "labels"],
            "adapt": ADAPT, "evaluate": EVALUATE}  # fmt: skip
    return StudySettings.model_validate(tree | changes)


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_every_variant_is_a_valid_setting_that_changes_something(name):
    variant = VARIANTS[name]
    study = StudySettings(adapt=ADAPT)
    changed = study.config(variant).adapt != study.config(VARIANTS["full"]).adapt
    by_clips = variant.budget == 1 and (variant.scenes is not None or variant.pseudo)
    assert changed == (name not in ("base", "full") and not by_clips)
    assert variant.about


def test_settings_are_checked(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump({"variants": ["fulll"]}))
    with pytest.raises(ConfigError, match="no variant 'fulll'"):
        StudySettings.read(path)
    with pytest.raises(ConfigError, match="variant base: "):
        Study(StudySettings(adapt={"steps": -1}, variants=("full",)), tmp_path)
    with pytest.raises(ConfigError, match="run `sage assemble` first"):
        Study(StudySettings(adapt=ADAPT, shards=(str(tmp_path / "none"),)), tmp_path)


def test_a_growing_budget_grows_with_the_scenes(tmp_path):
    study = StudySettings(adapt={**ADAPT, "steps": 640})
    assert [study.config(VARIANTS[f"growing-{n}"]).adapt.steps for n in (8, 16, 32)] == [
        80,
        160,
        320,
    ]
    without = StudySettings(adapt={k: v for k, v in ADAPT.items() if k != "steps"})
    with pytest.raises(ConfigError, match="takes 12% of adapt\\.steps"):
        without.config(VARIANTS["growing-8"])


def test_a_mix_of_easy_and_hard_clips_is_one_data_set_for_each_class(shards, tmp_path):
    study = Study(settings(shards), tmp_path)
    parts = study._parts(VARIANTS["full"])
    halves = {
        name: _datasets(parts, study.settings.config(VARIANTS[name]), 0)
        for name in ("easy", "hard", "easy-hard", "full")
    }
    clips = {
        name: [[clip for part in data.parts for clip in part.clips] for data in sets]
        for name, sets in halves.items()
    }
    assert len(clips["full"]) == 1
    assert len(clips["full"][0]) == 2
    assert len(clips["easy-hard"]) == 2
    assert clips["easy-hard"] == [*clips["easy"], *clips["hard"]]
    assert clips["easy"] != clips["hard"]


def test_the_preset_is_a_study_of_the_first_comparison():
    preset = StudySettings.read(Path("mini"))
    assert preset.variants == tuple(VARIANTS)[:7]
    assert preset.choice == "world-choice"
    assert "choice" in preset.config(VARIANTS["full"]).evaluate.world


def test_changes_are_named_with_dots_and_leave_the_common_settings_alone():
    tree = merged(ADAPT, {"loss.anchor_weight": 0, "steps": 9})
    assert tree["loss"] == {"perceptual": "none", "rendered_context": 1, "anchor_weight": 0}
    assert "anchor_weight" not in ADAPT["loss"]
    assert SageConfig.model_validate({"adapt": tree}).adapt.steps == 9


def test_a_variant_of_fewer_scenes_takes_whole_videos(shards, tmp_path):
    study = Study(settings(shards), tmp_path)
    one = VARIANTS["scenes-4"].__class__("one", "", scenes=1)
    clips = [clip for part in study._parts(one) for clip in part.clips]
    assert clips == [study.clips[0][1]]
    assert len(study.clips) == 2


def test_a_second_run_of_the_same_study_is_refused(shards, tmp_path):
    with run_lock(tmp_path), pytest.raises(RunHeldError, match="is being trained by"):
        Study(settings(shards), tmp_path).run(1)


@pytest.mark.slow
def test_a_study_runs_once_and_its_table_says_what_has_not_run(shards, tmp_path):
    study = Study(settings(shards), tmp_path)
    assert "0 of 3 runs" in write_tables(study).read_text()
    states = []
    assert study.run(1, lambda cell, state: states.append((str(cell), state))) == []
    assert states.count(("full seed 0", "done")) == 1
    base, full, labels = (study.row(cell) for cell in study.cells())
    assert base["trained"] is None
    assert (full["trained"]["video_samples"], full["trained"]["labelled_samples"]) == (2, 0)
    assert (labels["trained"]["video_samples"], labels["trained"]["labelled_samples"]) == (0, 2)
    names = [one["name"] for one in full["sets"]]
    assert names == ["world-choice", "world-near"]
    assert full["sets"][1]["mean"]["cd"] != base["sets"][1]["mean"]["cd"]
    again = []
    assert Study(settings(shards), tmp_path).run(1, lambda *state: again.append(state)) == []
    assert again == []
    wider = Study(
        settings(shards, variants=["base", "full", "labels", "linear"], seeds=[0, 1]), tmp_path
    )
    text = write_tables(wider).read_text()
    assert "4 of 7 runs" not in text
    assert "3 of 7 runs" in text
    assert "(1 of 2)" in text
    assert "| not run |" in text
    with (tmp_path / "rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["variant"] for row in rows} == {"base", "full", "labels"}
    assert (tmp_path / "cd.svg").stat().st_size > 1000
    assert wider.row(Cell(VARIANTS["linear"], 0)) is None
