import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from sage_core.config import PRESETS, SageConfig, load_config
from sage_core.config._load import dotted_keys, nearest_key
from sage_core.config.reconstruct import ReconstructConfig
from sage_core.errors import ConfigError
from sage_core.types import REASON_TEXT, Reason, Stage

LEAVES = [
    key
    for key in dotted_keys(SageConfig)
    if not any(other.startswith(f"{key}.") for other in dotted_keys(SageConfig))
]


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_load(preset):
    assert load_config(preset=preset).preset == preset


def test_every_setting_is_described():
    def undescribed(model, prefix=""):
        for name, info in model.model_fields.items():
            if not info.description:
                yield prefix + name
            kind = info.annotation
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from undescribed(kind, f"{prefix}{name}.")

    assert not list(undescribed(SageConfig))


def test_every_reason_has_its_sentence():
    assert set(REASON_TEXT) == set(Reason)


@given(st.sampled_from(LEAVES), st.integers(0, 5))
def test_a_key_with_a_slip_is_led_back(key, position):
    section, _, name = key.rpartition(".")
    slipped = name[: position % len(name)] + "x" + name[position % len(name) :]
    path = [*section.split("."), slipped] if section else [slipped]
    assert nearest_key(path) is not None


def test_later_layers_win(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("preset: demo\nrun: {seed: 5, workers: 3}\n")
    config = load_config(file, ["run.seed=6"])
    assert (config.run.seed, config.run.workers, config.preset) == (6, 3, "demo")


def test_politeness_and_speed_stay_out_of_the_hash():
    default = load_config()
    assert load_config(overrides=["run.workers=7"]) != default
    for stage in Stage:
        assert load_config(overrides=["run.workers=7"]).stage_hash(stage) == default.stage_hash(
            stage
        )


def test_a_threshold_changes_its_own_stage_only():
    default, other = load_config(), load_config(overrides=["curate.min_duration_s=5"])
    changed = [stage for stage in Stage if default.stage_hash(stage) != other.stage_hash(stage)]
    assert changed == [Stage.CURATE]


@pytest.mark.parametrize("text", ["curate", "=5", "curate.min_duration_s=[", "nothing.at=all"])
def test_bad_overrides_are_named(text):
    with pytest.raises(ConfigError):
        load_config(overrides=[text])


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "adapt.teacher.weight=1",
            "adapt: teacher.weight needs an average to teach: set ema_decay",
        ),
        ("adapt.views.max=9", "adapt.views: min and max are given together, or neither"),
        ("adapt.image_px=abc", "adapt.image_px = 'abc': input should be a valid integer"),
    ],
)
def test_a_contradiction_is_said_without_the_rest_of_its_section(override, said):
    with pytest.raises(ConfigError) as caught:
        load_config(preset="demo", overrides=[override])
    assert str(caught.value).startswith(said)
    assert "base" not in str(caught.value)


def test_a_folder_of_a_presets_name_does_not_hide_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    assert load_config("demo").preset == "demo"


def test_what_a_hash_leaves_out_changes_it_no_more():
    plain = ReconstructConfig()
    changed = ReconstructConfig(gate={"max_zoom": 0.5})
    assert plain.result_hash() != changed.result_hash()
    left_out = {"gate": ["max_zoom"]}
    assert plain.result_hash(exclude=left_out) == changed.result_hash(exclude=left_out)
    other = ReconstructConfig(gate={"min_points_frame": 40})
    assert plain.result_hash(exclude=left_out) != other.result_hash(exclude=left_out)
