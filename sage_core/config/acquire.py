"""Settings of the stage acquire."""

from __future__ import annotations

from sage_core.config._base import Section, setting


class AcquireConfig(Section):
    """The stage acquire."""

    version: int = setting(1, "Raised when the stage's code changes what it gives.", ge=1)
