"""Which videos are worth reconstructing, and which frames of them: measuring apart from deciding.

``measure`` decodes a video once and gives scores; ``decide`` turns scores and thresholds into verdicts
on the video and its clips; ``curate_file`` does both for a sandboxed child, ``redecide_file`` decides
again from the scores that it stored.
"""

from sage_core.mining._clips import Timeline
from sage_core.mining._curate import (
    CONTACT_FILE,
    CURATION_FILE,
    FINGERPRINT_FILE,
    THUMBNAILS_FILE,
    check_scores,
    curate_file,
    decide_again,
    read_curation,
    redecide_file,
)
from sage_core.mining._decide import ClipVerdict, Curation, decide, decide_header
from sage_core.mining._evidence import Tracks, follow_corners
from sage_core.mining._kinds import Kind
from sage_core.mining._measure import LONG_SIDE, measure
from sage_core.mining._measures import Measures
from sage_core.mining._photos import PhotoMeasures, decide_photos, measure_photos
from sage_core.mining._shots import Passage, Transition, find_transitions
from sage_core.mining._thumbnails import Thumbnails

__all__ = [
    "CONTACT_FILE",
    "CURATION_FILE",
    "FINGERPRINT_FILE",
    "LONG_SIDE",
    "THUMBNAILS_FILE",
    "ClipVerdict",
    "Curation",
    "Kind",
    "Measures",
    "Passage",
    "PhotoMeasures",
    "Thumbnails",
    "Timeline",
    "Tracks",
    "Transition",
    "check_scores",
    "curate_file",
    "decide",
    "decide_again",
    "decide_header",
    "decide_photos",
    "find_transitions",
    "follow_corners",
    "measure",
    "measure_photos",
    "read_curation",
    "redecide_file",
]
