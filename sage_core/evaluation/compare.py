"""Base and adapted model side by side: one JSON file and a few pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sage_core.config.evaluate import EvaluateConfig
from sage_core.config.rendering import RenderingConfig
from sage_core.config.sampling import SamplingConfig
from sage_core.errors import ConfigError, SageError
from sage_core.evaluation.held_out import HeldOutPart, Rendering, held_out_samples, score_sample
from sage_core.evaluation.labelled import TestSet, predict, score_set, summary, test_sets
from sage_core.evaluation.pictures import cloud_sheet, render_sheet, save, tuple_sheet
from sage_core.hub import sha256_of, weights_path
from sage_core.losses import RenderingOptions, load_perceptual
from sage_core.models import GeometricModel, load_model
from sage_core.splatting import RasterConstants
from sage_core.types import Reason

LOWER_IS_BETTER = frozenset(
    {
        *("nd", "cd", "cd_median", "accuracy_m", "completeness_m", "error_normalised"),
        *("anchor_error", "target_lpips_alex", "target_lpips_vgg"),
    }
)


@dataclass(frozen=True)
class Comparison:
    """What is compared on what.

    Attributes:
        models: name -> weights, a file or a name that comes with SAGE; usually ``base`` and ``adapted``.
        rendering: the rasteriser's constants.
        held_out: clips that training never saw; none leaves the label-free measures out.
        out: folder of pictures and ``metrics.json``.
        lists: folder in which the frame lists of test tuples are kept frozen, or None.
        called: name -> what its weights are called in the report; by default their folder and file.
    """

    models: dict[str, str]
    config: EvaluateConfig
    sampling: SamplingConfig
    rendering: RenderingConfig
    held_out: list[HeldOutPart]
    seed: int
    out: Path
    lists: Path | None = None
    called: Mapping[str, str] = field(default_factory=dict)


def compare_json(job: dict[str, Any]) -> dict[str, Any]:
    """:func:`compare` with JSON in and out, for a child process; keys as :class:`Comparison`'s fields."""
    return compare(
        Comparison(
            models=job["models"],
            config=EvaluateConfig.model_validate(job["config"]),
            sampling=SamplingConfig.model_validate(job["sampling"]),
            rendering=RenderingConfig.model_validate(job["rendering"]),
            held_out=[HeldOutPart(p["path"], tuple(p["clips"])) for p in job["held_out"]],
            seed=job["seed"],
            out=Path(job["out"]),
            lists=Path(job["lists"]) if job.get("lists") else None,
            called=job.get("called", {}),
        )
    )


def compare(job: Comparison) -> dict[str, Any]:
    """Score all models on all test sets; writes ``metrics.json`` and pictures, returns the former.

    The answer: ``sets`` (per test set its name, protocol, ``mean`` per model, ``better`` (share of tuples
    in which the last model beats the first) and ``rows`` per tuple), ``held_out`` alike or None,
    ``pictures`` (file and caption), ``models``.

    Raises:
        SageError: nothing to evaluate on, broken data, weights that do not fit.
    """
    torch.set_num_threads(job.config.threads)
    device = _device(job.config)
    models = {name: load_model(path).to(device) for name, path in job.models.items()}
    size = _common_size(models)
    sets = test_sets(job.config, size, job.seed, job.lists)
    with_clips = bool(job.held_out) and job.config.held_out_samples > 0
    if not sets and not with_clips:
        raise SageError(
            "nothing to evaluate on: name RGB-D data (evaluate.rgbd), rooms (evaluate.rooms), or clips "
            "that are kept out of training (adapt.held_out)",
            reason=Reason.NO_DATA,
        )
    job.out.mkdir(parents=True, exist_ok=True)
    pictures: list[dict[str, str]] = []
    report = {
        "models": {name: _identified(w, job.called.get(name)) for name, w in job.models.items()},
        "image_px": size,
        "seed": job.seed,
        "sets": [_labelled(models, tests, size, job, pictures) for tests in sets],
        "held_out": _held_out(models, size, job, pictures) if with_clips else None,
        "pictures": pictures,
    }
    partial = job.out / ".metrics.partial"
    partial.write_text(json.dumps(report, indent=1))
    partial.replace(job.out / "metrics.json")
    return report


def _labelled(
    models: dict[str, GeometricModel],
    tests: TestSet,
    size: int,
    job: Comparison,
    pictures: list[dict[str, str]],
) -> dict[str, Any]:
    rows = {
        name: score_set(model, tests, size, job.config.threads) for name, model in models.items()
    }
    for number, make in enumerate(tests.tuples[: job.config.pictures]):
        views = make()
        predictions = [predict(model, views, size) for model in models.values()]
        names = ", then ".join(models)
        for kind, image, text in (
            ("views", tuple_sheet(predictions), "images, true depth; depth and error of"),
            ("clouds", cloud_sheet(predictions), "clouds from above, coloured by error:"),
        ):
            file = f"{_file_name(tests.name)}-{number}-{kind}.jpg"
            save(image, job.out / file)
            pictures.append({"file": file, "caption": f"{views.name}: {text} {names}"})
    return _part(tests.name, tests.protocol, rows)


def _held_out(
    models: dict[str, GeometricModel], size: int, job: Comparison, pictures: list[dict[str, str]]
) -> dict[str, Any]:
    samples = held_out_samples(
        job.held_out, job.sampling, job.config.held_out_samples, size, job.seed
    )
    rendering = _rendering(job, next(iter(models.values())).device)
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in models}
    for number, sample in enumerate(samples):
        scored = {name: score_sample(model, sample, rendering) for name, model in models.items()}
        for name, (figures, _) in scored.items():
            if figures:
                rows[name].append(figures)
        renders = [rendered for _, rendered in scored.values() if len(rendered)]
        if number < job.config.pictures and renders:
            file = f"held-out-{number}-renders.jpg"
            target = _bytes(sample.images[sample.context])
            save(render_sheet(target, [_bytes(r[0]) for r in renders]), job.out / file)
            caption = f"{sample.name}: a target view; rendered by {', then '.join(models)}"
            pictures.append({"file": file, "caption": caption})
    if not all(rows.values()):
        raise SageError(
            "the trajectories of the held-out clips carry no anchors", reason=Reason.TOO_FEW_ANCHORS
        )
    clips = sum(len(part.clips) for part in job.held_out)
    protocol = f"{clips} held-out clips/{job.sampling.n_context}+{job.sampling.n_targets}x{size}px"
    return _part("held-out", protocol, rows)


def _rendering(job: Comparison, device: torch.device) -> Rendering:
    network = job.config.perceptual
    perceptual = load_perceptual(
        network, job.config.perceptual_weights, setting="evaluate.perceptual"
    )
    constants = RasterConstants(**job.rendering.model_dump())
    return Rendering(
        RenderingOptions(constants=constants),
        None if perceptual is None else perceptual.to(device),
        network,
    )


def _part(name: str, protocol: str, rows: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    first, last = next(iter(rows.values())), list(rows.values())[-1]
    return {
        "name": name,
        "protocol": protocol,
        "tuples": len(first),
        "mean": {model: summary(one) for model, one in rows.items()},
        "better": {metric: _better(first, last, metric) for metric in first[0]},
        "rows": rows,
    }


def _better(first: list[dict[str, float]], last: list[dict[str, float]], metric: str) -> float:
    sign = -1 if metric in LOWER_IS_BETTER else 1
    gains = [sign * (b[metric] - a[metric]) for a, b in zip(first, last, strict=True)]
    return float(np.mean([gain > 0 for gain in gains]))


def _identified(weights: str, called: str | None) -> str:
    """Weights by name and content, not by where they lie: equal evaluations leave equal files."""
    path = weights_path(weights)
    named = f"{path.parent.name}/{path.name}" if Path(weights).is_file() else weights
    return f"{called or named} (sha256 {sha256_of(path)[:16]})"


def _common_size(models: dict[str, GeometricModel]) -> int:
    sizes = {name: model.image_size for name, model in models.items()}
    if len(set(sizes.values())) != 1:
        raise ConfigError(
            f"models of different image size cannot be compared tuple by tuple: {sizes}"
        )
    return next(iter(sizes.values()))


def _device(config: EvaluateConfig) -> torch.device:
    if config.device == "cpu" or (config.device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ConfigError("evaluate.device=cuda, but there is no CUDA device here")
    return torch.device("cuda")


def _bytes(image: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.asarray((image.permute(1, 2, 0).cpu() * 255 + 0.5).to(torch.uint8))


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in name)
