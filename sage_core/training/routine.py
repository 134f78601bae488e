"""How a run proceeds: which samples when, how many at once, when to save and to look."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sage_core.errors import TrainingError
from sage_core.training.optimisation import LearningRate
from sage_core.training.order import SampleId, SampleOrder
from sage_core.training.ranks import Ranks
from sage_core.types import Reason


@dataclass(frozen=True)
class Routine:
    """How a run proceeds.

    Attributes:
        order: which samples at which step.
        rate: learning rate by step; its ``steps`` is the run's length.
        seed, fingerprint: of the run.
        micro_batch: samples that one rank passes through the model at once.
        images: images at once instead, where the number of views changes from step to step.
        betas, weight_decay, clip_norm, clip_per_group: of the optimiser.
        ema_decay: of the weights' moving average; 0 for none.
        checkpoint_minutes, checkpoint_steps: when to save besides the end; 0 switches one off.
        keep: checkpoints kept.
        max_skipped, skip_window: give up after more than so many skipped steps in the last so many.
        threads: loader threads.
        render_steps: steps between pictures; 0 for none.
        tensorboard: whether to write its events too.
        peak_flops: operations a second that one device could do, if known.
    """

    order: SampleOrder
    rate: LearningRate
    seed: int
    fingerprint: str
    micro_batch: int
    images: int = 0
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    clip_per_group: bool = False
    ema_decay: float = 0.0
    checkpoint_minutes: float = 10.0
    checkpoint_steps: int = 0
    keep: int = 2
    max_skipped: int = 10
    skip_window: int = 100
    threads: int = 1
    render_steps: int = 0
    tensorboard: bool = False
    peak_flops: float | None = None

    def at_once(self, step: int) -> int:
        """Samples that one rank passes through the model at once in a step."""
        views = self.order.views(step)
        return max(1, self.images // views) if views else self.micro_batch

    def share(self, ranks: Ranks) -> int:
        """Samples of a step that one rank trains."""
        return self.order.batch // ranks.world

    def turns(self, step: int, ranks: Ranks) -> int:
        """Micro-batches of a step, the same number on every rank."""
        return -(-self.share(ranks) // self.at_once(step))

    def micro_batches(self, first: int, end: int, ranks: Ranks) -> Iterator[list[SampleId]]:
        """What one rank passes through the model in the steps from ``first`` to before ``end``, in turn."""
        for step in range(first, end):
            size = self.at_once(step)
            share = self.order.share(step, ranks.rank, ranks.world)
            for start in range(0, len(share), size):
                yield share[start : start + size]

    def check(self, ranks: Ranks) -> None:
        """See that a step can be shared out.

        Raises:
            TrainingError: the ranks would not have the same number of samples, or of micro-batches.
        """
        at_once = 1 if self.order.view_counts else self.micro_batch
        together = ranks.world * at_once
        if self.order.batch % together:
            raise TrainingError(
                f"a batch of {self.order.batch} samples does not divide among {ranks.world} ranks with "
                f"{at_once} samples at a time: make adapt.optimizer.batch a multiple of {together}",
                reason=Reason.BAD_CONFIG,
            )
