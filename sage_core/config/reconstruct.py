"""Settings of the stage reconstruct."""

from __future__ import annotations

from sage_core.config._base import Section, setting


class ReconstructConfig(Section):
    """The stage reconstruct."""

    version: int = setting(1, "Raised when the stage's code changes what it gives.", ge=1)
