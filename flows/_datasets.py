"""``sage datasets``: which there are, whether a copy agrees with itself, and ScanNet's files unpacked."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from flows._ending import MANY_FAILED, teach, usage
from flows._progress import literal, say

if TYPE_CHECKING:
    from sage_core.evaluation.datasets import DataSet, SceneCheck

app = typer.Typer(
    no_args_is_help=True, help="RGB-D data sets and protocols to evaluate on; check a copy of one."
)
console = Console()

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@app.command("list")
def list_datasets(json_: JsonOption = False) -> None:
    """List the data sets that SAGE reads: licence, where to get each, and the files that it expects."""
    from sage_core.evaluation.datasets import DATASETS

    if json_:
        print(json.dumps([_facts(one) for one in DATASETS.values()], indent=2))
        return
    for one in DATASETS.values():
        console.print(literal(f"{one.name}  {one.title}", "bold"), soft_wrap=True)
        told = {"licence": one.licence, "where": one.where, "layout": one.layout}
        told |= {f"{one.name}:{variant}": text for variant, text in one.variants.items()}
        for key, text in told.items():
            console.print(literal(f"    {key}: {text}"), soft_wrap=True)


def _facts(one: DataSet) -> dict[str, Any]:
    return {
        "name": one.name,
        "title": one.title,
        "licence": one.licence,
        "where": one.where,
        "layout": one.layout,
        "variants": {f"{one.name}:{variant}": text for variant, text in one.variants.items()},
    }


@app.command()
def protocols(json_: JsonOption = False) -> None:
    """List the protocols of `sage evaluate --protocol PROTOCOL/DATASET`."""
    from sage_core.evaluation.protocols import PROTOCOLS

    if json_:
        rows = [
            {**p.rule(), "text": p.text, "published_on": p.published_on} for p in PROTOCOLS.values()
        ]
        print(json.dumps(rows, indent=2))
        return
    table = Table("protocol", "what", "published on")
    for protocol in PROTOCOLS.values():
        table.add_row(
            protocol.name, literal(protocol.text), ", ".join(protocol.published_on) or "–"
        )
    console.print(table)


@app.command()
def check(
    name: Annotated[str, typer.Argument(help="A data set, e.g. 7scenes or 7scenes:raw.")],
    root: Annotated[Path, typer.Argument(help="The folder that holds it.")],
    scene: Annotated[
        list[str] | None, typer.Option("--scene", help="Only this scene. Repeatable.")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Check a copy by reprojection: depth of one view against the others. Ends with 1 if a scene is wrong.

    Says what is wrong where a known mistake explains it: depth's scale, poses the other way round, flipped
        axes, a
    mirrored principal point, depth along the ray.
    """
    found = teach(lambda: _checks(name, root, scene or []))
    if json_:
        rows = [{**asdict(one), "sound": one.sound, "verdict": one.verdict()} for one in found]
        print(json.dumps(rows, indent=2))
    else:
        for one in found:
            _show(one)
    if not all(one.sound for one in found):
        raise typer.Exit(MANY_FAILED)


def _checks(name: str, root: Path, wanted: list[str]) -> list[SceneCheck]:
    from sage_core.evaluation.datasets import check_scene, data_set

    scenes = data_set(name).scenes(root)
    if unknown := [one for one in wanted if one not in scenes]:
        usage(f"{root} holds no scene {unknown[0]}; it holds {', '.join(list(scenes)[:10])}")
    return [check_scene(scenes[one]()) for one in (wanted or scenes)]


def _show(one: SceneCheck) -> None:
    say(
        "sound" if one.sound else "wrong",
        f"{one.name}: {one.verdict()}",
        "green" if one.sound else "red",
    )
    low, high = one.scale_band
    if high / low > 1.2:
        say(
            "    note:",
            f"the cameras move too little to tell depth's scale: {low:.2g} to {high:.2g} times it fits too",
            "yellow",
        )
    if one.lost:
        say("    note:", f"{len(one.lost)} frames without a finite pose are left out", "yellow")
    if one.missing:
        shown = ", ".join(map(str, one.missing[:5])) + (" …" if len(one.missing) > 5 else "")
        say("    note:", f"{len(one.missing)} frames are missing: {shown}", "yellow")


@app.command()
def unpack(
    file: Annotated[
        Path, typer.Argument(help="ScanNet's .sens file.", exists=True, dir_okay=False)
    ],
    out: Annotated[Path, typer.Argument(help="The scene's folder, which must not be there yet.")],
    every: Annotated[int, typer.Option(help="Only every so manyth frame.", min=1)] = 1,
) -> None:
    """Unpack ScanNet's .sens file into the exported layout (color/, depth/, pose/, intrinsic/)."""
    from sage_core.evaluation.datasets.scannet_sens import unpack as unpacked

    count = teach(lambda: unpacked(file, out, every))
    say("wrote", f"{count} frames to {out}", "green")
