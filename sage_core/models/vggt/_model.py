"""The network: a patch encoder, alternating attention, a camera head and two dense heads."""

from __future__ import annotations

import torch
from torch import Tensor

from sage_core.geometry import SizeRule
from sage_core.geometry.batched import compose, invert, pointmap
from sage_core.models._gaussian_decoder import GaussianDecoder, surface_gaussians
from sage_core.models.interface import (
    IMAGENET,
    Description,
    GeometricModel,
    GeometryOutput,
    run_block,
)
from sage_core.models.vggt._aggregator import Aggregator
from sage_core.models.vggt._blocks import Block
from sage_core.models.vggt._camera_head import CameraHead
from sage_core.models.vggt._config import VGGTConfig
from sage_core.models.vggt._dense_head import DenseHead
from sage_core.models.vggt._init import initialise
from sage_core.models.vggt._pose_code import decode_cameras

FRAMES_AT_ONCE = 8
"""A dense head sees so many frames at once: at 518 px one of its maps alone takes 137 MB a frame."""

_GROUPS = {
    "aggregator": "backbone",
    "aggregator.patch_embed": "encoder",
    "camera_head": "camera_head",
    "depth_head": "depth_head",
    "point_head": "point_head",
    "gaussian_head": "gaussian_head",
}


class VGGT(GeometricModel):
    """VGGT without its tracker.

    Module names, and so the keys of ``state_dict()``, are those of the published checkpoints. Its own
    answer is :attr:`GeometryOutput.native`:

    ======================= ================ ==================================================
    ``pose_enc_list``       [B, I, V, 9]     cameras after each of I rounds (``_pose_code.py``)
    ``depth``               [B, V, H, W]     z
    ``depth_conf``          [B, V, H, W]
    ``world_points``        [B, V, H, W, 3]  absent where the point head is off, or idle
    ``world_points_conf``   [B, V, H, W]     likewise
    ======================= ================ ==================================================

    The point head is idle, and costs nothing, when it is frozen and the points come from depth.

    VGGT is trained to make view 0's camera the world, but predicts that camera like any other. Here the
    world *is* view 0's camera: all predicted cameras are moved by what the first one is off.
    """

    config: VGGTConfig
    min_views = 1
    block_types = (Block,)
    _never_trained = frozenset({"aggregator.patch_embed.mask_token"})

    def __init__(self, config: VGGTConfig) -> None:
        super().__init__()
        c = self.config = config
        self.image_size, self.patch_size = c.image_size, c.patch_size
        self.aggregator = Aggregator(c)
        self.camera_head = CameraHead(c)
        self.depth_head = DenseHead(c, outputs=1)
        if c.point_head:
            self.point_head = DenseHead(c, outputs=3)
        if c.gaussian_residuals:
            self.gaussian_head = GaussianDecoder()
        if not self.aggregator.camera_token.is_meta:
            initialise(self)

    @property
    def description(self) -> Description:
        return Description(
            size_rule=SizeRule("width", self.image_size, self.patch_size),
            normalisation=IMAGENET,
            reference="first",
            scale="unit_mean",
            conf_kind="one_plus_exp",
            view_range=(self.min_views, 200),
        )

    def group_of(self, name: str) -> str:
        first, _, rest = name.partition(".")
        second = f"{first}.{rest.partition('.')[0]}"
        return _GROUPS.get(second) or _GROUPS[first]

    def forward(self, images: Tensor) -> GeometryOutput:
        """Points, confidence, cameras, depth and Gaussians of all views.

        Args:
            images: [B, V, 3, H, W], RGB 0..1, sides multiples of the patch.

        Raises:
            ConfigError: shapes that the model cannot take.
        """
        self.check_images(images)
        c = self.config
        layers = {*c.dpt_layers, c.aa_depth - 1}
        tokens = self.aggregator(images, layers, self.checkpointing)
        # Angles, exponentials and everything after need more digits than bfloat16 has.
        with torch.autocast(images.device.type, enabled=False):
            kept = {layer: t.float() for layer, t in tokens.items()}
            native = self._heads(kept, (images.shape[-2], images.shape[-1]))
            return self._output(native, images.float())

    def _heads(self, tokens: dict[int, Tensor], size: tuple[int, int]) -> dict[str, Tensor]:
        camera_tokens = tokens[self.config.aa_depth - 1][:, :, 0]
        raw = self._dense(self.depth_head, tokens, size)
        native = {
            "pose_enc_list": self.camera_head(camera_tokens, self.checkpointing),
            "depth": raw[:, :, 0].exp(),
            "depth_conf": 1 + raw[:, :, 1].exp(),
        }
        if self._point_head_runs:
            raw = self._dense(self.point_head, tokens, size)
            xyz = raw[:, :, :3].movedim(2, -1)
            native["world_points"] = xyz.sign() * xyz.abs().expm1()
            native["world_points_conf"] = 1 + raw[:, :, 3].exp()
        return native

    @property
    def _point_head_runs(self) -> bool:
        if not self.config.point_head:
            return False
        trains = any(parameter.requires_grad for parameter in self.point_head.parameters())
        return trains or self.config.points == "point_head"

    def _dense(self, head: DenseHead, tokens: dict[int, Tensor], size: tuple[int, int]) -> Tensor:
        """Raw maps [B, V, outputs + 1, H, W], a few frames at a time."""
        first = self.aggregator.first_patch
        layers = [tokens[layer][:, :, first:].flatten(0, 1) for layer in self.config.dpt_layers]
        batch = tokens[self.config.dpt_layers[0]].shape[0]
        parts = [
            run_block(head, chunk, size, checkpointing=self.checkpointing)
            for chunk in zip(*(torch.split(t, FRAMES_AT_ONCE) for t in layers), strict=True)
        ]
        maps = torch.cat(parts)
        return maps.view(batch, -1, *maps.shape[1:])

    def _output(self, native: dict[str, Tensor], images: Tensor) -> GeometryOutput:
        cam_from_world, intrinsics = self._cameras(native["pose_enc_list"], images)
        points, conf = native.get("world_points"), native.get("world_points_conf")
        if self.config.points == "depth" or points is None or conf is None:
            points = pointmap(native["depth"], intrinsics, invert(cam_from_world))
            conf = native["depth_conf"]
        decoder = self.gaussian_head if self.config.gaussian_residuals else surface_gaussians
        return GeometryOutput(
            points,
            conf,
            "one_plus_exp",
            "unit_mean",
            gaussians=decoder(points, images),
            cam_from_world=cam_from_world,
            intrinsics=intrinsics,
            depth=native["depth"],
            native=native,
        )

    @staticmethod
    def _cameras(rounds: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        # The first rounds add nothing, but tie the tensors that only they train to whatever is asked
        # of the cameras: many ranks wait for a gradient of every tensor.
        code = rounds[:, -1] + 0.0 * rounds[:, :-1].sum(1)
        cam_from_world, intrinsics = decode_cameras(code, images.shape[-2], images.shape[-1])
        return compose(cam_from_world, invert(cam_from_world[:, :1])), intrinsics
