"""What in a clip's frames is no static scene: things that move by themselves, and overlays."""

from sage_core.masks._files import FOLDER, covered, mask_name, read_mask, resized, write_masks
from sage_core.masks._moving import moving_masks
from sage_core.masks._overlays import overlay_masks
from sage_core.masks._plugin import GROUP, MaskSource, find_source, plugin_masks

__all__ = [
    "FOLDER",
    "GROUP",
    "MaskSource",
    "covered",
    "find_source",
    "mask_name",
    "moving_masks",
    "overlay_masks",
    "plugin_masks",
    "read_mask",
    "resized",
    "write_masks",
]
