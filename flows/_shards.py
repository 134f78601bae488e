"""The commands ``sage shards …``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows import _show
from flows._ending import MANY_FAILED
from flows._ending import teach as _teach
from flows._options import ConfigOption, JsonOption, SetOption
from flows._options import settings_of as _config

app = typer.Typer(no_args_is_help=True, help="Check and look into Parquet shards.")


@app.command("validate")
def validate(
    paths: Annotated[list[Path], typer.Argument(help="Shard files, or folders of them.")],
) -> None:
    """Check shards row by row: schema version, images, poses, anchors. Ends with 1 on a problem."""
    if not _teach(lambda: _show.shards_validate(paths)):
        raise typer.Exit(MANY_FAILED)


@app.command("inspect")
def inspect(
    paths: Annotated[list[Path], typer.Argument(help="Shard files, or folders of them.")],
    draw: Annotated[Path | None, typer.Option(help="Draw a frame with its anchors here.")] = None,
) -> None:
    """Show what shards hold: clips, frames, anchors, trajectories."""
    _teach(lambda: _show.shards_inspect(paths, draw))


@app.command("overlap")
def overlap(
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


@app.command("difficulty")
def difficulty(
    paths: Annotated[list[Path], typer.Argument(help="Shard files, or folders of them.")],
    config: ConfigOption = None,
    set_: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Measure how hard each clip is for the base model; kept beside the shards for adapt.mixing."""
    settings = _config(config, set_)
    _teach(lambda: _show.shards_difficulty(paths, settings, as_json=json_))
