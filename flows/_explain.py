"""``sage explain``: one picture that shows why an item got its verdict, from what the workspace holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from data_catalog import CatalogError, StageEvent, Workspace
from flows._exhibits import event_figures
from flows.report import title_of
from sage_core import explain, sandbox
from sage_core.config.curate import CurateConfig
from sage_core.errors import ConfigError, SageError
from sage_core.explain import Evidence, Explanation, Mark, Scene, Still
from sage_core.mining import Measures, Thumbnails, Timeline
from sage_core.types import Clip, Figure, Judgement, Reason, Stage, Verdict

SUFFIXES = (".jpg", ".jpeg", ".png", ".html")
_STILLS = 8
_MOST_CURVES, _MOST_FIGURES = 5, 14
_AROUND = 0.06
"""Of a clip's length, how much of the time before and after it is shown, too."""
_LIMITS = sandbox.Limits(wall_s=900, memory_mb=1500)
_EXPLAINED = (Stage.ACQUIRE, Stage.CURATE, Stage.RECONSTRUCT, Stage.ASSEMBLE)

Part = TypeVar("Part")


def write_explanation(workspace: Path, item: str, out: Path | None = None) -> Path:
    """Draw it and return where it is; without ``out`` that is ``explanations/ITEM.jpg`` in the workspace.

    Raises:
        ConfigError: there is no such item, or it is a training run, or ``out`` is no picture's name.
    """
    if out is not None and out.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"{out} cannot be written: its name must end in {', '.join(SUFFIXES)}")
    ws = Workspace.open(workspace, create=False)
    told = explanation(ws, item)
    if out is None:
        name = f"explanations/{item}.jpg"
        ws.store.write_bytes(name, explain.to_jpeg(explain.draw(told)))
        return ws.store.path(name)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(_encoded(told, out.suffix.lower()))
    return out


def _encoded(told: Explanation, suffix: str) -> bytes:
    picture = explain.draw(told)
    if suffix == ".html":
        return explain.to_html(told, picture).encode(errors="backslashreplace")
    return explain.to_png(picture) if suffix == ".png" else explain.to_jpeg(picture)


@dataclass(frozen=True)
class _Item:
    """An item's events by stage, those of the video that it is part of, and the stored curation, if any."""

    name: str
    events: dict[Stage, StageEvent]
    of_video: dict[Stage, StageEvent]
    curation: dict[str, Any] | None

    @property
    def last(self) -> StageEvent:
        return list(self.events.values())[-1]

    @property
    def clip(self) -> Clip | None:
        """None for a whole video."""
        curated = self.events.get(Stage.CURATE)
        stored = curated.details.get("clip") if curated else None
        return Clip.from_json(stored) if stored else None

    @property
    def reason(self) -> Reason | None:
        return Reason(self.last.reason) if self.last.reason else None


def explanation(ws: Workspace, item: str) -> Explanation:
    """Gather all that the workspace holds on an item; what cannot be shown becomes a note.

    Raises:
        ConfigError: as :func:`write_explanation`.
    """
    notes: list[str] = []
    events, of_video = _events(ws, item)
    curation = _part("scores", lambda: _curation(ws, of_video), notes)
    found = _Item(item, events, of_video, curation)
    view = _part("scores over time", lambda: _view(found), notes)
    shown, evidence = _part("frames", lambda: _frames(ws, found, view, notes), notes) or ([], None)
    scene = _part("reconstruction", lambda: _scene(ws, found, notes), notes)
    figures, figures_of = _figures(found)
    broken = [name for name, figure in figures.items() if explain.fails(figure)]
    return Explanation(
        title=title_of(ws, item) or item,
        item=item,
        source=found.last.source,
        stage=found.last.stage,
        judgement=_judgement(found.last),
        figures=figures,
        figures_of=figures_of,
        facts=[item, *_facts(found)],
        strip=shown,
        timeline=_drawn(ws, found, view, broken, notes) if view else None,
        evidence=evidence,
        scene=scene,
        notes=notes,
        stages={stage.value: _judgement(event) for stage, event in events.items()},
    )


def _part(what: str, make: Callable[[], Part | None], notes: list[str]) -> Part | None:
    """A part of the picture, or None and a note why it is not there."""
    try:
        return make()
    except (CatalogError, SageError, OSError, ValueError) as error:
        notes.append(f"No {what}: {error}")
        return None


def _events(ws: Workspace, item: str) -> tuple[dict[Stage, StageEvent], dict[Stage, StageEvent]]:
    """An item's events and its video's; both the same for a video."""

    def of(name: str) -> dict[Stage, StageEvent]:
        found = {stage: ws.catalog.find(name, stage.value) for stage in _EXPLAINED}
        return {stage: event for stage, event in found.items() if event is not None}

    events = of(item)
    if not events:
        if any(ws.catalog.find(item, stage.value) for stage in Stage):
            raise ConfigError(
                f"{item} is a training run: see `sage report`; this is for videos and clips"
            )
        raise ConfigError(f"{ws.root} has no item {item}: `sage items -w {ws.root}` lists them")
    parent = next((event.parent for event in events.values() if event.parent), None)
    return events, of(parent) if parent else events


def _curation(ws: Workspace, of_video: dict[Stage, StageEvent]) -> dict[str, Any] | None:
    event = of_video.get(Stage.CURATE)
    if event is None or "curation" not in event.artifacts:
        return None
    record: dict[str, Any] = ws.store.read_json(event.artifacts["curation"].path)
    return record


@dataclass(frozen=True)
class _View:
    """The stored scores of a video, its clips, and the stretch of it that is to be shown."""

    timeline: Timeline
    clips: Sequence[dict[str, Any]]
    start_s: float
    end_s: float


def _view(found: _Item) -> _View | None:
    """None where no scores over time were stored: rejected before, or photos."""
    record = found.curation
    if record is None or not record["scores"] or record["kind"] != "video":
        return None
    config = CurateConfig.model_validate(record["config"])
    timeline = Timeline(Measures.from_json(record["scores"]), config)
    times = timeline.measures.frames.time_s
    start, end = float(times[0]), float(times[-1]) + timeline.period_s
    clip = found.clip
    if clip is not None:
        around = _AROUND * (clip.end_s - clip.start_s)
        start, end = max(start, clip.start_s - around), min(end, clip.end_s + around)
    return _View(timeline, record["clips"], start, end)


def _drawn(
    ws: Workspace, found: _Item, view: _View, broken: Sequence[str], notes: list[str]
) -> explain.Timeline:
    """The view as bands and curves."""
    poses = _part("poses over time", lambda: _poses(ws, found), notes) or []
    span = _span(found, view)
    scores = explain.curves(view.timeline, span, found.reason, broken)
    return explain.Timeline(
        view.start_s,
        view.end_s,
        explain.bands(view.timeline, view.clips),
        [*poses, *scores][:_MOST_CURVES],
        explain.legend(view.timeline, view.start_s, view.end_s),
    )


def _poses(ws: Workspace, found: _Item) -> list[explain.Curve]:
    event = found.events.get(Stage.RECONSTRUCT)
    if event is None or "model" not in event.artifacts:
        return []
    figures = event_figures(event)
    points, error_px = (figures.get(name) for name in ("points_median", "reprojection_px"))
    folder = ws.store.fetch(event.artifacts["model"])
    return explain.pose_curves(folder, points, error_px)


def _scene(ws: Workspace, found: _Item, notes: list[str]) -> Scene | None:
    event = found.events.get(Stage.RECONSTRUCT)
    if event is None:
        return None
    if "model" not in event.artifacts:
        notes.append("No model is kept of a clip that reconstruct turned down.")
        return None
    clip = found.clip
    folder = ws.store.fetch(event.artifacts["model"])
    return explain.read_scene(folder, ordered=clip is None or clip.ordered)


def _frames(
    ws: Workspace, found: _Item, view: _View | None, notes: list[str]
) -> tuple[list[Still], Evidence | None]:
    """The strip, from the stored thumbnails where there are any, and the frame that says most."""
    strip = _part("thumbnails", lambda: _strip(ws, found, view), notes) or []
    media = _media(ws, found, notes)
    if media is None:
        return strip, None
    evidence = _part("tracks", lambda: _evidence(media, found, view), notes) if view else None
    if strip:
        return strip, evidence
    strip = _part("frames", lambda: _decoded_strip(media, found), notes) or []
    return strip, _small(found, strip)


def _media(ws: Workspace, found: _Item, notes: list[str]) -> Path | None:
    event = found.of_video.get(Stage.ACQUIRE)
    if event is None or "video" not in event.artifacts:
        return None
    path = ws.store.fetch(event.artifacts["video"])
    if path.exists():
        return path
    notes.append(
        f"The source's file is gone ({event.artifacts['video'].path}): no frame of it is shown in full."
    )
    return None


def _strip(ws: Workspace, found: _Item, view: _View | None) -> list[Still]:
    event = found.of_video.get(Stage.CURATE)
    if event is None or "thumbnails" not in event.artifacts or found.curation is None:
        return []
    thumbnails = Thumbnails.read(ws.store.fetch(event.artifacts["thumbnails"]))
    stills = []
    for index, time_s in _shown_frames(found, view):
        image = thumbnails.nearest(index)
        if image is not None:
            label = f"photo {index + 1}" if time_s is None else f"{time_s:.1f} s"
            mark = _mark(found, time_s)
            stills.append(Still(image[..., ::-1], label, mark))
    return stills


def _shown_frames(found: _Item, view: _View | None) -> list[tuple[int, float | None]]:
    """Source frames of the strip with their times; photos have none."""
    record = found.curation
    assert record is not None
    if view is not None:
        frames = view.timeline.measures.frames
        at = [explain.nearest(frames.time_s, t) for t in _middles(view.start_s, view.end_s)]
        return [(int(frames.index[i]), float(frames.time_s[i])) for i in dict.fromkeys(at)]
    if record["kind"] == "images":
        clip = found.clip
        keys = clip.key_frames if clip else list(range(len(record["scores"]["sharpness"])))
        return [(keys[i], None) for i in explain.spread(0, len(keys), _STILLS)]
    glances = record["glances"] or {"index": [], "time_s": []}
    chosen = explain.spread(0, len(glances["index"]), _STILLS)
    return [(glances["index"][i], glances["time_s"][i]) for i in chosen]


def _middles(start: float, end: float) -> list[float]:
    return [start + (i + 0.5) * (end - start) / _STILLS for i in range(_STILLS)]


def _mark(found: _Item, time_s: float | None) -> Mark:
    clips = found.curation["clips"] if found.curation else []
    if clips and time_s is not None:
        return explain.mark_at(clips, time_s)
    wanted = found.last.verdict == Verdict.ACCEPTED.value
    return Mark.WANTED if wanted else Mark.UNWANTED


def _decoded_strip(media: Path, found: _Item) -> list[Still]:
    """Frames spread over a source of which no thumbnails were kept."""
    arguments = {"path": str(media), "count": _STILLS}
    return [
        Still(image, f"{time_s:.1f} s", _mark(found, time_s))
        for _, time_s, image in explain.decoded("decode_spread", arguments, _LIMITS)
    ]


def _small(found: _Item, strip: Sequence[Still]) -> Evidence | None:
    """A source whose header is too small, in the size that it should have."""
    figure = event_figures(found.last).get("short_side_px")
    header = found.curation["header"] if found.curation else None
    if figure is None or not explain.fails(figure) or not strip or not header:
        return None
    size = (header["width"], header["height"])
    return explain.within(strip[len(strip) // 2].image, size, int(figure.threshold or 0))


def _evidence(media: Path, found: _Item, view: _View) -> Evidence | None:
    kind = str(found.last.figures.get("kind", {}).get("value", ""))
    moment = explain.telling_moment(view.timeline, *_span(found, view), found.reason, kind)
    if moment is None:
        return None
    entries = [e for e in view.timeline.measures.entries if e.frame <= moment.frames[0]]
    entry = {"packet": entries[-1].packet, "frame": entries[-1].frame} if entries else None
    arguments = {"path": str(media), "frames": moment.frames, "entry": entry}
    pictures = [image for *_, image in explain.decoded("decode_frames", arguments, _LIMITS)]
    return explain.evidence(pictures, moment)


def _span(found: _Item, view: _View) -> tuple[float, float]:
    """The seconds that were judged: of the clip, of the clip that decided, or all."""
    stretch = _deciding_stretch(found)
    clip = Clip.from_json(stretch["clip"]) if stretch else found.clip
    return (clip.start_s, clip.end_s) if clip else (view.start_s, view.end_s)


def _deciding_stretch(found: _Item) -> dict[str, Any] | None:
    """Of a video that was rejected for its clips' reason, the longest clip of that reason."""
    clips = found.curation["clips"] if found.curation else []
    wanted = [c for c in clips if c["judgement"]["reason"] == found.last.reason]
    if found.clip is not None or found.last.stage != Stage.CURATE.value or not wanted:
        return None
    longest: dict[str, Any] = max(wanted, key=lambda c: c["clip"]["end_s"] - c["clip"]["start_s"])
    return longest


def _figures(found: _Item) -> tuple[dict[str, Figure], str]:
    """Figures with a threshold, those that fail first, and what they are of."""
    stretch = _deciding_stretch(found)
    if stretch is not None:
        stored = {n: Figure(**f) for n, f in stretch["judgement"]["figures"].items()}
        clip = stretch["clip"]
        name = f"figures of {clip['start_s']:.1f} to {clip['end_s']:.1f} s"
    else:
        stages = list(reversed(found.events.values())) if found.clip else [found.last]
        stored = {}
        for event in stages:  # the last stage has the last word where two measure the same
            stored = {
                **stored,
                **{n: f for n, f in event_figures(event).items() if n not in stored},
            }
        name = f"figures of {' and '.join(e.stage for e in stages)}"
    ruled = {name: figure for name, figure in stored.items() if figure.rule}
    first = explain.first_figures(found.reason)
    ordered = sorted(ruled.items(), key=lambda p: (not explain.fails(p[1]), p[0] not in first))
    return dict(ordered[:_MOST_FIGURES]), name


def _facts(found: _Item) -> list[str]:
    record = found.curation
    seen = (record["scores"] or record["header"]) if record and record["kind"] == "video" else None
    if seen is None:
        return []
    clip = found.clip
    seconds = clip.end_s - clip.start_s if clip else seen["duration_s"]
    rate = [f"{seen['fps']:.3g} frames a second"] if "fps" in seen else []
    return [f"{seconds:.1f} s", f"{seen['width']}×{seen['height']}", *rate]


def _judgement(event: StageEvent) -> Judgement:
    reason = Reason(event.reason) if event.reason else None
    return Judgement(
        Verdict(event.verdict), reason, event.message, event_figures(event), event.retryable
    )
