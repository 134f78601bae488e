"""Settings of the training engine: what trains, in what form it runs, what is written down meanwhile."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sage_core.config._base import Section, setting, subsection

GAUSSIAN_HEAD = "gaussian_head"
"""The parameter group that keeps its weights unless ``frozen`` says otherwise."""


class LoraConfig(Section):
    """Low-rank adapters on linear layers (Hu et al. 2021): W + alpha / rank · B·A, of which A and B train."""

    rank: int = setting(16, "Rank of the update.", ge=1, le=4096)
    alpha: float = setting(
        16.0, "The update is multiplied by alpha / rank, so alpha = rank leaves it as it is.", gt=0
    )
    targets: tuple[str, ...] = setting(
        ("*",),
        "Patterns over module names (such as *.attn.qkv): which linear layers get adapters.",
        min_length=1,
    )


class ViewsConfig(Section):
    """How many context views a step's samples have; the same number on every process."""

    min: int | None = setting(
        None, "Fewest views; empty (with max) for always sampling.n_context.", ge=2, le=64
    )
    max: int | None = setting(
        None,
        "Most views. A process passes as many samples through the model at once as keep their images "
        "within optimizer.micro_batch times sampling.n_context.",
        ge=2,
        le=64,
    )

    @property
    def varies(self) -> bool:
        """Whether the number of views is drawn for each step."""
        return self.min is not None and self.max is not None

    @model_validator(mode="after")
    def _both_or_none(self) -> ViewsConfig:
        if (self.min is None) != (self.max is None):
            raise ValueError("min and max are given together, or neither")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self


class TeacherConfig(Section):
    """An average of the model's own weights that sees more views teaches it (as in SelfEvo, 2026)."""

    weight: float = setting(
        0.0,
        "Weight of the distance to the teacher's pointmaps of the context views, which it predicts from "
        "context and target views together; 0 for no teacher. Needs adapt.ema_decay.",
        ge=0,
        le=1000,
    )
    kept_share: float = setting(
        0.7,
        "Share of each view's pixels that count: those that the teacher trusts most.",
        gt=0,
        le=1,
    )


class EngineConfig(Section):
    """What trains, in what form it runs, what is written down meanwhile."""

    frozen: tuple[str, ...] | None = setting(
        None,
        "What keeps its weights: parameter groups, or patterns over parameter names (such as "
        "enc_blocks.0.*); empty for gaussian_head, in models that have one. [] freezes nothing.",
    )
    batchnorm_frozen: bool = setting(
        True,
        "Whether batch-norm layers keep the running statistics of the base weights. Off, they gather their "
        "own, and then optimizer.micro_batch and the number of processes change the result.",
    )
    lr_factors: dict[str, Annotated[float, Field(gt=0, le=1e6)]] = setting(
        {},
        "Factor on the learning rate of a parameter group, or of the parameters whose name matches a "
        "pattern; patterns count before groups, longer ones first, and 1 where none fits. What shall not "
        "train belongs in frozen.",
    )
    lora: dict[str, LoraConfig] = setting(
        {},
        "Adapters by parameter group, all else in which is then frozen, or by pattern over module names, "
        "which count before groups. They are merged into the weights at the end.",
    )
    ema_decay: float = setting(
        0.0,
        "Decay a step of an average of the weights, which then is what the run gives; 0 for none.",
        ge=0,
        lt=1,
    )
    teacher: TeacherConfig = subsection(TeacherConfig)
    views: ViewsConfig = subsection(ViewsConfig)
    parallel: Literal["ddp", "fully_shard"] = setting(
        "ddp",
        "With several processes, whether each holds all weights (ddp) or a share of weights, gradients and "
        "moments (fully_shard), for models that do not fit.",
        affects_result=False,
    )
    checkpoint_activations: bool = setting(
        False,
        "Whether the trunk's blocks are computed again in the backward pass in place of being kept: much "
        "less memory for about a third more time.",
        affects_result=False,
    )
    compile: bool = setting(
        False,
        "Whether the trunk's blocks are compiled (torch.compile); needs a C++ compiler, and on CUDA Triton.",
        affects_result=False,
    )
    tensorboard: bool = setting(
        False,
        "Whether metrics and renders also go to the run folder as TensorBoard events.",
        affects_result=False,
    )
    render_steps: int = setting(
        500,
        "Steps between pictures of the same clip's targets beside the model's renders; 0 for none.",
        ge=0,
        affects_result=False,
    )
    peak_tflops: float | None = setting(
        None,
        "Peak of the device in 10^12 operations a second, for the share of it that is used (MFU); empty to "
        "look it up by the device's name.",
        gt=0,
        affects_result=False,
    )

    @property
    def gaussian_head_frozen(self) -> bool:
        """Whether the Gaussian head as a whole keeps its weights."""
        return self.frozen is None or GAUSSIAN_HEAD in self.frozen

    @model_validator(mode="after")
    def _taught_by_an_average(self) -> EngineConfig:
        if self.teacher.weight and not self.ema_decay:
            raise ValueError(
                "teacher.weight needs an average to teach: set ema_decay, such as 0.995"
            )
        return self
