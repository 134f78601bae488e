"""The command ``sage``: run the DAG or one stage, look at what came of it, serve it every night."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Annotated

import typer

from flows import (
    _datasets,
    _evaluate,
    _export,
    _forget,
    _housekeeping,
    _models,
    _operate,
    _replay,
    _show,
    _study,
)
from flows._ending import MANY_FAILED, OK
from flows._ending import teach as _teach
from flows._ending import usage as _usage
from flows._options import ConfigOption, JsonOption, SetOption, WorkspaceOption, is_workspace, place
from flows._options import existing as _existing
from flows._options import opened as _opened
from flows._options import settings_of as _config
from sage_core import __version__
from sage_core.config import SageConfig
from sage_core.types import Reason, Stage, Verdict
from tasks._plan import Retry, Selector

app = typer.Typer(
    name="sage",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Mine Internet video into 3D training data, and adapt 3D geometric foundation models with it."
        "\n\n[bold]A first run[/]\n\n"
        "  sage demo                                  everything, on videos that it makes itself\n\n"
        "  sage run --workspace ws VIDEO_OR_URL …     all six stages on yours\n\n"
        "  sage status --workspace ws                 what came of it\n\n"
        "  sage items --workspace ws --verdict failed which failed, and why\n\n"
        "  sage run --workspace ws --retry failed     try those again\n\n"
        "Stages, in order: acquire, curate, reconstruct, assemble, adapt, evaluate. Each is a command "
        "too, does only what is missing, and can be killed and run again at any time."
    ),
)
config_app = typer.Typer(no_args_is_help=True, help="Show the settings and what they mean.")
shards_app = typer.Typer(no_args_is_help=True, help="Check and look into Parquet shards.")
app.add_typer(config_app, name="config")
app.add_typer(shards_app, name="shards")
app.add_typer(_models.app, name="models")
app.add_typer(_datasets.app, name="datasets")
app.command()(_study.study)
app.command()(_forget.forget)
app.command()(_export.export)
app.add_typer(_housekeeping.app)

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
SourcesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        help=(
            "Video URLs, playlists, channels; video files or folders of them; image folders; source "
            "lists (.txt, .csv, .parquet, RealEstate10K text files). None: what the workspace has."
        ),
        show_default=False,
    ),
]


@app.command()
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


def _stage_command(stage: Stage, text: str) -> None:
    if stage is Stage.ACQUIRE:

        def acquire_command(
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
            select = _selector(reason, verdict, snapshot, limit)
            _run(workspace, sources or [], [stage], _config(config, set_), retry, item, select)

        app.command(stage.value, help=text)(acquire_command)
        return

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
    ) -> None:
        select = _selector(reason, verdict, snapshot, limit)
        _run(workspace, [], [stage], _config(config, set_), retry, item, select)

    app.command(stage.value, help=text)(command)


_stage_command(Stage.ACQUIRE, "Fetch videos and check that they are what they say.")


@app.command()
def curate(
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
    """Judge fetched videos; cut the good ones into clips."""
    select, settings = _selector(reason, verdict, snapshot, limit), _config(config, set_)
    _run(workspace, [], [Stage.CURATE], settings, retry, item, select, redecide=redecide)


@app.command()
def reconstruct(
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
    """COLMAP on each clip, a quality gate, a pose for every frame."""
    select, settings = _selector(reason, verdict, snapshot, limit), _config(config, set_)
    _run(workspace, [], [Stage.RECONSTRUCT], settings, retry, item, select, redecide=redecide)


_stage_command(Stage.ASSEMBLE, "Write reconstructed clips into Parquet shards.")


@app.command()
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


@app.command()
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


@app.command()
def serve(
    workspace: WorkspaceOption,
    sources: SourcesArgument = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    cron: Annotated[str, typer.Option(help="When `nightly` runs, as a cron line.")] = "0 2 * * *",
    timezone: Annotated[str, typer.Option(help="Time zone of the cron line.")] = "UTC",
    port: Annotated[int, typer.Option(help="Port of our own server, on loopback.")] = 4200,
) -> None:
    """Serve the Prefect UI and one deployment a stage, with `nightly` on a schedule. Ctrl-C stops it.

    Uses the server that PREFECT_API_URL names, else its own with a SQLite database in the workspace.
    """
    from flows._serve import serve_deployments

    settings = _config(config, set_)
    _teach(
        lambda: serve_deployments(_opened(workspace), sources or [], settings, cron, timezone, port)
    )


app.command()(_operate.deploy)
app.command()(_operate.notify)


@app.command()
def status(workspace: WorkspaceOption, json_: JsonOption = False) -> None:
    """Show the funnel: items per stage and verdict, with reasons."""
    _teach(lambda: _show.status(_existing(workspace), as_json=json_))


@app.command()
def items(
    workspace: WorkspaceOption,
    stage: Annotated[Stage | None, typer.Option(help="Only this stage.")] = None,
    verdict: Annotated[Verdict | None, typer.Option(help="Only this verdict.")] = None,
    reason: Annotated[
        Reason | None,
        typer.Option(metavar="REASON", help="Only this reason; `sage reasons` lists them."),
    ] = None,
    json_: JsonOption = False,
) -> None:
    """List items with their latest verdict, reason and figures."""
    _teach(lambda: _show.items(_existing(workspace), stage, verdict, reason, as_json=json_))


@app.command()
def reasons() -> None:
    """List every reason code and what it means."""
    _show.reasons()


@app.command()
def report(
    workspace: WorkspaceOption,
    out: Annotated[Path | None, typer.Option(help="Where to write the page.")] = None,
) -> None:
    """Write the report: one HTML file that needs no network."""
    from flows.report import write_report

    _teach(lambda: print(write_report(_existing(workspace), out)))


@app.command("replay")
def replay_items(
    workspace: WorkspaceOption,
    stage: Annotated[Stage, typer.Argument(help="The stage to run once more.")],
    item: Annotated[list[str] | None, typer.Argument(help="Ids of items.")] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    sample: Annotated[
        int | None, typer.Option(min=1, help="So many items, drawn by run.seed.")
    ] = None,
    scratch: Annotated[
        Path | None, typer.Option(help="Where to work; the system's temporary folder.")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Run a stage on an item's saved inputs and compare with what was stored; the workspace stays as it is.

    Ends with 0 if verdict, figures and files are the same, 1 if something differs.
    """
    root, settings = _existing(workspace), _config(config, set_)
    raise _replay.ending(
        _teach(
            lambda: _replay.replayed(
                root, stage, item or [], settings, sample=sample, scratch=scratch, as_json=json_
            )
        )
    )


@app.command()
def explain(
    item: Annotated[str, typer.Argument(help="A video or clip, as `sage items` lists them.")],
    workspace: WorkspaceOption,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where to draw it: .jpg, .png or .html.")
    ] = None,
) -> None:
    """Draw why an item got its verdict: frames, scores over time, tracks, figures, cameras."""
    from flows._explain import write_explanation

    _teach(lambda: print(write_explanation(_existing(workspace), item, out)))


@app.command()
def demo(
    workspace: Annotated[Path, typer.Option("--workspace", "-w", help="Where.")] = Path("demo"),
) -> None:
    """Show the whole thing: render videos, serve them over HTTP, mine them, adapt, evaluate, report."""
    from flows.demo import run_demo

    raise typer.Exit(_teach(lambda: run_demo(workspace.resolve())))


@config_app.command("show")
def config_show(config: ConfigOption = None, set_: SetOption = None) -> None:
    """Print every setting's value after preset, file and --set, as YAML with the stages' hashes."""
    _show.config(_config(config, set_))


@config_app.command("schema")
def config_schema(json_: JsonOption = False) -> None:
    """Explain every setting: type, default, bounds, meaning."""
    _show.schema(as_json=json_)


@shards_app.command("validate")
def shards_validate(
    paths: Annotated[list[Path], typer.Argument(help="Shard files, or folders of them.")],
) -> None:
    """Check shards row by row: schema version, images, poses, anchors. Ends with 1 on a problem."""
    if not _teach(lambda: _show.shards_validate(paths)):
        raise typer.Exit(MANY_FAILED)


@shards_app.command("inspect")
def shards_inspect(
    paths: Annotated[list[Path], typer.Argument(help="Shard files, or folders of them.")],
    draw: Annotated[Path | None, typer.Option(help="Draw a frame with its anchors here.")] = None,
) -> None:
    """Show what shards hold: clips, frames, anchors, trajectories."""
    _teach(lambda: _show.shards_inspect(paths, draw))


@shards_app.command("overlap")
def shards_overlap(
    paths: Annotated[list[Path], typer.Argument(help="Shard files, or folders of them.")],
    against: Annotated[
        list[Path],
        typer.Option(
            "--against",
            help=(
                "An evaluation set: a folder of images or videos (7-Scenes' layout, too), a video, an image, "
                "or shards. Repeatable."
            ),
        ),
    ],
    json_: JsonOption = False,
) -> None:
    """Find frames that evaluation sets hold, too, also cropped or mirrored. Ends with 1 on any."""
    if not _teach(lambda: _show.shards_overlap(paths, against, as_json=json_)):
        raise typer.Exit(MANY_FAILED)


@shards_app.command("difficulty")
def shards_difficulty(
    paths: Annotated[list[Path], typer.Argument(help="Shard files, or folders of them.")],
    config: ConfigOption = None,
    set_: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Measure how hard each clip is for the base model; kept beside the shards for adapt.mixing."""
    settings = _config(config, set_)
    _teach(lambda: _show.shards_difficulty(paths, settings, as_json=json_))


@app.callback(invoke_without_command=True)
def _top(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def main() -> None:
    """The entry point of the command ``sage``."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name in any script, on any terminal
    app()


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


if __name__ == "__main__":
    main()
