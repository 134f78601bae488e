"""One model on many ranks: copies (DDP) or shares of it (FSDP2), behind a few functions.

A sharded model's parameters, gradients and moments are ``DTensor``s of which each rank holds a part.
:func:`gathered` and :func:`scattered` go between those and plain, whole tensors, so that checkpoints are the
same whichever way a run is spread out, and on however many ranks.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from sage_core.models import GeometricModel
from sage_core.training.ranks import Ranks

logger = logging.getLogger("sage.training")


def shard(model: GeometricModel, ranks: Ranks) -> None:
    """Leave each rank a share of every parameter, block by block (``fully_shard``), in place.

    A block's weights are whole only while it computes. They stay float32: autocast decides what is computed
    in bfloat16. Parameters are other objects afterwards. A single rank keeps all, and says so in its log.
    """
    if ranks.world == 1:
        logger.warning(
            "adapt.parallel=fully_shard shares out nothing: this run is a single process and holds the whole "
            "model. Start one a device (adapt.processes, or torch.distributed.run)"
        )
        return
    mesh = init_device_mesh(ranks.device.type, (ranks.world,))
    for block in model.blocks():
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def shared(model: nn.Module, ranks: Ranks) -> nn.Module:
    """What to call for the forward pass, so that gradients are averaged over the ranks."""
    if ranks.world == 1 or isinstance(model, FSDPModule):
        return model
    devices = [ranks.local_rank] if ranks.device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=devices, gradient_as_bucket_view=True)


@contextmanager
def exchanging(forward: nn.Module, exchange: bool) -> Iterator[None]:
    """Whether backward passes in this context exchange gradients, or only add them up."""
    if isinstance(forward, FSDPModule):
        forward.set_requires_gradient_sync(exchange)
        yield
    elif isinstance(forward, DistributedDataParallel) and not exchange:
        with forward.no_sync():
            yield
    else:
        yield


def drop_whole_weights(model: nn.Module) -> None:
    """Have a model in shares collect its weights anew before the next pass.

    It keeps some of them whole after a forward pass, and would not see that their shares have changed.
    """
    if isinstance(model, FSDPModule):
        model.reshard()


def agree_on_buffers(model: nn.Module) -> None:
    """Give all ranks the first one's batch-norm statistics, as DDP does by itself."""
    if isinstance(model, FSDPModule):
        for buffer in running_statistics(model):
            distributed.broadcast(buffer, 0)


def running_statistics(model: nn.Module) -> list[Tensor]:
    """The statistics of batch-norm layers that gather any; none where all are frozen."""
    return [
        buffer
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training
        for buffer in module.buffers(recurse=False)
    ]


def squared_norms(groups: Sequence[Sequence[nn.Parameter]]) -> Tensor:
    """Squared L2 norm of the gradients of each group of parameters, over all ranks' shares."""
    norms = torch.stack([_norm(parameters) for parameters in groups]).double().square()
    if any(isinstance(p, DTensor) for parameters in groups for p in parameters):
        distributed.all_reduce(norms)
    return norms


def local(tensor: Tensor) -> Tensor:
    """This rank's part of a tensor; it shares the memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def gathered(tensors: Mapping[str, Tensor], ranks: Ranks) -> dict[str, Tensor]:
    """Whole tensors on the CPU for the first rank, nothing for the others; all ranks must call it."""
    kept = {}
    for name, tensor in tensors.items():
        whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        if ranks.first:
            kept[name] = whole.detach().cpu().contiguous()
    return kept


def scattered(whole: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, which every rank has, spread out and placed as ``like`` is."""
    whole = whole.to(like.device)
    if not isinstance(like, DTensor):
        return whole
    mine: Tensor = distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None)
    return mine


def gathered_moments(optimizer: torch.optim.Optimizer, ranks: Ranks) -> dict[str, Any]:
    """The optimiser's ``state_dict()`` with whole tensors on the CPU, on the first rank."""
    data = optimizer.state_dict()
    return {**data, "state": {n: gathered(s, ranks) for n, s in data["state"].items()}}


def restore_moments(optimizer: torch.optim.Optimizer, data: Mapping[str, Any]) -> None:
    """The inverse of :func:`gathered_moments`, on every rank."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state = {
        number: {
            name: value if name == "step" else scattered(value, parameters[number])
            for name, value in moments.items()
        }
        for number, moments in data["state"].items()
    }
    optimizer.load_state_dict({**data, "state": state})


def _norm(parameters: Sequence[nn.Parameter]) -> Tensor:
    norms = [torch.linalg.vector_norm(local(p.grad)) for p in parameters if p.grad is not None]
    if not norms:
        return torch.zeros((), device=local(parameters[0]).device)
    norm: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return norm
