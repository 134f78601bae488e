"""The contract of learned masks, kept and broken by small real plug-ins."""

from importlib.metadata import EntryPoint, EntryPoints

import cv2
import numpy as np
import pytest

from sage_core.config import load_config
from sage_core.errors import ConfigError, SageError
from sage_core.masks import find_source, plugin_masks

SIZE = (24, 32)


def red_things(frames):
    """Everything that is mostly red, as a colour key would find it."""
    for frame in frames:
        red = cv2.subtract(frame[..., 0], cv2.max(frame[..., 1], frame[..., 2]))
        yield red > 100


def too_few(frames):
    next(frames)
    yield np.zeros(SIZE, bool)


def too_many(frames):
    for frame in frames:
        yield frame[..., 0] > 0
    yield np.zeros(SIZE, bool)


def grey_levels(frames):
    return [frame[..., 0] for frame in frames]


def raises(frames):
    next(frames)
    raise RuntimeError("no weights")


NOT_A_FUNCTION = 3


def pictures(count=3):
    made = np.full((count, *SIZE, 3), 90, np.uint8)
    for index, picture in enumerate(made):
        picture[4:12, index : index + 9] = (220, 30, 20)
    return list(made)


def named(function):
    return f"{__name__}:{function}"


def test_a_plugin_gives_a_mask_for_each_frame():
    masks = list(plugin_masks(named("red_things"), pictures()))
    assert len(masks) == 3
    for index, mask in enumerate(masks):
        assert mask[4:12, index : index + 9].all()
        assert mask.sum() == 8 * 9


def test_an_installed_plugin_goes_by_its_name(monkeypatch):
    point = EntryPoint("red", named("red_things"), "sage.masks")
    monkeypatch.setattr(
        "sage_core.masks._plugin.entry_points",
        lambda group: EntryPoints([point]).select(group=group),
    )
    assert find_source("red") is red_things
    with pytest.raises(ConfigError, match=r"'blue' cannot be loaded .*'module:function', 'red'"):
        find_source("blue")


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("too_few", "gave 1 masks, fewer than there are frames"),
        ("too_many", "gave more masks than it took frames"),
        ("grey_levels", r"gave uint8 \[24, 32\] for frame 0, must be a bool array \[24, 32\]"),
        ("raises", r"failed \(RuntimeError: no weights\)"),
    ],
)
def test_a_broken_contract_is_named(function, words):
    with pytest.raises(SageError, match=f"{function}' {words}"):
        list(plugin_masks(named(function), pictures()))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no_such_module:masks", "ModuleNotFoundError"),
        (named("no_such_function"), "AttributeError"),
        (named("NOT_A_FUNCTION"), "is no function but a int"),
    ],
)
def test_what_cannot_be_loaded_is_a_setting_to_change(name, words):
    with pytest.raises(ConfigError, match=words):
        find_source(name)


def test_a_bare_off_on_the_command_line_is_the_word():
    config = load_config(overrides=["reconstruct.masks.movers=off"])
    assert config.reconstruct.masks.movers == "off"
