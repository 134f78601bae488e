"""What a stage says of items that it leaves as they are, because retention dropped what they take in."""

from __future__ import annotations

from flows._progress import say
from sage_core.types import Stage
from tasks._plan import Plan

_SHOWN = 3


def tell_kept(stage: Stage, plan: Plan) -> None:
    """Name some of them, and how each can be judged anew."""
    if not plan.kept:
        return
    more = f"\nand {len(plan.kept) - _SHOWN} more" if len(plan.kept) > _SHOWN else ""
    shown = "\n".join(plan.kept[:_SHOWN])
    what = f"{len(plan.kept)} items keep the verdict that they have, for what they take in is gone"
    say(f"{stage.value}:", f"{what}\n{shown}{more}", "yellow")
