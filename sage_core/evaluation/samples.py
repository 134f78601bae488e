"""What a labelled multi-view sample is, whichever data set or world it comes from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class LabelledViews:
    """Overlapping views of one static scene with exact or measured depth; view 0 is the reference.

    Attributes:
        images: uint8 [V, H, W, 3], RGB.
        depth: float32 [V, H, W], z in each view's own camera, metres; 0 where there is none.
        intrinsics: float64 [V, 3, 3], pixels of these images, pixel centres at +0.5.
        cam_from_world: float64 [V, 3, 4], OpenCV axes, metres.
        name: says where the sample comes from; unique within its data set.
    """

    images: npt.NDArray[np.uint8]
    depth: npt.NDArray[np.float32]
    intrinsics: npt.NDArray[np.float64]
    cam_from_world: npt.NDArray[np.float64]
    name: str

    def __post_init__(self) -> None:
        views, height, width = self.depth.shape
        expected = {
            "images": (views, height, width, 3),
            "intrinsics": (views, 3, 3),
            "cam_from_world": (views, 3, 4),
        }
        for field, shape in expected.items():
            if getattr(self, field).shape != shape:
                raise ValueError(
                    f"{self.name}: {field} has shape {getattr(self, field).shape}, "
                    f"but depth {self.depth.shape} asks for {shape}"
                )

    @property
    def valid(self) -> npt.NDArray[np.bool_]:
        """Pixels that have depth, bool [V, H, W]."""
        return np.isfinite(self.depth) & (self.depth > 0)

    def world_points(self) -> npt.NDArray[np.float64]:
        """Points of all pixels in the world frame, [V, H, W, 3]; meaningless where not ``valid``."""
        rotation, translation = self.cam_from_world[:, :, :3], self.cam_from_world[:, :, 3]
        camera = self._camera_points() - translation[:, None, None]
        return np.asarray(np.einsum("vji,vhwj->vhwi", rotation, camera))

    def reference_points(self) -> npt.NDArray[np.float64]:
        """Points of all pixels in view 0's camera frame, [V, H, W, 3]: the true pointmaps."""
        rotation, translation = self.cam_from_world[0, :, :3], self.cam_from_world[0, :, 3]
        return np.asarray(self.world_points() @ rotation.T + translation)

    def select(self, views: list[int]) -> LabelledViews:
        """The sample with these views in this order; the first becomes the reference."""
        return LabelledViews(
            self.images[views],
            self.depth[views],
            self.intrinsics[views],
            self.cam_from_world[views],
            self.name,
        )

    def _camera_points(self) -> npt.NDArray[np.float64]:
        _, height, width = self.depth.shape
        y, x = np.mgrid[0:height, 0:width] + 0.5
        pixels = np.stack([x, y, np.ones_like(x)], axis=-1)
        rays = np.einsum("vij,hwj->vhwi", np.linalg.inv(self.intrinsics), pixels)
        return np.asarray(rays * self.depth[..., None].astype(np.float64))
