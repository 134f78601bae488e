"""The root of the tree."""

from __future__ import annotations

import hashlib
from typing import Literal

from pydantic import Field

from sage_core.config._base import Section, setting, subsection
from sage_core.config.acquire import AcquireConfig
from sage_core.config.adapt import AdaptConfig
from sage_core.config.assemble import AssembleConfig
from sage_core.config.curate import CurateConfig
from sage_core.config.evaluate import EvaluateConfig
from sage_core.config.promote import PromoteConfig
from sage_core.config.reconstruct import ReconstructConfig
from sage_core.config.retention import RetentionConfig
from sage_core.types import Stage


class RunConfig(Section):
    """How a run is carried out: seed, parallelism, what counts as success."""

    seed: int = setting(20260, "Seed of everything that draws at random.", ge=0, lt=2**31)
    workers: int = setting(
        2, "Items worked on at the same time in one stage.", ge=1, le=256, affects_result=False
    )
    task_runner: Literal["threads", "dask", "ray"] = setting(
        "threads",
        "What runs the items of curate, reconstruct and assemble: threads of this process, or the workers of "
        "a Dask or Ray cluster (extras `dask`, `ray`).",
        affects_result=False,
    )
    cluster: str = setting(
        "",
        "Address of a running cluster for task_runner, e.g. tcp://scheduler:8786 or ray://head:10001; empty: "
        "processes of this machine.",
        affects_result=False,
    )
    max_failed_share: float = setting(
        0.2,
        "Share of failed items above which a stage's flow run ends as Failed and `sage run` exits 1.",
        ge=0,
        le=1,
        affects_result=False,
    )
    min_free_gb: float = setting(
        1.0,
        "What must stay free on the workspace's disk, in GiB: downloads end before.",
        ge=0,
        affects_result=False,
    )
    disk_quota_gb: float | None = setting(
        None,
        "What the workspace may take in all, in GiB: downloads end before. None for no limit.",
        gt=0,
        affects_result=False,
    )
    time_budget_h: float | None = setting(
        None,
        "Hours after its start at which a run begins no further item; what it is at is finished, what is "
        "left is counted and done by the next run. Empty for no end.",
        gt=0,
        le=24 * 365,
        affects_result=False,
    )


class SageConfig(Section):
    """All settings of SAGE."""

    run: RunConfig = subsection(RunConfig)
    acquire: AcquireConfig = subsection(AcquireConfig)
    curate: CurateConfig = subsection(CurateConfig)
    reconstruct: ReconstructConfig = subsection(ReconstructConfig)
    assemble: AssembleConfig = subsection(AssembleConfig)
    adapt: AdaptConfig = subsection(AdaptConfig)
    evaluate: EvaluateConfig = subsection(EvaluateConfig)
    retention: RetentionConfig = subsection(RetentionConfig)
    promote: PromoteConfig = subsection(PromoteConfig)
    preset: str | None = Field(None, description="Name of the preset that these values began from.")

    def stage_hash(self, stage: Stage | str) -> str:
        """Config hash of one stage: its section's result fields and the seed, sixteen hex digits."""
        section: Section = getattr(self, Stage(stage).value)
        return hashlib.sha256(f"{section.result_hash()}:{self.run.seed}".encode()).hexdigest()[:16]
