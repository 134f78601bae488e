"""Colours and type, those of the report."""

from __future__ import annotations

from typing import Any

from sage_core.mining import Kind

GROUND, INK, SOFT, LINE, WELL = "#ffffff", "#1b1f24", "#57606a", "#dfe2e6", "#f2f3f4"
ACCEPTED, REJECTED, FAILED = "#18794e", "#b26a00", "#b42318"
ACCENT, SHOT, GREY = "#2456a6", "#c9d3e0", "#4d5761"
FORBIDDEN = "#fde3df"
MASKED = "#e0219b"
VERDICT_COLOURS = {"accepted": ACCEPTED, "rejected": REJECTED, "failed": FAILED}

KIND_COLOURS: dict[Kind, tuple[str, str]] = {
    Kind.PARALLAX: ("parallax", "#5aae7f"),
    Kind.FLAT: ("one plane", "#8d7cc3"),
    Kind.ZOOMING: ("zoom", "#c58bc0"),
    Kind.TURNING: ("turn", "#e3a84e"),
    Kind.STILL: ("still", "#b9c0c7"),
    Kind.MOVING: ("no rigid scene", "#d4574a"),
    Kind.LOST: ("tracks lost", "#5b636c"),
}
"""What the camera does, as people read it."""

ODD, DEEP, PLAIN = "#ff3b30", "#27c4ff", "#ffd60a"
"""Tracks that go their own way, that tell of depth, that a plane or a turn explains."""

TYPE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8.0,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": SOFT,
    "axes.linewidth": 0.8,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.0,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.0,
    "text.parse_math": False,
    "path.simplify": True,
}
