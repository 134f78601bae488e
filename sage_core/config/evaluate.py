"""Settings of the stage evaluate."""

from __future__ import annotations

from sage_core.config._base import Section, setting


class EvaluateConfig(Section):
    """The stage evaluate."""

    version: int = setting(1, "Raised when the stage's code changes what it gives.", ge=1)
