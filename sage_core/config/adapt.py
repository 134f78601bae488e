"""Settings of the stage adapt."""

from __future__ import annotations

from sage_core.config._base import Section, setting


class AdaptConfig(Section):
    """The stage adapt."""

    version: int = setting(1, "Raised when the stage's code changes what it gives.", ge=1)
