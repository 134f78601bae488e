"""Settings of the stage evaluate."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from sage_core.config._base import Section, setting


class EvaluateConfig(Section):
    """The stage evaluate: base and adapted model side by side."""

    version: int = setting(1, "Raised when the stage's code changes what it gives.", ge=1)
    views: int = setting(8, "Views of a labelled test tuple, the reference included.", ge=2, le=64)
    rgbd: tuple[str, ...] = setting(
        (),
        "Folders of RGB-D sequences in the 7-Scenes layout; every sequence below them is a test set.",
    )
    rgbd_tuples: int = setting(50, "Test tuples drawn from each sequence.", ge=1, le=10_000)
    min_overlap: float = setting(
        0.3,
        "Smallest overlap, by true depth, of a tuple's next view with the nearest of those chosen.",
        ge=0,
        le=1,
    )
    max_overlap: float = setting(
        1.0,
        "Largest overlap of a tuple's next view; below 1 it keeps out near duplicates.",
        ge=0,
        le=1,
    )
    max_depth_m: float = setting(
        10.0, "Measured depth beyond it (m) does not count.", gt=0, le=1000
    )
    rooms: tuple[Literal["P", "V", "PV", "VP"], ...] = setting(
        (),
        "Families of procedural rooms to test on: P (what mini was pretrained on), V (what the demo's "
        "films show), PV (P's shapes in V's look), VP.",
    )
    world: tuple[Literal["choice", "seen", "near", "mid", "far"], ...] = setting(
        (),
        "Domains of the procedural world to test on (docs/world.md): seen (like the labelled scenes), near "
        "(their shapes in a new look), mid (new shapes in their look), far (both new); choice to choose "
        "settings on.",
    )
    world_tuples: int = setting(50, "Test tuples of each of those domains.", ge=1, le=10_000)
    rooms_tuples: int = setting(50, "Test tuples of each family of rooms.", ge=1, le=10_000)
    held_out_samples: int = setting(
        32,
        "Trajectories drawn from the held-out clips (adapt.held_out) to measure anchor error and how like "
        "the renders of targets are, without labels; 0 leaves this out.",
        ge=0,
        le=10_000,
    )
    perceptual: Literal["none", "vgg", "alex"] = setting(
        "none",
        "Network of LPIPS for the renders of held-out targets (MV-DUSt3R reports alex); none leaves LPIPS "
        "out.",
    )
    perceptual_weights: str | None = setting(
        None,
        "Folder with that network's weights: torchvision's vgg16 or alexnet file and LPIPS's linear layers. "
        "Needed unless evaluate.perceptual is none.",
    )
    pictures: int = setting(
        2,
        "Tuples of each test set that are drawn for the report.",
        ge=0,
        le=100,
        affects_result=False,
    )
    device: Literal["auto", "cpu", "cuda"] = setting(
        "auto",
        "Where to run the models; auto takes CUDA where there is a device.",
        affects_result=False,
    )
    threads: int = setting(1, "CPU threads.", ge=1, le=1024, affects_result=False)
    wall_minutes: float = setting(
        240.0, "Minutes after which an evaluation is stopped.", gt=0, affects_result=False
    )
    memory_mb: int = setting(
        16_384, "Memory (MiB) above which it is stopped.", ge=512, affects_result=False
    )

    @model_validator(mode="after")
    def _consistent(self) -> EvaluateConfig:
        if self.min_overlap >= self.max_overlap:
            raise ValueError(
                f"min_overlap {self.min_overlap:g} must be below max_overlap {self.max_overlap:g}"
            )
        return self
