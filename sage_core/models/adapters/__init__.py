"""Models that are the user's own installation: what differs from SAGE's conventions is turned at the door.

Nothing of theirs is contained here. Their packages are imported when a model is built, not before.
"""

from sage_core.models.adapters._base import AdaptedModel
from sage_core.models.adapters._mapanything import MapAnythingConfig, MapAnythingModel
from sage_core.models.adapters._pi3 import Pi3Config, Pi3Model

__all__ = [
    "AdaptedModel",
    "MapAnythingConfig",
    "MapAnythingModel",
    "Pi3Config",
    "Pi3Model",
]
