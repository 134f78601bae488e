"""The command ``sage``: run the DAG or one stage, look at what came of it, serve it every night."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Annotated

import typer

from flows import (
    _datasets,
    _export,
    _forget,
    _housekeeping,
    _models,
    _operate,
    _replay,
    _shards,
    _show,
    _stage_commands,
    _study,
)
from flows._ending import teach as _teach
from flows._options import ConfigOption, JsonOption, SetOption, SourcesArgument, WorkspaceOption
from flows._options import existing as _existing
from flows._options import opened as _opened
from flows._options import settings_of as _config
from sage_core import __version__
from sage_core.types import Reason, Stage, Verdict

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
app.add_typer(config_app, name="config")
app.add_typer(_shards.app, name="shards")
app.add_typer(_models.app, name="models")
app.add_typer(_datasets.app, name="datasets")
for _name, _command in _stage_commands.COMMANDS.items():
    app.command(_name)(_command)
app.command()(_study.study)
app.command()(_forget.forget)
app.command()(_export.export)
app.add_typer(_housekeeping.app)


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


if __name__ == "__main__":
    main()
