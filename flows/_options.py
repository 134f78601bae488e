"""Options that several commands have, and what is made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from data_catalog import CatalogError, StorageError, Workspace, local_folder, url_of
from flows._ending import MANY_FAILED, usage
from flows._progress import in_words, say
from sage_core.acquisition.sources import spelled
from sage_core.config import SageConfig, load_config
from sage_core.errors import ConfigError


def place(text: str) -> Path:
    """A workspace option: a folder as it is; for a URL the folder that this machine has for it."""
    return local_folder(text) if "://" in text else Path(text)


WorkspaceOption = Annotated[
    Path,
    typer.Option(
        "--workspace",
        "-w",
        envvar="SAGE_WORKSPACE",
        parser=place,
        metavar="FOLDER|URL",
        help="The folder, or s3://bucket/prefix, that holds everything.",
    ),
]
ConfigOption = Annotated[
    str | None,
    typer.Option("--config", "-c", help="A YAML file, or a preset: demo, mvdust3r, vggt."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", help="One setting, e.g. curate.min_duration_s=5. Repeatable."),
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
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def settings_of(file: str | None, overrides: list[str] | None) -> SageConfig:
    """The settings, or the end as wrong usage."""
    try:
        return load_config(file, overrides or ())
    except ConfigError as error:
        usage(str(error))


def existing(workspace: Path) -> Path:
    """The absolute path of a workspace that is there, or the end as wrong usage."""
    if not is_workspace(workspace):
        usage(
            f"{workspace} is no workspace (it has no catalog). `sage run -w {workspace} …` makes one"
        )
    return opened(workspace, create=url_of(workspace) is None)


def is_workspace(folder: Path) -> bool:
    """Whether there is one; the end as wrong usage where it is damaged."""
    try:
        return url_of(folder) is not None or (folder / "catalog").exists()
    except CatalogError as error:
        usage(str(error))


def opened(workspace: Path, create: bool = True) -> Path:
    """The workspace's absolute path, made if need be; what can be none is wrong usage."""
    root = workspace.resolve()
    if spelled(str(root)) != str(root):
        usage(f"{spelled(str(root))} cannot be a workspace: its name is not UTF-8")
    try:
        Workspace.open(root, create)
    except StorageError as error:  # no fault of the user's
        say("sage:", error)
        raise typer.Exit(MANY_FAILED) from error
    except CatalogError as error:
        usage(str(error))
    except OSError as error:
        usage(f"{workspace} cannot be a workspace: {in_words(error)}")
    return root
