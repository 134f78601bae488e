"""A stand-alone evaluation: models on a protocol's frames, tuple by tuple, resumable.

The folder of results holds ``frames.json`` (the frozen list), ``checks.json`` (the data set's check),
``rows/MODEL/N.json`` (a tuple's figures, written whole or not at all), ``pictures/``, and at the end
``metrics.json``, ``metrics.csv`` and ``index.html``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from sage_core.errors import ConfigError, SageError
from sage_core.evaluation.benchmark_tables import tables, write_tables
from sage_core.evaluation.datasets import Reading, Scene, check_scene
from sage_core.evaluation.labelled import Prediction
from sage_core.evaluation.measures import NovelViews, measured
from sage_core.evaluation.pictures import cloud_sheet, save, tuple_sheet
from sage_core.evaluation.protocols import FrameList, Protocol, TestTuple, frame_list
from sage_core.evaluation.samples import LabelledViews
from sage_core.hub import sha256_of, weights_path
from sage_core.losses import load_perceptual
from sage_core.models import GeometricModel, load_model
from sage_core.training.files import read_json, write_json
from sage_core.training.lock import RunHeldError, run_lock
from sage_core.types import Reason

Progress = Callable[[str, int, int], None]
"""Told what is done (model and tuple), how many are done, and of how many."""


@dataclass(frozen=True)
class Benchmark:
    """What is measured on what.

    Attributes:
        models: label -> weights, a file or a name; the others are compared with the first.
        root: where the data set lies.
        out: folder of results; an earlier, unfinished run there is gone on with.
        partial, most: as in :func:`sage_core.evaluation.protocols.frame_list`.
        unchecked: measure though the data set's own check fails.
        pictures: tuples that are drawn.
        perceptual, perceptual_weights: network of LPIPS for novel views, and the folder of its weights.
        threads: CPU threads, also of nearest neighbours; -1 takes all cores.
    """

    models: dict[str, str]
    protocol: Protocol
    reading: Reading
    root: Path
    out: Path
    partial: bool = False
    most: int | None = None
    unchecked: bool = False
    pictures: int = 4
    perceptual: Literal["none", "vgg", "alex"] = "none"
    perceptual_weights: str | None = None
    device: str = "auto"
    threads: int = -1


@dataclass(frozen=True)
class _Model:
    label: str
    weights: str
    sha256: str

    @property
    def folder(self) -> str:
        return (
            "".join(c if c.isalnum() or c in "-_." else "-" for c in self.label)
            + f"-{self.sha256[:12]}"
        )


@dataclass
class _Scenes:
    """Scenes opened when they are needed, and kept."""

    reading: Reading
    root: Path
    _opened: dict[str, Scene] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Scene:
        if name not in self._opened:
            there = self.reading.scenes(self.root)
            if name not in there:
                raise SageError(
                    f"{self.root} lacks the scene {name}, which the kept frame list names",
                    reason=Reason.MISSING_INPUT,
                )
            self._opened[name] = there[name]()
        return self._opened[name]

    def views(self, one: TestTuple) -> LabelledViews:
        """Inputs, then targets."""
        scene = self[one.scene]
        places = {frame.number: place for place, frame in enumerate(scene.frames)}
        wanted = (*one.inputs, *one.targets)
        if gone := [number for number in wanted if number not in places]:
            raise SageError(
                f"{scene.folder} lacks frame {gone[0]}, which the kept frame list names: copy the "
                "scene again",
                reason=Reason.MISSING_INPUT,
            )
        return scene.views([places[number] for number in wanted])


def run_benchmark(job: Benchmark, progress: Progress | None = None) -> dict[str, Any]:
    """Measure; returns what ``metrics.json`` holds. Tuples that have their figures are not measured again.

    Raises:
        RunHeldError: another living process writes to the folder.
        ConfigError: the folder holds results of something else; weights or options that are not there.
        SageError: data that is broken or does not agree with itself, a prediction that is not finite.
    """
    try:
        with run_lock(job.out, "being written to"):
            return _run(job, progress or (lambda *_: None))
    except RunHeldError as error:
        raise RunHeldError(f"{error}, or name another --out") from error


def _run(job: Benchmark, progress: Progress) -> dict[str, Any]:
    torch.set_num_threads(job.threads if job.threads > 0 else torch.get_num_threads())
    frames = _frames(job)
    scenes = _Scenes(job.reading, job.root)
    checks = _checked(job, frames, scenes)
    models = [_Model(n, w, sha256_of(weights_path(w))) for n, w in job.models.items()]
    for number, model in enumerate(models):
        _measure(job, model, frames, scenes, progress, number * len(frames.tuples), len(models))
    rows = {model.label: [read_json(f) for f in _row_files(job, model, frames)] for model in models}
    facts = {
        "protocol": frames.id,
        "text": job.protocol.text,
        "data_set": str(job.reading),
        "notes": list(frames.notes),
        "checks": checks,
        "models": {m.label: {"weights": m.weights, "sha256": m.sha256} for m in models},
    }
    report = facts | tables(rows, [one.scene for one in frames.tuples])
    report["pictures"] = sorted(str(p.relative_to(job.out)) for p in job.out.glob("pictures/*.jpg"))
    write_tables(report, job.out)
    return report


def _frames(job: Benchmark) -> FrameList:
    """The kept list, if it is of the same protocol, data set and request; else a new one, which is kept."""
    file = job.out / "frames.json"
    asked = {
        "rule": job.protocol.rule(),
        "data_set": str(job.reading),
        "partial": job.partial,
        "most": job.most,
        "perceptual": job.perceptual,
    }
    kept = read_json(file)
    if kept and kept["asked"] != _plain(asked):
        raise ConfigError(
            f"{job.out} holds results of {kept['list']['name']} under other settings: name another --out, or "
            "delete it"
        )
    if kept:
        return FrameList.from_json(kept["list"])
    drawn = frame_list(job.protocol, job.reading, job.root, partial=job.partial, most=job.most)
    write_json(file, {"asked": asked, "list": drawn.to_json()})
    return drawn


def _plain(data: dict[str, Any]) -> Any:
    """As JSON gives it back: tuples as lists."""
    return json.loads(json.dumps(data))


def _checked(job: Benchmark, frames: FrameList, scenes: _Scenes) -> dict[str, str]:
    """Each scene's verdict; kept, so that it is looked at once.

    Raises:
        SageError: a scene that does not agree with itself, unless ``unchecked``.
    """
    file = job.out / "checks.json"
    verdicts: dict[str, str] = read_json(file)
    for name in dict.fromkeys(one.scene for one in frames.tuples):
        if name in verdicts:
            continue
        found = check_scene(scenes[name])
        if not found.sound and not job.unchecked:
            raise SageError(
                f"{name} below {job.root} does not agree with itself: {found.verdict()}. Nothing was "
                f"measured; `sage datasets check {job.reading} {job.root}` says more, --unchecked measures "
                "all the same",
                reason=Reason.QUALITY_GATE,
            )
        verdicts[name] = found.verdict()
        write_json(file, verdicts)
    return verdicts


def _row_files(job: Benchmark, model: _Model, frames: FrameList) -> list[Path]:
    folder = job.out / "rows" / model.folder
    return [folder / f"{number:05d}.json" for number in range(len(frames.tuples))]


def _measure(
    job: Benchmark,
    model: _Model,
    frames: FrameList,
    scenes: _Scenes,
    progress: Progress,
    before: int,
    models: int,
) -> None:
    """One model on all tuples that it has no figures of."""
    files = _row_files(job, model, frames)
    files[0].parent.mkdir(parents=True, exist_ok=True)
    missing = [number for number, file in enumerate(files) if not file.exists()]
    if not missing:
        return
    network = _loaded(job, model)
    novel = _novel_views(job, network)
    for number in missing:
        one = frames.tuples[number]
        views = scenes.views(one)
        try:
            figures, prediction = measured(
                network, views, len(one.inputs), job.protocol, novel, job.threads
            )
        except SageError as error:
            raise SageError(
                f"{model.label} on {views.name}: {error}", reason=error.reason
            ) from error
        if number < job.pictures:
            _draw(job, model, number, prediction)
        write_json(files[number], {"tuple": asdict(one), "name": views.name, "figures": figures})
        progress(f"{model.label}: {views.name}", before + number + 1, models * len(files))


def _loaded(job: Benchmark, model: _Model) -> GeometricModel:
    if job.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda, but there is no CUDA device here")
    auto = "cuda" if torch.cuda.is_available() else "cpu"
    return load_model(model.weights).to(auto if job.device == "auto" else job.device).eval()


def _novel_views(job: Benchmark, model: GeometricModel) -> NovelViews:
    perceptual = load_perceptual(
        job.perceptual, job.perceptual_weights, setting="evaluate.perceptual"
    )
    return NovelViews(None if perceptual is None else perceptual.to(model.device), job.perceptual)


def _draw(job: Benchmark, model: _Model, number: int, prediction: Prediction) -> None:
    folder = job.out / "pictures"
    folder.mkdir(exist_ok=True)
    for kind, image in _sheets(prediction):
        save(image, folder / f"{number:05d}-{kind}-{model.folder}.jpg")


def _sheets(prediction: Prediction) -> Iterator[tuple[str, Any]]:
    yield "clouds", cloud_sheet([prediction])
    yield "views", tuple_sheet([prediction])
