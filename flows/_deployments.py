"""What a Prefect server is told of SAGE: seven deployments, the work pools that they run in, the schedule.

``prefect.yaml`` says the same for who deploys with Prefect's own command; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound
from prefect.flows import Flow
from prefect.schedules import Cron
from prefect.types.entrypoint import EntrypointType

from flows.nightly import FLOWS, nightly
from sage_core.types import Stage

MINING, GPU = "mining", "gpu"
POOLS: dict[str, int | None] = {MINING: None, GPU: 1}
"""Work pools, and how many runs each takes at a time; None for as many as its workers do."""

TAG = "sage"
"""Tag of every deployment: automations know our runs by it."""

_ON_GPU = {Stage.ADAPT, Stage.EVALUATE}


@dataclass(frozen=True)
class Night:
    """When the nightly deployment runs."""

    cron: str = "0 2 * * *"
    timezone: str = "UTC"


@dataclass(frozen=True)
class Planned:
    """A deployment: one flow, in one pool."""

    flow: Flow[..., Any]
    pool: str

    @property
    def name(self) -> str:
        return self.flow.name

    @property
    def description(self) -> str:
        """The first sentence of what the flow says of itself."""
        return (self.flow.fn.__doc__ or "").strip().split("\n")[0]

    @property
    def tags(self) -> list[str]:
        return [TAG, self.name]


def planned() -> list[Planned]:
    """The seven: one a stage, and `nightly`, which runs where the GPU is since its last stages do."""
    stages = [Planned(flow, GPU if stage in _ON_GPU else MINING) for stage, flow in FLOWS.items()]
    return [*stages, Planned(nightly, GPU)]  # last: who finds it there finds all


def deployments(
    workspace: str, sources: Sequence[str], config: dict[str, Any], night: Night, *, pools: bool
) -> list[RunnerDeployment]:
    """The deployments with these parameters; in their work pools, or for the process that serves them."""
    return [
        _deployment(plan, workspace, sources, config, night, plan.pool if pools else None)
        for plan in planned()
    ]


def _deployment(
    plan: Planned,
    workspace: str,
    sources: Sequence[str],
    config: dict[str, Any],
    night: Night,
    pool: str | None,
) -> RunnerDeployment:
    is_night = plan.flow is nightly
    parameters: dict[str, Any] = {"workspace": workspace, "config": config}
    if is_night:
        parameters["sources"] = list(sources)
    made = plan.flow.to_deployment(
        name=plan.name,
        description=plan.description,
        tags=plan.tags,
        parameters=parameters,
        schedule=Cron(night.cron, timezone=night.timezone) if is_night else None,
        work_pool_name=pool,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    assert isinstance(made, RunnerDeployment), (
        "no event loop is running here, so it is no coroutine"
    )
    return made


def make_pools(client: SyncPrefectClient) -> None:
    """Make the work pools, of type process; those that there are keep a limit that is not ours to set."""
    for name, limit in POOLS.items():
        try:
            client.read_work_pool(name)
        except ObjectNotFound:
            client.create_work_pool(
                WorkPoolCreate(name=name, type="process", concurrency_limit=limit)
            )
        else:
            if limit is not None:
                client.update_work_pool(name, WorkPoolUpdate(concurrency_limit=limit))
