"""Masks from elsewhere: a segmenter that is installed or importable, under a small contract."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import entry_points
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sage_core.errors import ConfigError, SageError
from sage_core.types import Reason

GROUP = "sage.masks"
Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
MaskSource = Callable[[Iterator[Image]], Iterable[Mask]]
"""Takes a clip's frames in order, uint8 [H, W, 3] RGB, and gives one bool [H, W] for each, in order: True
on what is no static scene."""


def find_source(name: str) -> MaskSource:
    """The function behind the name of an entry point (group ``sage.masks``) or ``module:function``.

    Raises:
        ConfigError: there is none, or it cannot be imported or called.
    """
    try:
        source = _imported(name)
    except Exception as error:  # importing runs the plug-in's own code
        raise ConfigError(
            f"the mask plug-in {name!r} cannot be loaded ({type(error).__name__}: {error}): "
            f"{_known()}; set reconstruct.masks.movers to one of these"
        ) from error
    if not callable(source):
        raise ConfigError(f"the mask plug-in {name!r} is no function but a {type(source).__name__}")
    return source  # type: ignore[no-any-return]


def _imported(name: str) -> Any:
    module, colon, function = name.partition(":")
    if colon:
        return getattr(importlib.import_module(module), function)
    return entry_points(group=GROUP)[name].load()


def _known() -> str:
    names = sorted(point.name for point in entry_points(group=GROUP))
    return ", ".join(["'off', 'geometric', 'module:function'", *map(repr, names)])


def plugin_masks(name: str, frames: Iterable[Image]) -> Iterator[Mask]:
    """A plug-in's mask of each frame, checked.

    Raises:
        ConfigError: as :func:`find_source`.
        SageError: the plug-in raised, or gave something else than a mask for each frame.
    """
    sizes: list[tuple[int, int]] = []
    frames = iter(frames)

    def handed() -> Iterator[Image]:
        for frame in frames:
            sizes.append((frame.shape[0], frame.shape[1]))
            yield frame

    source, count = find_source(name), 0
    answers = _guarded(name, source, handed())
    for mask in answers:
        if count == len(sizes):
            raise _broken(name, "gave more masks than it took frames")
        yield _checked(name, mask, count, sizes[count])
        count += 1
    if count < len(sizes) or next(frames, None) is not None:
        raise _broken(name, f"gave {count} masks, fewer than there are frames")


def _guarded(name: str, source: MaskSource, frames: Iterator[Image]) -> Iterator[Any]:
    try:
        yield from source(frames)
    except SageError:
        raise
    except Exception as error:  # whatever it is, it is named as the plug-in's
        raise _broken(name, f"failed ({type(error).__name__}: {error})") from error


def _checked(name: str, mask: Any, index: int, size: tuple[int, int]) -> Mask:
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != size:
        found = (
            f"{mask.dtype} {list(mask.shape)}"
            if isinstance(mask, np.ndarray)
            else f"a {type(mask).__name__}"
        )
        raise _broken(name, f"gave {found} for frame {index}, must be a bool array {list(size)}")
    return mask


def _broken(name: str, how: str) -> SageError:
    return SageError(
        f"the mask plug-in {name!r} {how}: mend it, or set reconstruct.masks.movers to something else",
        reason=Reason.BAD_CONFIG,
    )
