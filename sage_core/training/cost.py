"""What a model's passes take, counted on tensors without memory, and what devices can do.

A network of the user's own may look at values on its way, which such tensors do not have: then nothing can be
counted, and the answer is None.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedFakeTensorException,
)
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from sage_core.models import GeometricModel, GeometryOutput

P = ParamSpec("P")
Answer = TypeVar("Answer")
Shape = tuple[int, int, int, int]
"""Samples, views, height, width."""

_PEAK_TFLOPS = {
    "GB200": 2500,
    "B200": 2250,
    "H200": 989,
    "H100 PCIe": 756,
    "H100 NVL": 835,
    "H100": 989,
    "A100": 312,
    "L40S": 362,
    "RTX 6000 Ada": 364,
    "RTX 4090": 165,
    "RTX 3090": 71,
    "A10": 125,
}
"""Dense bfloat16 with float32 sums, 10^12 operations a second, from the makers' data sheets; the first
name that is part of the device's counts."""


def peak_flops(device: torch.device, *, half: bool, given_tflops: float | None) -> float | None:
    """Operations a second that the device could do: as given, or by its name for bfloat16, or not known."""
    if given_tflops is not None:
        return given_tflops * 1e12
    if device.type != "cuda" or not half or not torch.cuda.is_available():
        return None  # a run is also planned where its device is not
    return known_peak(torch.cuda.get_device_name(device))


def known_peak(device_name: str) -> float | None:
    """The bfloat16 peak of a device by its name, or None."""
    for part, tflops in _PEAK_TFLOPS.items():
        if part.lower() in device_name.lower():
            return tflops * 1e12
    return None


def _none_where_values_count(count: Callable[P, Answer]) -> Callable[P, Answer | None]:
    @functools.wraps(count)
    def counted(*args: P.args, **kwargs: P.kwargs) -> Answer | None:
        try:
            return count(*args, **kwargs)
        except (
            DataDependentOutputException,
            DynamicOutputShapeException,
            UnsupportedFakeTensorException,
        ):
            return None

    return counted


@_none_where_values_count
def kept_bytes(shell: GeometricModel, shape: Shape, *, half: bool, references: int = 1) -> int:
    """Bytes that autograd keeps of a forward pass for the backward pass, the weights not counted."""
    kept: dict[int, torch.UntypedStorage] = {}

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    with _twin(shell) as twin:
        weights = {p.untyped_storage()._cdata for p in twin.parameters()}
        with (
            torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
            torch.autocast("cpu", torch.bfloat16, enabled=half),
        ):
            answer = _answer(twin, shape, references)
        del answer
        return sum(storage.nbytes() for key, storage in kept.items() if key not in weights)


def bytes_per_view(
    shell: GeometricModel,
    height: int,
    width: int,
    *,
    training: bool,
    views: int = 8,
    half: bool = False,
) -> int | None:
    """What the last of ``views`` views takes: kept for the backward pass, or at the peak of inference.

    Where each view looks at all others by itself (MV-DUSt3R) it grows with their number.
    """
    count = kept_bytes if training else peak_bytes
    fewer, all_of_them = (
        count(shell, (1, seen, height, width), half=half) for seen in (views - 1, views)
    )
    return None if fewer is None or all_of_them is None else all_of_them - fewer


@_none_where_values_count
def peak_bytes(shell: GeometricModel, shape: Shape, *, half: bool) -> int:
    """Most bytes that are alive at once in a forward pass without gradient, the weights not counted."""
    with _twin(shell) as twin, torch.no_grad(), _Alive() as alive:
        images = _images(shape)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            twin.eval()(images)
    return int(alive.peak)


class _Alive(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the storages that operations have made and that something still holds."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._held: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {_storage(leaf)._cdata for leaf in tree_leaves((args, kwargs)) if _is_tensor(leaf)}
        made = func(*args, **(kwargs or {}))
        self._held = {key: held for key, held in self._held.items() if not _gone(held[0])}
        for storage in (_storage(leaf) for leaf in tree_leaves(made) if _is_tensor(leaf)):
            if storage._cdata not in given:
                self._held[storage._cdata] = (_watched(storage), storage.nbytes())
        self.peak = max(self.peak, sum(size for _, size in self._held.values()))
        return made


def _is_tensor(leaf: Any) -> bool:
    return isinstance(leaf, Tensor)


def _storage(tensor: Tensor) -> torch.UntypedStorage:
    return tensor.untyped_storage()


def _watched(storage: torch.UntypedStorage) -> StorageWeakRef:
    return StorageWeakRef(storage)  # type: ignore[no-untyped-call]


def _gone(watched: StorageWeakRef) -> bool:
    return bool(watched.expired())  # type: ignore[no-untyped-call]


@_none_where_values_count
def pass_flops(shell: GeometricModel, shape: Shape, references: int = 1) -> float:
    """Operations (two a multiply-add) of a forward and a backward pass.

    Matrix products, attention and convolutions count. What activation checkpointing computes again does not:
    the figure is of the model, not of how it is run.
    """
    with (
        _twin(shell) as twin,
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        twin.checkpointing = False
        _sum(_answer(twin, shape, references)).backward()  # type: ignore[no-untyped-call]
    return float(counter.get_total_flops())


@contextmanager
def _twin(shell: GeometricModel) -> Iterator[GeometricModel]:
    """The model with tensors that have a device and a shape, and no memory."""
    twin = copy.deepcopy(shell)
    with FakeTensorMode(allow_non_fake_inputs=True):
        twin._apply(_without_memory)  # type: ignore[no-untyped-call]
        yield twin


def _without_memory(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype)


def _images(shape: Shape) -> Tensor:
    samples, views, height, width = shape
    return torch.zeros(samples, views, 3, height, width)


def _answer(twin: GeometricModel, shape: Shape, references: int) -> GeometryOutput:
    # Only models that can take several views as reference know the word.
    more = {"references": references} if references > 1 else {}
    answer: GeometryOutput = twin(_images(shape), **more)
    return answer


def _sum(output: GeometryOutput) -> Tensor:
    """A scalar that depends on all that a model answers."""
    parts = [v for v in vars(output).values() if isinstance(v, Tensor)]
    if output.gaussians is not None:
        parts += vars(output.gaussians).values()
    return sum((part.sum() for part in parts), torch.zeros(()))
