"""Settings of the stage assemble."""

from __future__ import annotations

from sage_core.config._base import Section, setting


class AssembleConfig(Section):
    """The stage assemble."""

    version: int = setting(1, "Raised when the stage's code changes what it gives.", ge=1)
