"""Errors of torch and the system, as errors that say what to do."""

from __future__ import annotations

import torch

from sage_core.errors import SageError, TrainingError
from sage_core.training.files import disk_is_full
from sage_core.training.settings import TrainSettings
from sage_core.types import Reason

_OUT_OF_MEMORY = ("out of memory", "allocate memory", "Unable to allocate", "Insufficient memory")


def named(error: BaseException, settings: TrainSettings) -> SageError | None:
    """The error as one that says what to do, if it is of a known kind."""
    if isinstance(error, SageError):
        return error
    if isinstance(error, Exception) and disk_is_full(error, settings.folder):
        return TrainingError(
            f"the disk of {settings.folder} is full: free some space and run the same command again",
            reason=Reason.DISK_FULL,
            retryable=True,
        )
    if is_out_of_memory(error):
        return TrainingError(
            _what_to_lower(settings, _first_line(error)), reason=Reason.MEMORY_LIMIT
        )
    return None


def unknown(error: BaseException) -> SageError:
    """An error of no known kind, as one line that says where the rest is."""
    return TrainingError(
        f"training met an error that it does not know, {type(error).__name__}: {_first_line(error)}. Please "
        "report it with the traceback at the end of the run folder's log.txt",
        reason=Reason.INTERNAL_ERROR,
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device's or the machine's memory did not suffice; allocators say so in many ways."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(words in str(error) for words in _OUT_OF_MEMORY)


def _what_to_lower(settings: TrainSettings, detail: str) -> str:
    adapt = settings.adapt
    size = adapt.image_px or "as the model was trained"
    rendered = adapt.loss.rendered_context
    ways = [
        f"adapt.optimizer.micro_batch (now {adapt.optimizer.micro_batch}; changes no result)",
        f"adapt.sampling.n_context (now {adapt.sampling.n_context})",
        f"adapt.image_px (now {size})",
        f"adapt.loss.rendered_context (now {'all' if rendered is None else rendered})",
    ]
    switches = []
    if not adapt.checkpoint_activations:
        switches.append("adapt.checkpoint_activations=true")
    if adapt.parallel == "ddp":
        switches.append("adapt.parallel=fully_shard on several devices")
    first = (
        f"set {' or '.join(switches)} (which change no result), or lower " if switches else "lower "
    )
    return f"out of memory: {first}one of {', '.join(ways)}. {detail}"


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
