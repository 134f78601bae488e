"""What a report shows besides tables: contact sheets, scenes, training curves, evaluations.

What cannot be read is not left out silently: it becomes the exhibit's problem, in words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from data_catalog import CatalogError, StageEvent, Workspace
from sage_core.errors import SageError
from sage_core.report import (
    Curve,
    Evaluation,
    Fact,
    Gallery,
    Picture,
    Run,
    Scene,
    SceneCard,
    comparison,
    depth_range,
    embed,
    pack_scene,
    with_anchors,
)
from sage_core.report.figures import duration, number, shown
from sage_core.report.metrics import BASE
from sage_core.shards import FrameRecord, ShardReader
from sage_core.types import Figure, Stage, Verdict
from tasks._plan import reconstructed_clips

MOST_SHEETS, MOST_SCENES, MOST_RUNS, MOST_EVALUATIONS, MOST_PICTURES = 24, 12, 4, 4, 16
_SHEETS_BYTES, _PICTURES_BYTES = 3_500_000, 2_500_000
_ACCEPTED_SHEETS_FIRST = 16
_FRAMES_OF_A_CLIP = 4

Name = Callable[[str], str]
"""Gives the title of an item."""


def sheets(ws: Workspace, name: Name, notes: list[str]) -> Gallery:
    """Contact sheets of curated videos: good ones, then what was turned down."""
    events = [e for e in ws.catalog.latest(Stage.CURATE.value) if "contact" in e.artifacts]
    accepted = [e for e in events if e.verdict == Verdict.ACCEPTED.value]
    others = [e for e in events if e.verdict != Verdict.ACCEPTED.value]
    first = _ACCEPTED_SHEETS_FIRST
    ordered = accepted[:first] + others + accepted[first:]

    def make(event: StageEvent) -> Picture:
        title = name(event.item)
        verdict = f"{event.verdict}: {event.reason}" if event.reason else event.verdict
        return embed(
            ws.store.fetch(event.artifacts["contact"]).read_bytes(),
            alt=f"Contact sheet of {title}: frames of its clips in rows",
            caption=f"{title} ({event.item}), {verdict}",
            mark=event.verdict,
            max_side=1000,
        )

    makers = [(f"contact sheet of {e.item}", lambda e=e: make(e)) for e in ordered[:MOST_SHEETS]]
    gallery = _gallery(makers, _SHEETS_BYTES, notes)
    return Gallery(gallery.pictures, gallery.left_out + len(ordered[MOST_SHEETS:]))


def scenes(ws: Workspace, name: Name) -> tuple[list[SceneCard], int]:
    """A card for each of the first reconstructed clips, and how many more there are."""
    clips = reconstructed_clips(ws)
    readers: dict[str, ShardReader] = {}
    cards = [_scene_card(ws, clip, name(clip), readers) for clip in clips[:MOST_SCENES]]
    return cards, len(clips[MOST_SCENES:])


def runs(ws: Workspace) -> tuple[list[Run], int]:
    """The latest training runs, newest first."""
    events = _newest_first(ws.catalog.latest(Stage.ADAPT.value))
    return [_run(ws, event) for event in events[:MOST_RUNS]], len(events[MOST_RUNS:])


def evaluations(ws: Workspace, notes: list[str]) -> tuple[list[Evaluation], int]:
    """The latest evaluations, newest first."""
    events = _newest_first(ws.catalog.latest(Stage.EVALUATE.value))
    chosen = events[:MOST_EVALUATIONS]
    return [_evaluation(ws, event, notes) for event in chosen], len(events[MOST_EVALUATIONS:])


def event_figures(event: StageEvent) -> dict[str, Figure]:
    """An event's figures, those with a threshold first."""
    figures = {name: Figure(**figure) for name, figure in event.figures.items()}
    return dict(sorted(figures.items(), key=lambda pair: pair[1].rule is None))


def _gallery(
    makers: Iterable[tuple[str, Callable[[], Picture]]], budget: int, notes: list[str]
) -> Gallery:
    """Pictures until the budget of bytes is spent."""
    pictures: list[Picture] = []
    left_out = spent = 0
    for what, make in makers:
        if spent >= budget:
            left_out += 1
            continue
        try:
            pictures.append(make())
        except (OSError, ValueError, CatalogError) as error:
            notes.append(f"The {what} cannot be shown: {error}")
            continue
        spent += len(pictures[-1].jpeg)
    return Gallery(pictures, left_out)


def _scene_card(ws: Workspace, clip: str, title: str, readers: dict[str, ShardReader]) -> SceneCard:
    reconstructed = ws.catalog.find(clip, Stage.RECONSTRUCT.value)
    assembled = ws.catalog.find(clip, Stage.ASSEMBLE.value)
    assert reconstructed is not None
    figures = event_figures(reconstructed)
    try:
        if assembled is None or "frames" not in assembled.artifacts:
            scene = _scene_of_model(ws, reconstructed)
            facts = [Fact("shard", "in none")]
            return SceneCard(clip, title, scene, facts, figures)
        path = assembled.artifacts["frames"].path
        if path not in readers:
            shard = ws.store.fetch(assembled.artifacts["frames"], assembled.artifacts["clips"])
            readers[path] = ShardReader([shard])
        return _scene_of_shard(readers[path], clip, title, path, figures)
    except (SageError, CatalogError, OSError) as error:
        return SceneCard(clip, title, figures=figures, problem=f"Cannot be shown: {error}")


def _scene_of_shard(
    reader: ShardReader, clip: str, title: str, path: str, figures: dict[str, Figure]
) -> SceneCard:
    info, points = reader.clip(clip), reader.points(clip)
    rows = np.unique(np.linspace(0, info.n_frames - 1, _FRAMES_OF_A_CLIP).round().astype(int))
    frames = reader.frames(clip, rows.tolist())
    size = (frames[0].width, frames[0].height)
    scene = pack_scene(
        points.xyz,
        points.rgb,
        info.cam_from_world,
        frames[0].intrinsics,
        size,
        ordered=info.ordered,
    )
    best = max((t.score for t in info.trajectories), default=0.0)
    facts = [
        Fact("frames in the shard", shown(info.n_frames)),
        Fact("size", f"{size[0]}×{size[1]}"),
        Fact("trajectories", f"{len(info.trajectories)} (best score {best:.2f})"),
        Fact("shard", path.rpartition("/")[2]),
    ]
    if info.ordered:
        facts.insert(1, Fact("seconds", shown(float(np.ptp(info.times_s)))))
    near, far = depth_range(np.concatenate([frame.anchors.depth for frame in frames]))
    pictures = _anchored(frames, title, near, far)
    return SceneCard(clip, title, scene, facts, figures, pictures, near, far)


def _anchored(frames: Sequence[FrameRecord], title: str, near: float, far: float) -> list[Picture]:
    return [
        embed(
            with_anchors(frame.pixels(), frame.anchors.xy, frame.anchors.depth, near, far),
            alt=f"Frame {frame.frame} of {title} with {len(frame.anchors)} anchors, coloured by depth",
            caption=f"frame {frame.frame}, {frame.time_s:.2f} s: {len(frame.anchors)} anchors",
            max_side=480,
        )
        for frame in frames
    ]


def _scene_of_model(ws: Workspace, event: StageEvent) -> Scene:
    from sage_core.sfm.model import load_clip_model

    model = load_clip_model(ws.store.fetch(event.artifacts["model"]))
    camera = model.frames[0].camera
    K = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])
    poses = np.stack([frame.cam_from_world for frame in model.frames])
    return pack_scene(model.xyz, model.rgb, poses, K, (camera.width, camera.height))


def _run(ws: Workspace, event: StageEvent) -> Run:
    from sage_core.training.journal import read_metrics

    folder = event.details.get("folder", f"runs/{event.item}")
    files = (f"{folder}/{name}" for name in ("losses.jsonl", "metrics.jsonl"))
    file = next((file for file in files if ws.store.exists(file)), None)
    lines = read_metrics(ws.store.fetch(file)) if file else []
    figures = {name: figure["value"] for name, figure in event.figures.items()}
    names = ("steps", "video_samples", "labelled_samples", "trained_parameters", "skipped_steps")
    facts = [Fact("base", event.source)]
    facts += [
        Fact(name.replace("_", " "), shown(figures[name])) for name in names if name in figures
    ]
    facts.append(Fact("time", duration(event.seconds)))
    rate = Curve("learning rate", [ln["step"] for ln in lines], [ln["lr"] for ln in lines])
    return Run(
        event.item, event.verdict, event.message, _losses(lines), rate if lines else None, facts
    )


def _losses(lines: Sequence[dict[str, Any]]) -> list[Curve]:
    """A curve a term, the total first; a step without the term is left out of its curve."""
    names = {name for line in lines for name in line["terms"]}
    curves = []
    for name in sorted(names, key=lambda name: (name != "total", name)):
        pairs = [(ln["step"], number(ln["terms"][name])) for ln in lines if name in ln["terms"]]
        kept = [(step, value) for step, value in pairs if value is not None]
        curves.append(Curve(name, [step for step, _ in kept], [value for _, value in kept]))
    return curves


def _evaluation(ws: Workspace, event: StageEvent, notes: list[str]) -> Evaluation:
    if event.verdict == Verdict.FAILED.value:
        reason = f"{event.verdict} ({event.reason}): {event.message}"
        return Evaluation(event.item, {}, [], problem=reason)
    folder = event.details.get("folder", f"evaluations/{event.item}")
    try:
        return _comparison(ws, event.item, folder, notes)
    except CatalogError as error:
        problem = str(error)
    except KeyError as error:
        problem = f"{folder}/metrics.json lacks {error}: run `sage evaluate --retry all`"
    return Evaluation(event.item, {}, [], problem=f"Cannot be shown: {problem}")


def _comparison(ws: Workspace, item: str, folder: str, notes: list[str]) -> Evaluation:
    metrics = ws.store.read_json(f"{folder}/metrics.json")
    parts = [*metrics["sets"], *([metrics["held_out"]] if metrics["held_out"] else [])]
    models = sorted(metrics["models"].items(), key=lambda pair: pair[0] != BASE)
    return Evaluation(
        item,
        {model: _inside(ws, weights) for model, weights in models},
        [comparison(part) for part in parts],
        _evaluation_pictures(ws, folder, metrics["pictures"], notes),
    )


def _evaluation_pictures(
    ws: Workspace, folder: str, pictures: Sequence[dict[str, str]], notes: list[str]
) -> Gallery:
    def make(one: dict[str, str]) -> Picture:
        data = ws.store.read_bytes(f"{folder}/{one['file']}")
        return embed(data, alt=one["caption"], caption=one["caption"], max_side=1100, quality=82)

    chosen = pictures[:MOST_PICTURES]
    makers = [(f"picture {one['file']}", lambda one=one: make(one)) for one in chosen]
    gallery = _gallery(makers, _PICTURES_BYTES, notes)
    return Gallery(gallery.pictures, gallery.left_out + len(pictures[MOST_PICTURES:]))


def _inside(ws: Workspace, path: str) -> str:
    """A path in the workspace relative to it; anything else as it is."""
    return path.removeprefix(f"{ws.store.root}/")


def _newest_first(events: Sequence[StageEvent]) -> list[StageEvent]:
    return sorted(events, key=lambda event: (event.time, event.sequence), reverse=True)
