"""Upstream's checkpoint in, two steps of adaptation, and out again in upstream's own key layout."""

import argparse
import json

import pytest
import torch
from room_shards import write_room_shard
from safetensors.torch import load_file

from sage_core.models import MVDust3rConfig, build_model, load_model
from sage_core.training import TrainSettings
from sage_core.training.run import train

SMALL = {
    "image_size": 32,
    "patch_size": 8,
    "enc_embed_dim": 32,
    "enc_depth": 1,
    "enc_num_heads": 2,
    "dec_embed_dim": 32,
    "dec_depth": 1,
    "dec_num_heads": 2,
    "skip_dim": 4,
    "gs_mlp_dim": 16,
}
