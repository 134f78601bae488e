"""Settings of the stage adapt."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

from pydantic import Field, model_validator

from sage_core.config._base import Section, setting, subsection
from sage_core.config.losses import CurriculumConfig, LossOptions, MixingConfig
from sage_core.config.rendering import RenderingConfig
from sage_core.config.sampling import AugmentConfig, SamplingConfig
from sage_core.config.training import EngineConfig


class LossConfig(LossOptions):
    """Terms of the loss and their weights (method section 3)."""

    anchor_weight: float = setting(
        1.0, "Weight of the anchor loss; 0 leaves it out.", ge=0, le=1000
    )
    alpha: float = setting(
        0.2, "Weight of the confidence's logarithm in anchor and labelled loss.", ge=0, le=10
    )
    rendering_weight: float = setting(
        1.0, "Weight of the rendering loss; 0 leaves it out.", ge=0, le=1000
    )
    perceptual: Literal["none", "vgg", "alex"] = setting(
        "alex", "Network of the perceptual part of the rendering loss (LPIPS); none leaves it out."
    )
    perceptual_weight: float = setting(
        1.0, "Weight lambda of LPIPS within the rendering loss.", ge=0, le=1000
    )
    perceptual_weights: str | None = setting(
        None,
        "Folder with the perceptual network's weights: torchvision's vgg16 or alexnet file and LPIPS's "
        "linear layers. Needed unless adapt.loss.perceptual is none.",
    )
    labelled_weight: float = setting(
        1.0, "Weight gamma of the labelled (supervised) loss.", ge=0, le=1000
    )
    anchor_sampling: Literal["nearest", "bilinear"] = setting(
        "nearest",
        "Whether an anchor is compared with its pixel's point, or with one between pixels.",
    )
    anchor_reduction: Literal["view_means", "sum", "mean"] = setting(
        "view_means",
        "Mean over a view's anchors summed over views (the size of the model's own loss), sum over all "
        "anchors (the paper's formula to the letter), or mean over all.",
    )
    photometric: Literal["squared", "l2_norm"] = setting(
        "squared", "Squared colour difference (the paper's), or its length (MV-DUSt3R's)."
    )
    gaussian_gradient: Literal["centres", "all"] = setting(
        "centres",
        "Whether rendering moves only the Gaussians' centres (geometry), or also reaches the decoder "
        "through the Gaussian head.",
    )
    rendered_context: int | None = setting(
        None,
        "Context views rendered besides the targets, drawn at random; empty for all of them.",
        ge=0,
        le=64,
    )
    trained_scale: bool = setting(
        True,
        "Whether gradients flow through the scale of the predicted points (as in the published training).",
    )


class RegularisationConfig(Section):
    """Labelled samples that keep the model from forgetting (method section 3)."""

    enabled: bool = setting(
        True, "Whether labelled samples are mixed in; without them the paper's CD is 1.3-2 x worse."
    )
    source: str | None = setting(
        None,
        "Where labelled samples come from: 'rooms' for procedural rooms, 'world:DOMAIN' for a domain of the "
        "procedural world (labelled, filmed), or the path of an RGB-D data set in the 7-Scenes layout.",
    )
    pool: int = setting(
        400, "Distinct labelled samples; they come round again when all were used.", ge=1, le=10**6
    )
    ratio: int = setting(
        30,
        "Video samples for each labelled one; 0 for labelled ones alone (a control: plain further training).",
        ge=0,
        le=10_000,
    )


class OptimizerConfig(Section):
    """AdamW, its schedule, and what one step is made of."""

    batch: int = setting(
        16, "Samples of one optimiser step, over all processes together.", ge=1, le=65_536
    )
    micro_batch: int = setting(
        1,
        "Samples that a process passes through the model at once; memory grows with it.",
        ge=1,
        le=1024,
        affects_result=False,
    )
    lr: float = setting(2e-5, "Peak learning rate.", gt=0, le=1)
    last_lr: float = setting(1e-7, "Learning rate at the last step.", ge=0, le=1)
    warmup_share: float = setting(
        0.05, "Share of all steps over which the learning rate rises linearly.", ge=0, lt=1
    )
    weight_decay: float = setting(
        0.05, "AdamW's weight decay; tensors of one dimension have none.", ge=0, le=1
    )
    beta1: float = setting(0.9, "AdamW's decay of the first moment.", ge=0, lt=1)
    beta2: float = setting(0.95, "AdamW's decay of the second moment.", ge=0, lt=1)
    clip_norm: float = setting(
        1.0,
        "Largest L2 norm of the gradient; longer ones are scaled down; 0 switches it off.",
        ge=0,
    )
    clip_per_group: bool = setting(
        False, "Whether each parameter group's gradient is limited by itself, or all together."
    )
    max_skipped: int = setting(
        10,
        "Steps skipped for a loss or gradient that is not finite, within skip_window steps, after which "
        "training gives up.",
        ge=0,
        le=10_000,
    )
    skip_window: int = setting(100, "Steps that max_skipped counts over.", ge=1, le=100_000)


class CheckpointConfig(Section):
    """When training saves, besides at the end and when it is asked to stop."""

    minutes: float = setting(
        10.0, "Minutes between checkpoints; 0 for none.", ge=0, affects_result=False
    )
    steps: int = setting(0, "Steps between checkpoints; 0 for none.", ge=0, affects_result=False)
    keep: int = setting(
        2, "Checkpoints kept; older ones are removed.", ge=1, le=1000, affects_result=False
    )


class AdaptConfig(EngineConfig):
    """Adapting a geometric foundation model on the shards."""

    version: int = setting(1, "Raised when the stage's code changes what it gives.", ge=1)
    base: str = setting(
        "mvdust3r",
        "Base model: mini (small, its weights ship with SAGE), the name of a published model (`sage models "
        "list`, and pull), or the path of a weights file: safetensors, or a .pth or .pt as its authors "
        "publish it. KIND:PATH says which kind of model it is, where its tensors' names do not.",
    )
    image_px: int | None = setting(
        None,
        "Side in pixels of the square images that the model is given (of other shapes, what its size rule "
        "bounds); empty for what it was trained at.",
        ge=16,
        le=2048,
    )
    image_shape: Literal["square", "model"] = setting(
        "square",
        "Shape of the images: the middle square of each picture, or the size that the model's own rule gives "
        "for the picture's shape (VGGT: 518 px wide; Pi3: 255,000 pixels; MV-DUSt3R: squares).",
    )
    held_out: tuple[Annotated[str, Field(min_length=1)], ...] = setting(
        (),
        "Clips that are kept out of training, for evaluation: ids of clips or videos, or parts of what "
        "the user gave as source.",
    )
    held_out_share: float = setting(
        0.0,
        "Share of the videos whose clips are kept out of training besides, for evaluation: those whose id's "
        "hash says so, on every machine and night the same. Raised, it keeps out further ones.",
        ge=0,
        lt=1,
        affects_result=False,  # which clips it keeps out is part of a run's inputs
    )
    start: Literal["base", "latest"] = setting(
        "base",
        "What a run begins from: adapt.base, or the model that is `latest` in the workspace (adapt.base "
        "until there is one).",
        affects_result=False,  # the weights themselves are part of a run's inputs
    )
    min_new_clips: int = setting(
        0,
        "New clips, since those that `latest` was trained on, below which no run begins. From `latest` at "
        "least one is wanted in any case.",
        ge=0,
        affects_result=False,
    )
    sampling: SamplingConfig = subsection(SamplingConfig)
    augment: AugmentConfig = subsection(AugmentConfig, newer=True)
    mixing: MixingConfig = subsection(MixingConfig)
    curriculum: CurriculumConfig = subsection(CurriculumConfig)
    loss: LossConfig = subsection(LossConfig)
    rendering: RenderingConfig = subsection(RenderingConfig)
    regularisation: RegularisationConfig = subsection(RegularisationConfig)
    optimizer: OptimizerConfig = subsection(OptimizerConfig)
    checkpoint: CheckpointConfig = subsection(CheckpointConfig)
    epochs: int = setting(5, "Passes over the trajectories.", ge=1, le=100_000)
    trajectories: int = setting(
        15_000, "Trajectories drawn from each data set in an epoch.", ge=1, le=10_000_000
    )
    steps: int | None = setting(
        None, "Optimiser steps of the run; empty for as many as the epochs take.", ge=1
    )
    shuffle_views: bool = setting(
        True,
        "Whether the context views are shuffled, so that any of them may be the reference (as in the "
        "published training), or the earliest always is.",
    )
    device: Literal["auto", "cpu", "cuda"] = setting(
        "auto", "Where to train; auto takes CUDA where there is a device.", affects_result=False
    )
    precision: Literal["auto", "float32", "bfloat16"] = setting(
        "auto",
        "Precision of the model's trunk; auto is bfloat16 on CUDA and float32 on the CPU. Heads, losses and "
        "rendering are always float32.",
    )
    processes: int = setting(
        0,
        "Training processes on this machine; 0 for one a CUDA device, or one on the CPU.",
        ge=0,
        le=64,
        affects_result=False,
    )
    nodes: int = setting(
        1,
        "Machines that train together, each with `processes` of its own (docs/scale.md).",
        ge=1,
        le=1024,
        affects_result=False,
    )
    rendezvous: str = setting(
        "",
        "With several machines: host:port where they meet, on one of them.",
        affects_result=False,
    )
    threads: int = setting(
        0,
        "CPU threads of one process; 0 for all cores, shared among the processes.",
        ge=0,
        le=1024,
        affects_result=False,
    )
    loader_threads: int = setting(
        2, "Threads of one process that make samples.", ge=1, le=256, affects_result=False
    )
    wall_hours: float = setting(
        72.0,
        "Hours after which a run that Prefect started is stopped (it saves first and can be resumed).",
        gt=0,
        affects_result=False,
    )

    def holds_out(self, clip: str, video: str, source: str) -> bool:
        """Whether a clip is kept out of training: it is named, or its video is in the held-out share.

        The share goes by video, lest the model sees the same room from the clip beside it.
        """
        named = any(name in (clip, video) or name in source for name in self.held_out)
        return named or _place(video) < self.held_out_share

    @model_validator(mode="after")
    def _consistent(self) -> AdaptConfig:
        if self.nodes > 1 and not self.rendezvous:
            raise ValueError(
                f"nodes is {self.nodes}, and they need a place to meet: set rendezvous to host:port of one"
            )
        if self.optimizer.batch % self.optimizer.micro_batch:
            raise ValueError(
                f"optimizer.batch {self.optimizer.batch} must be a multiple of optimizer.micro_batch "
                f"{self.optimizer.micro_batch}"
            )
        images = self.optimizer.micro_batch * self.sampling.n_context
        if self.views.varies and self.sampling.mode == "candidates":
            raise ValueError(
                "views vary, and candidates have the number of views that assemble scored: set "
                "sampling.mode to another"
            )
        if self.curriculum.share and self.sampling.mode == "candidates":
            raise ValueError(
                "curriculum.share is above 0, and the candidates that assemble scored get neither wider nor "
                "narrower: set it to 0, or sampling.mode to another"
            )
        if self.views.max is not None and self.views.max > images:
            raise ValueError(
                f"views.max {self.views.max} are more images than a process takes at once, "
                f"optimizer.micro_batch {self.optimizer.micro_batch} times sampling.n_context "
                f"{self.sampling.n_context}"
            )
        loss = self.loss
        if not (loss.anchor_weight or loss.rendering_weight or loss.reprojection_weight):
            raise ValueError(
                "loss.anchor_weight, loss.rendering_weight and loss.reprojection_weight are all 0, so video "
                "samples teach nothing: give one of them a weight"
            )
        if loss.rendering_weight and loss.rendered_context == 0 and not self.sampling.n_targets:
            raise ValueError(
                "loss.rendered_context and sampling.n_targets are both 0, so no view is rendered: raise one, "
                "or set loss.rendering_weight to 0"
            )
        fewest, name = (
            (self.views.min, "views.min")
            if self.views.min is not None
            else (self.sampling.n_context, "sampling.n_context")
        )
        if loss.references > fewest:
            raise ValueError(
                f"loss.references {loss.references} are more than the views of a sample, {name} {fewest}"
            )
        return self


def _place(video: str) -> float:
    """A place in 0..1 that an id has for ever."""
    return int.from_bytes(hashlib.sha256(f"held-out:{video}".encode()).digest()[:8]) / 2**64
