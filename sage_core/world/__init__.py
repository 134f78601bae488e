"""Procedural rooms with exact truth: labelled samples, films for the pipeline, pretraining."""

from sage_core.world.cameras import MOTIONS, camera_path, look, pinhole
from sage_core.world.disturbances import Disturbances, Mover, disturbed_frames, make_movers
from sage_core.world.furniture import build_scene
from sage_core.world.render import render_frames, render_views
from sage_core.world.rooms import RoomBatch, room_batch, room_sample
from sage_core.world.scenes import FAMILIES, Family, Scene

__all__ = [
    "FAMILIES",
    "MOTIONS",
    "Disturbances",
    "Family",
    "Mover",
    "RoomBatch",
    "Scene",
    "build_scene",
    "camera_path",
    "disturbed_frames",
    "look",
    "make_movers",
    "pinhole",
    "render_frames",
    "render_views",
    "room_batch",
    "room_sample",
]
