"""Where a stage's units of work run: in threads here, or on the workers of a Dask or Ray cluster.

Importing this module does not import Prefect, whose settings may not be in the environment yet.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from sage_core.config import RunConfig
from sage_core.errors import ConfigError

if TYPE_CHECKING:
    from prefect.task_runners import TaskRunner

_PACKAGES = {"threads": "prefect", "dask": "prefect_dask", "ray": "prefect_ray"}
_LOOPBACK = "127.0.0.1"
_RAY_CLUSTERS = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Whether Ray reckons with other hosts, whatever its name says. If it does, it takes the host's outward
address, even where it is told 127.0.0.1, and its servers listen on every interface."""
_RAY_STORE = 128 * 2**20
"""Bytes of shared memory: arguments and verdicts go through it, never frames (Ray: a third of all memory)."""


def check_runner(run: RunConfig) -> None:
    """Make sure that ``run.task_runner`` can be had.

    Raises:
        ConfigError: its package is not installed; says what to install.
    """
    if find_spec(_PACKAGES[run.task_runner]) is None:
        raise ConfigError(
            f"run.task_runner={run.task_runner} needs the package {_PACKAGES[run.task_runner]}: pip install "
            f"'sage-video3d[{run.task_runner}]', here and on every worker of the cluster"
        )


def task_runner(run: RunConfig) -> TaskRunner[Any]:
    """The runner that ``run.task_runner`` names; without ``run.cluster`` on processes of this machine.

    Threads are enough on one machine: the heavy work is in child processes.

    Raises:
        ConfigError: its package is not installed.
    """
    check_runner(run)
    if run.task_runner == "dask":
        return _dask(run)  # type: ignore[no-any-return]
    if run.task_runner == "ray":
        return _ray(run)  # type: ignore[no-any-return]
    return threads(run.workers)


def threads(workers: int) -> TaskRunner[Any]:
    """So many threads of this process."""
    from prefect.task_runners import ThreadPoolTaskRunner

    return ThreadPoolTaskRunner(max_workers=workers)


def _dask(run: RunConfig) -> Any:
    from prefect_dask import DaskTaskRunner

    if run.cluster:
        return DaskTaskRunner(address=run.cluster)
    own = {"n_workers": run.workers, "threads_per_worker": 1, "dashboard_address": None}
    return DaskTaskRunner(cluster_kwargs={**own, "host": _LOOPBACK})


def _ray(run: RunConfig) -> Any:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if not run.cluster:
        os.environ[_RAY_CLUSTERS] = "0"  # before Ray is imported, which reads it once
    from prefect_ray import RayTaskRunner

    if run.cluster:
        return RayTaskRunner(address=run.cluster)
    own = {"num_cpus": run.workers, "include_dashboard": False, "object_store_memory": _RAY_STORE}
    return RayTaskRunner(init_kwargs=own)
