"""Perceptual fingerprints: hashes of pictures over time, who shows the same footage, and which one is kept.

Light to import: numpy and OpenCV. ``docs/curate.md`` says what is found and what is not.
"""

from sage_core.fingerprints._fingerprint import Fingerprint, Recorder
from sage_core.fingerprints._hashes import (
    CROPS,
    crop_hashes,
    distance,
    mirrored,
    picture_hash,
    small,
)
from sage_core.fingerprints._index import HashIndex
from sage_core.fingerprints._keeping import Duplicate, Footage, duplicates, shown_share
from sage_core.fingerprints._links import Link, find_links

__all__ = [
    "CROPS",
    "Duplicate",
    "Fingerprint",
    "Footage",
    "HashIndex",
    "Link",
    "Recorder",
    "crop_hashes",
    "distance",
    "duplicates",
    "find_links",
    "mirrored",
    "picture_hash",
    "shown_share",
    "small",
]
