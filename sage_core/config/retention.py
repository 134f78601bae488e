"""Settings of retention: what `sage prune` removes."""

from __future__ import annotations

from typing import Literal

from sage_core.config._base import Section, setting


class RetentionConfig(Section):
    """What is kept once nothing is left to do with it; applied by `sage prune`, each night if asked for."""

    nightly: bool = setting(False, "Prune at the end of each night.", affects_result=False)
    videos: Literal["keep", "assembled"] = setting(
        "keep",
        "'assembled': a fetched file goes once each of its clips is in a shard or rejected; that of a "
        "rejected video, too.",
        affects_result=False,
    )
    models: Literal["keep", "assembled"] = setting(
        "keep",
        "'assembled': a clip's COLMAP model and pictures go once it is in a shard or rejected.",
        affects_result=False,
    )
    checkpoints: Literal["keep", "finished"] = setting(
        "keep",
        "'finished': what a training run saved on its way goes once it has ended well; its weights stay.",
        affects_result=False,
    )
    history_days: float | None = setting(
        None,
        "Flow runs that ended so many days ago go from Prefect's database, with their task runs, logs and "
        "artifacts. Empty: they are kept.",
        ge=1,
        affects_result=False,
    )
