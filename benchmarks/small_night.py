"""A night small enough for a test: two films, a tiny model with random weights, every stage for real."""

import sys
from pathlib import Path

import torch
import yaml

from sage_core.models import MVDust3rConfig, build_model, save_model
from sage_core.world import build_scene, camera_path
from sage_core.world.videos import Shot, write_shots

FPS, SECONDS = 15, 5
PYTHON_BIN = Path(sys.executable).parent


def write_films(folder):
    """A walk through a room, and the same room from a tripod."""
    folder.mkdir()
    torch.set_num_threads(1)  # small batches: more threads only wait for each other
    for name, motion in (("walk", "handheld"), ("tripod", "static")):
        scene = build_scene(70_001, "V")
        path = camera_path(scene, motion, FPS * SECONDS, FPS, 0)
        write_shots([Shot(scene, path)], folder / f"{name}.mp4", FPS)
    (folder / "no_film.mp4").write_bytes(b"these are only words")
    return folder


def write_settings(folder):
    """Settings of the night, with the weights of its base model beside them."""
    weights = folder / "tiny.safetensors"
    save_model(build_model(tiny_model(), seed=3), weights)
    settings = {
        "run": {"max_failed_share": 0.5},
        "acquire": {"allow_hosts": ["127.0.0.1"], "retry_wait_s": 0.1},
        "curate": {"min_duration_s": 4, "min_clip_s": 3, "max_flat_share": 1},
        "adapt": {
            "base": str(weights),
            "steps": 6,
            "loss": {"perceptual": "none"},
            "regularisation": {"source": "rooms", "ratio": 2},
            "sampling": {"interval_frames": 10, "n_context": 3, "n_targets": 1},
            "optimizer": {"batch": 2},
            "checkpoint": {"steps": 2},
        },
        "evaluate": {"rooms": ["V"], "rooms_tuples": 2, "views": 3, "pictures": 1},
    }
    file = folder / "night.yaml"
    file.write_text(yaml.safe_dump(settings))
    return file


def tiny_model():
    return MVDust3rConfig(
        image_size=32,
        patch_size=8,
        enc_embed_dim=32,
        enc_depth=1,
        enc_num_heads=2,
        dec_embed_dim=32,
        dec_depth=1,
        dec_num_heads=2,
        skip_dim=4,
        gs_mlp_dim=16,
    )
