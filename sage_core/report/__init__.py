"""The report: plain dataclasses in, one HTML file out that needs no network.

Nothing here knows a workspace: who has one fills a :class:`Report` (see ``flows.report``).
"""

from sage_core.report.charts import Curve
from sage_core.report.contents import (
    Cell,
    Evaluation,
    Fact,
    Gallery,
    Item,
    ModelComparison,
    Report,
    Run,
    SceneCard,
    Settings,
    StageRow,
    Step,
)
from sage_core.report.metrics import comparison
from sage_core.report.pictures import Picture, depth_colours, depth_range, embed, with_anchors
from sage_core.report.render import render_html
from sage_core.report.scene import Scene, pack_scene, upright

__all__ = [
    "Cell",
    "Curve",
    "Evaluation",
    "Fact",
    "Gallery",
    "Item",
    "ModelComparison",
    "Picture",
    "Report",
    "Run",
    "Scene",
    "SceneCard",
    "Settings",
    "StageRow",
    "Step",
    "comparison",
    "depth_colours",
    "depth_range",
    "embed",
    "pack_scene",
    "render_html",
    "upright",
    "with_anchors",
]
