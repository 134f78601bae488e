"""The commands that run stages: ``sage run``, and one for each of the six."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from flows import _evaluate, _show
from flows._ending import MANY_FAILED, OK
from flows._ending import teach as _teach
from flows._ending import usage as _usage
from flows._options import (
    ConfigOption,
    SetOption,
    SourcesArgument,
    WorkspaceOption,
    is_workspace,
    place,
)
from flows._options import existing as _existing
from flows._options import opened as _opened
from flows._options import settings_of as _config
from sage_core.config import SageConfig
from sage_core.types import Reason, Stage, Verdict
from tasks._plan import Retry, Selector

Command = Callable[..., None]
RetryOption = Annotated[
    Retry,
    typer.Option(
        help="missing: what is missing; failed: also what failed; all: everything selected."
    ),
]
ItemOption = Annotated[
    list[str] | None,
    typer.Option("--item", "-i", help="Only this item (or the clips of this video). Repeatable."),
]
ReasonOption = Annotated[
    list[Reason] | None,
    typer.Option(
        metavar="REASON",
        help="Do again what ended with this reason, and what follows from it. Repeatable.",
    ),
]
VerdictOption = Annotated[
    Verdict | None,
    typer.Option(help="Do again what ended with this verdict, and what follows from it."),
]
SnapshotOption = Annotated[
    str | None,
    typer.Option(metavar="ID", help="Only what this snapshot holds; adapt trains on its shards."),
]
LimitOption = Annotated[
    int | None, typer.Option(min=1, help="At most so many items at each stage.")
]
RedecideOption = Annotated[
    bool,
    typer.Option(
        "--redecide",
        help="Curate and reconstruct judge what they stored under these settings; decode nothing.",
    ),
]


def run(
    workspace: WorkspaceOption,
    sources: SourcesArgument = None,
    stages: Annotated[
        str | None, typer.Option(help="Only these, comma-separated, e.g. curate,reconstruct.")
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    retry: RetryOption = Retry.MISSING,
    item: ItemOption = None,
    reason: ReasonOption = None,
    verdict: VerdictOption = None,
    snapshot: SnapshotOption = None,
    limit: LimitOption = None,
    redecide: RedecideOption = False,
) -> None:
    """Run the stages in order: what has its verdict already is not done again.

    Ends with 0 when every item has a verdict, 1 when more failed than run.max_failed_share allows,
    2 on wrong usage.
    """
    select = _selector(reason, verdict, snapshot, limit)
    _run(
        workspace,
        sources or [],
        _stages(stages),
        _config(config, set_),
        retry,
        item,
        select,
        redecide=redecide,
    )


def acquire(
    workspace: WorkspaceOption,
    sources: SourcesArgument = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    retry: RetryOption = Retry.MISSING,
    item: ItemOption = None,
    reason: ReasonOption = None,
    verdict: VerdictOption = None,
    snapshot: SnapshotOption = None,
    limit: LimitOption = None,
) -> None:
    """Fetch videos and check that they are what they say."""
    select = _selector(reason, verdict, snapshot, limit)
    _run(workspace, sources or [], [Stage.ACQUIRE], _config(config, set_), retry, item, select)


def _redeciding(stage: Stage, text: str) -> Command:
    """The command of a stage that can judge anew what it stored."""

    def command(
        workspace: WorkspaceOption,
        config: ConfigOption = None,
        set_: SetOption = None,
        retry: RetryOption = Retry.MISSING,
        item: ItemOption = None,
        reason: ReasonOption = None,
        verdict: VerdictOption = None,
        snapshot: SnapshotOption = None,
        limit: LimitOption = None,
        redecide: RedecideOption = False,
    ) -> None:
        select, settings = _selector(reason, verdict, snapshot, limit), _config(config, set_)
        _run(workspace, [], [stage], settings, retry, item, select, redecide=redecide)

    command.__doc__ = text
    return command


def assemble(
    workspace: WorkspaceOption,
    config: ConfigOption = None,
    set_: SetOption = None,
    retry: RetryOption = Retry.MISSING,
    item: ItemOption = None,
    reason: ReasonOption = None,
    verdict: VerdictOption = None,
    snapshot: SnapshotOption = None,
    limit: LimitOption = None,
) -> None:
    """Write reconstructed clips into Parquet shards."""
    select = _selector(reason, verdict, snapshot, limit)
    _run(workspace, [], [Stage.ASSEMBLE], _config(config, set_), retry, item, select)


def adapt(
    workspace: WorkspaceOption,
    config: ConfigOption = None,
    set_: SetOption = None,
    retry: RetryOption = Retry.MISSING,
    item: ItemOption = None,
    reason: ReasonOption = None,
    verdict: VerdictOption = None,
    snapshot: SnapshotOption = None,
    limit: LimitOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say how many steps, how much memory and time.")
    ] = False,
    timed_steps: Annotated[
        int,
        typer.Option(help="With --dry-run: time so many real steps, which are thrown away.", min=0),
    ] = 0,
) -> None:
    """Fine-tune the model on the shards; killed at any moment, it goes on from its checkpoint."""
    settings = _config(config, set_)
    if timed_steps and not dry_run:
        raise typer.BadParameter("it goes with --dry-run", param_hint="--timed-steps")
    if dry_run:
        _teach(lambda: _show.training_plan(_existing(workspace), settings, timed_steps))
        return
    select = _selector(reason, verdict, snapshot, limit)
    _run(workspace, [], [Stage.ADAPT], settings, retry, item, select)


def evaluate(
    context: typer.Context,
    workspace: Annotated[
        Path | None,
        typer.Option(
            "--workspace",
            "-w",
            envvar="SAGE_WORKSPACE",
            parser=place,
            help="Evaluate this workspace's runs.",
        ),
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    retry: RetryOption = Retry.MISSING,
    item: ItemOption = None,
    reason: ReasonOption = None,
    verdict: VerdictOption = None,
    snapshot: SnapshotOption = None,
    limit: LimitOption = None,
    model: _evaluate.ModelOption = None,
    protocol: _evaluate.ProtocolOption = None,
    root: _evaluate.RootOption = None,
    out: _evaluate.OutOption = None,
    tuples: _evaluate.TuplesOption = None,
    partial: _evaluate.PartialOption = False,
    unchecked: _evaluate.UncheckedOption = False,
    lpips: _evaluate.LpipsOption = None,
    device: _evaluate.DeviceOption = "auto",
    threads: _evaluate.ThreadsOption = -1,
) -> None:
    """Measure models: adapted runs beside their base, or any weights on a data set.

    With --workspace it is the stage: every adapted run of the current settings, beside its base.

    With --model, --protocol and --root it needs no workspace: any models on a data set in its original
    layout. Killed at any moment, the same command goes on.
    """
    if model or protocol or root:
        _evaluate.without_workspace(context)
        asked = _evaluate.Asked(
            model or [], protocol, root, out, tuples, partial, unchecked, lpips, device, threads
        )
        _teach(lambda: _evaluate.stand_alone(asked))
        return
    if workspace is None:
        _usage("give --workspace, or --model, --protocol and --root (`sage evaluate --help`)")
    select, settings = _selector(reason, verdict, snapshot, limit), _config(config, set_)
    _run(workspace, [], [Stage.EVALUATE], settings, retry, item, select)


def _run(
    workspace: Path,
    sources: list[str],
    stages: list[Stage],
    config: SageConfig,
    retry: Retry,
    item: list[str] | None,
    select: Selector,
    *,
    redecide: bool = False,
) -> None:
    from flows._run import run_in_workspace

    if not sources and not is_workspace(workspace):
        _usage(
            f"{workspace} holds nothing yet: give sources, e.g. sage run -w {workspace} VIDEO.mp4"
        )
    root = _opened(workspace)
    raise typer.Exit(
        OK
        if _teach(
            lambda: run_in_workspace(
                root, sources, stages, config, retry, item, select=select, redecide=redecide
            )
        )
        else MANY_FAILED
    )


def _selector(
    reason: list[Reason] | None, verdict: Verdict | None, snapshot: str | None, limit: int | None
) -> Selector:
    return Selector(reasons=tuple(reason or ()), verdict=verdict, snapshot=snapshot, limit=limit)


def _stages(text: str | None) -> list[Stage]:
    if text is None:
        return list(Stage)
    try:
        chosen = {Stage(name.strip()) for name in text.split(",") if name.strip()}
    except ValueError as error:
        _usage(f"{error}: stages are {', '.join(Stage)}")
    if not chosen:
        _usage(f"--stages {text!r} names none: stages are {', '.join(Stage)}")
    return [stage for stage in Stage if stage in chosen]


COMMANDS: dict[str, Command] = {
    "run": run,
    "acquire": acquire,
    "curate": _redeciding(Stage.CURATE, "Judge fetched videos; cut the good ones into clips."),
    "reconstruct": _redeciding(
        Stage.RECONSTRUCT, "COLMAP on each clip, a quality gate, a pose for every frame."
    ),
    "assemble": assemble,
    "adapt": adapt,
    "evaluate": evaluate,
}
