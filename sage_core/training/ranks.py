"""The processes of one training run, started by ``torch.distributed.run`` or alone."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import torch
from torch import distributed

from sage_core.errors import TrainingError

_TIMEOUT = timedelta(minutes=15)


@dataclass(frozen=True)
class Ranks:
    """This process among all of the run: its rank, how many there are, and its device."""

    rank: int
    world: int
    local_rank: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is the one rank that writes files."""
        return self.rank == 0

    def any(self, flags: Sequence[bool]) -> list[bool]:
        """Each flag, true if it is true on any rank; the same answer on every rank."""
        if self.world == 1:
            return [bool(flag) for flag in flags]
        votes = torch.tensor([float(flag) for flag in flags], device=self.device)
        distributed.all_reduce(votes, op=distributed.ReduceOp.MAX)
        return [vote > 0 for vote in votes.tolist()]

    def sums(self, values: Sequence[float]) -> list[float]:
        """Each value summed over the ranks, in float64."""
        if self.world == 1:
            return list(values)
        totals = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(totals)
        return [float(total) for total in totals.tolist()]

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.world > 1:
            distributed.barrier()


@contextmanager
def joined(device: Literal["auto", "cpu", "cuda"], threads: int) -> Iterator[Ranks]:
    """The run's ranks, from the environment that ``torch.distributed.run`` sets; gloo or nccl.

    Raises:
        TrainingError: CUDA asked for, but there is none, or fewer devices than local ranks.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    rank, local = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
    place = _device(device, local)
    torch.set_num_threads(threads or _threads_per_rank())
    if world > 1:
        backend = "nccl" if place.type == "cuda" else "gloo"
        distributed.init_process_group(backend, timeout=_TIMEOUT)
    try:
        yield Ranks(rank, world, local, place)
    finally:
        if world > 1:
            distributed.destroy_process_group()


def device_for(wanted: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The kind of device that a run trains on."""
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    return torch.device("cuda")


def _device(wanted: Literal["auto", "cpu", "cuda"], local_rank: int) -> torch.device:
    if device_for(wanted).type == "cpu":
        return torch.device("cpu")
    there = torch.cuda.device_count()
    if local_rank >= there:
        raise TrainingError(
            f"rank {local_rank} of this machine wants a CUDA device, and torch {torch.__version__} "
            f"sees {there}. Start fewer processes, or set adapt.device=cpu"
        )
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    return device


def _threads_per_rank() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (cores or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
