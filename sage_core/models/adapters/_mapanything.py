"""MapAnything (Keetha et al. 2025) from the user's own installation of the package ``mapanything``."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sage_core.errors import CheckpointError, ConfigError
from sage_core.geometry import SizeRule
from sage_core.geometry.batched import invert, rotation_from_quaternion
from sage_core.geometry.rays import fit_intrinsics
from sage_core.models._gaussian_decoder import surface_gaussians
from sage_core.models.adapters._base import (
    AdaptedModel,
    full_precision,
    in_first_camera,
    installed,
    moved,
)
from sage_core.models.interface import IMAGENET, Description, GeometryOutput, Normalisation

_HOW = (
    "install MapAnything from https://github.com/facebookresearch/map-anything (code Apache-2.0, weights "
    "CC BY-NC 4.0 or Apache-2.0; it is on no package index)"
)
_LONGEST = 518
_NORMALISATIONS = {
    "dinov2": Normalisation(IMAGENET.mean, IMAGENET.std, inside=False),
    "dust3r": Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), inside=False),
    "identity": Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), inside=False),
}
_IMAGES_ONLY = {
    "overall_prob": 0.0,
    "dropout_prob": 1.0,
    "ray_dirs_prob": 0.0,
    "depth_prob": 0.0,
    "cam_prob": 0.0,
    "sparse_depth_prob": 0.0,
    "depth_scale_norm_all_prob": 0.0,
    "pose_scale_norm_all_prob": 0.0,
}
"""How upstream itself switches its optional inputs off, so that none is drawn at random in training."""


@dataclass(frozen=True)
class MapAnythingConfig:
    """What upstream's class is built from: the ``config.json`` that is published beside the weights."""

    arguments: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {"arguments": self.arguments}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> MapAnythingConfig:
        """The inverse of :meth:`to_json`.

        Raises:
            ConfigError: anything but a dict of arguments.
        """
        if data.keys() != {"arguments"} or not isinstance(data["arguments"], dict):
            raise ConfigError("settings of MapAnything are {'arguments': {…}}")
        return cls(data["arguments"])

    @classmethod
    def beside(cls, weights: Path) -> MapAnythingConfig:
        """From the ``config.json`` in the folder of a weights file.

        Raises:
            CheckpointError: there is none, or it is not one.
        """
        path = weights.parent / "config.json"
        try:
            arguments = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"{weights} needs the config.json that its authors publish beside it, and {path} cannot be "
                f"read ({error}): put it there"
            ) from error
        if not isinstance(arguments, dict):
            raise CheckpointError(f"{path} is not the config.json of MapAnything")
        return cls(arguments)


class MapAnythingModel(AdaptedModel):
    """MapAnything, from images alone, behind SAGE's interface.

    Upstream takes a list of views, normalised outside, and answers for each with points in its camera, a
    camera-to-world pose (translation and quaternion x, y, z, w) and lengths in metres by one factor a
    sample. The world is view 0 by training only; here it is view 0's camera exactly.
    """

    config: MapAnythingConfig
    patch_size = 14
    image_size = _LONGEST
    min_views = 1
    groups = {  # noqa: RUF012  as declared in the base class
        "encoder": "encoder",
        "info_sharing": "decoder",
        "fusion_norm_layer": "decoder",
        "dense_head": "point_head",
        "dense_adaptor": "point_head",
        "pose_head": "camera_head",
        "pose_adaptor": "camera_head",
        "scale_token": "metric_head",
        "scale_head": "metric_head",
        "scale_adaptor": "metric_head",
        "ray_dirs_encoder": "optional_inputs",
        "depth_encoder": "optional_inputs",
        "depth_scale_encoder": "optional_inputs",
        "cam_rot_encoder": "optional_inputs",
        "cam_trans_encoder": "optional_inputs",
        "cam_trans_scale_encoder": "optional_inputs",
    }

    def __init__(self, config: MapAnythingConfig) -> None:
        super().__init__()
        self.config = config
        make = installed("mapanything.models", _HOW).MapAnything
        arguments = copy.deepcopy(config.arguments)  # upstream's class writes into what it is given
        arguments["geometric_input_config"] = {
            **arguments.get("geometric_input_config", {}),
            **_IMAGES_ONLY,
        }
        arguments["pretrained_checkpoint_path"] = None
        try:
            self.network = make(**arguments)
        except (TypeError, KeyError) as error:
            raise ConfigError(
                f"the installed MapAnything cannot be built from its config.json ({error!r}): the two are "
                "of different versions"
            ) from error
        encoder: Any = self.network.encoder
        self._kind = str(encoder.data_norm_type)
        if self._kind not in _NORMALISATIONS:
            raise ConfigError(
                f"MapAnything with an encoder that wants {self._kind!r} images is not adapted: "
                f"{', '.join(_NORMALISATIONS)} are"
            )
        self._never_train(frozenset({"optional_inputs"}))

    @property
    def description(self) -> Description:
        return Description(
            size_rule=SizeRule("longest", _LONGEST, self.patch_size),
            normalisation=_NORMALISATIONS[self._kind],
            reference="first",
            scale="metric",
            conf_kind="one_plus_exp",
            view_range=(self.min_views, None),
        )

    def forward(self, images: Tensor) -> GeometryOutput:
        """Points, confidence, cameras and depth of all views; images [B, V, 3, H, W], RGB 0..1.

        Raises:
            ConfigError: shapes that the model cannot take, or an answer without cameras.
        """
        self.check_images(images)
        answers = self.network(self._views(images))
        with full_precision(images):
            native = {
                name: torch.stack([answer[name] for answer in answers], dim=1)
                for name in self._fields(answers[0])
            }
            local, conf = native["pts3d_cam"].float(), native["conf"].float()
            rotation = rotation_from_quaternion(native["cam_quats"].float().roll(1, -1))
            world_from_cam = torch.cat([rotation, native["cam_trans"].float()[..., None]], -1)
            poses = in_first_camera(world_from_cam)
            points = moved(poses, local)
            return GeometryOutput(
                points=points,
                conf=conf,
                conf_kind="one_plus_exp",
                scale="metric",
                gaussians=surface_gaussians(points, images.float()),
                cam_from_world=invert(poses),
                intrinsics=fit_intrinsics(native["ray_directions"].float()),
                depth=local[..., 2],
                native=native,
            )

    def _views(self, images: Tensor) -> list[dict[str, Any]]:
        norm = self.description.normalisation
        mean, std = (images.new_tensor(x).view(3, 1, 1) for x in (norm.mean, norm.std))
        normalised = (images - mean) / std
        return [
            {"img": view.contiguous(), "data_norm_type": [self._kind]}
            for view in normalised.unbind(1)
        ]

    def _fields(self, answer: dict[str, Tensor]) -> list[str]:
        wanted = ("pts3d_cam", "cam_quats", "cam_trans", "ray_directions", "conf")
        if missing := [name for name in wanted if name not in answer]:
            raise ConfigError(
                f"this MapAnything answers without {', '.join(missing)}: only models with rays, depth, pose "
                "and confidence are adapted, as the published ones are"
            )
        return [name for name, value in answer.items() if isinstance(value, Tensor)]
