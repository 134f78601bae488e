"""Why an item got its verdict, as one picture: frames, scores over time, tracks, figures, cameras.

Nothing here knows a workspace: who has one fills an :class:`Explanation` (see ``flows._explain``).
"""

from sage_core.explain._contents import (
    Band,
    Curve,
    Evidence,
    Explanation,
    Mark,
    Scene,
    Span,
    Still,
    Timeline,
)
from sage_core.explain._html import to_html
from sage_core.explain._media import (
    decode_frames,
    decode_spread,
    decoded,
    evidence,
    read_picture,
    within,
)
from sage_core.explain._model import pose_curves, read_scene
from sage_core.explain._moment import Moment, spread, telling_moment
from sage_core.explain._panels import fails
from sage_core.explain._picture import draw, to_jpeg, to_png
from sage_core.explain._scores import bands, curves, first_figures, legend, mark_at, nearest

__all__ = [
    "Band",
    "Curve",
    "Evidence",
    "Explanation",
    "Mark",
    "Moment",
    "Scene",
    "Span",
    "Still",
    "Timeline",
    "bands",
    "curves",
    "decode_frames",
    "decode_spread",
    "decoded",
    "draw",
    "evidence",
    "fails",
    "first_figures",
    "legend",
    "mark_at",
    "nearest",
    "pose_curves",
    "read_picture",
    "read_scene",
    "spread",
    "telling_moment",
    "to_html",
    "to_jpeg",
    "to_png",
    "within",
]
