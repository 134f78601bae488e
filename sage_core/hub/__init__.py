"""Published weights by name: what there is, under which licence, and how it gets here.

Knows no torch, so that tasks and the command line can ask without loading it.
"""

from sage_core.hub._cache import (
    Record,
    models_folder,
    pull,
    pulled,
    record_of,
    sha256_of,
    weights_path,
)
from sage_core.hub._download import Progress
from sage_core.hub._published import PUBLISHED, PublishedModel, published

__all__ = [
    "PUBLISHED",
    "Progress",
    "PublishedModel",
    "Record",
    "models_folder",
    "published",
    "pull",
    "pulled",
    "record_of",
    "sha256_of",
    "weights_path",
]
