"""Settings of the stage curate."""

from __future__ import annotations

from sage_core.config._base import Section, setting


class CurateConfig(Section):
    """The stage curate."""

    version: int = setting(1, "Raised when the stage's code changes what it gives.", ge=1)
