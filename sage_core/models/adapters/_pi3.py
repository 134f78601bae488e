"""Pi3 and Pi3X (Wang et al. 2025) from the user's own installation of the package ``pi3``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from torch import Tensor

from sage_core.errors import ConfigError
from sage_core.geometry import SizeRule
from sage_core.geometry.batched import invert
from sage_core.geometry.rays import fit_intrinsics
from sage_core.models._gaussian_decoder import surface_gaussians
from sage_core.models.adapters._base import (
    AdaptedModel,
    full_precision,
    in_first_camera,
    installed,
    moved,
)
from sage_core.models.interface import IMAGENET, Description, GeometryOutput

_HOW = (
    "install Pi3 from https://github.com/yyfz/Pi3 (code BSD-3-Clause, weights CC BY-NC 4.0; it is on no "
    "package index)"
)
_PIXELS = 505
"""Its own loader admits 255,000 pixels, 505²."""
_CLASSES = {"pi3": ("pi3.models.pi3", "Pi3"), "pi3x": ("pi3.models.pi3x", "Pi3X")}


@dataclass(frozen=True)
class Pi3Config:
    """Which of the two networks it is; their widths are fixed upstream."""

    variant: Literal["pi3", "pi3x"] = "pi3"

    def __post_init__(self) -> None:
        if self.variant not in _CLASSES:
            raise ConfigError(f"no variant {self.variant!r} of Pi3: {', '.join(_CLASSES)} are")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Pi3Config:
        """The inverse of :meth:`to_json`.

        Raises:
            ConfigError: an unknown field or variant.
        """
        if unknown := data.keys() - {"variant"}:
            raise ConfigError(f"model settings {sorted(unknown)} are unknown; they are ['variant']")
        return cls(**data)


class Pi3Model(AdaptedModel):
    """Pi3 behind SAGE's interface.

    Upstream answers with a point map and a camera-to-world pose per view, in a world of no view's own.
    Here the world is view 0's camera: each view's points are moved by the inverse of pose 0 after its own
    pose, and gradients reach both. Intrinsics are fitted to the rays. The confidence is a logit.

    Pi3X is used without its optional inputs (depth, rays, poses), whose layers are left out and whose
    tensors are kept for upstream's sake. Its lengths are metric, by one factor a sample, through which no
    gradient flows: a loss that knows no scale has none to give, and upstream multiplies the poses by it in
    place, which autograd would refuse.
    """

    config: Pi3Config
    patch_size = 14
    image_size = _PIXELS // 14 * 14
    min_views = 1
    groups = {  # noqa: RUF012  as declared in the base class
        "encoder": "encoder",
        "decoder": "decoder",
        "register_token": "decoder",
        "point_decoder": "point_head",
        "point_head": "point_head",
        "camera_decoder": "camera_head",
        "camera_head": "camera_head",
        "conf_decoder": "confidence_head",
        "conf_head": "confidence_head",
        "metric_token": "metric_head",
        "metric_decoder": "metric_head",
        "metric_head": "metric_head",
    }

    def __init__(self, config: Pi3Config) -> None:
        super().__init__()
        self.config = config
        module, name = _CLASSES[config.variant]
        make = getattr(installed(module, _HOW), name)
        self.network = make(use_multimodal=False) if config.variant == "pi3x" else make()
        if config.variant == "pi3x":
            head: Any = self.network.metric_head
            head.register_forward_hook(lambda module, inputs, output: output.detach())
            self._never_train(frozenset({"metric_head"}))

    @property
    def description(self) -> Description:
        return Description(
            size_rule=SizeRule("pixels", _PIXELS, self.patch_size),
            normalisation=IMAGENET,
            reference="none",
            scale="metric" if self.config.variant == "pi3x" else "relative",
            conf_kind="logit",
            view_range=(self.min_views, None),
        )

    def forward(self, images: Tensor) -> GeometryOutput:
        """Points, confidence, cameras and depth of all views; images [B, V, 3, H, W], RGB 0..1.

        Raises:
            ConfigError: shapes that the model cannot take.
        """
        self.check_images(images)
        native = self.network(images)
        with full_precision(images):
            local, conf = native["local_points"].float(), native["conf"][..., 0].float()
            poses = in_first_camera(native["camera_poses"])
            points = moved(poses, local)
            return GeometryOutput(
                points=points,
                conf=conf,
                conf_kind="logit",
                scale=self.description.scale,
                gaussians=surface_gaussians(points, images.float()),
                cam_from_world=invert(poses),
                intrinsics=fit_intrinsics(local, conf.detach().sigmoid()),
                depth=local[..., 2],
                native=native,
            )
