"""Running the grid of variants and seeds: what has its row is not run again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sage_core.config import SageConfig
from sage_core.errors import ConfigError, SageError
from sage_core.hub import sha256_of, weights_path
from sage_core.sandbox import Limits, call
from sage_core.study.pseudo import SHARD, write_pseudo_shard
from sage_core.study.settings import StudySettings
from sage_core.study.variants import BASE, VARIANTS, Variant
from sage_core.training import MinedClip, TrainSettings, launch, mixed
from sage_core.training.difficulties import known_difficulties
from sage_core.training.files import write_json
from sage_core.training.lock import run_lock
from sage_core.training.settings import DataSet, ShardPart
from sage_core.types import Reason

OnCell = Callable[["Cell", str], None]
_PSEUDO_SEED = 0


@dataclass(frozen=True)
class Cell:
    """One run of the grid. ``lr``: a candidate to choose from, or None for what was chosen or set."""

    variant: Variant
    seed: int
    lr: float | None = None

    def __str__(self) -> str:
        rate = "" if self.lr is None else f" lr {self.lr:g}"
        return f"{self.variant.name} seed {self.seed}{rate}"


class Study:
    """A grid in a folder: ``rows/`` holds a JSON file for every cell that has run, ``runs/`` the training.

    Args:
        settings: what is compared.
        out: the study's folder.

    Raises:
        ConfigError: shards that are not there, or settings that contradict.
    """

    def __init__(self, settings: StudySettings, out: Path) -> None:
        self.settings, self.out = settings, out
        self.clips = _clips(settings.shards)
        self._pseudo = out / "pseudo"
        self._inputs = self._hash_of_inputs()
        for name in settings.variants:
            settings.config(VARIANTS[name])

    def cells(self) -> list[Cell]:
        """Those whose rows make the table."""
        rates = {name: self.chosen_lr(VARIANTS[name]) for name in self.settings.variants}
        cells = []
        for name in self.settings.variants:
            seeds = self.settings.seeds[:1] if name == BASE else self.settings.seeds
            cells += [Cell(VARIANTS[name], seed, rates[name]) for seed in seeds]
        return cells

    def candidates(self) -> list[Cell]:
        """Those that a learning rate is chosen by."""
        names = [name for name in self.settings.variants if name != BASE]
        first = self.settings.seeds[0]
        return [Cell(VARIANTS[name], first, lr) for name in names for lr in self.settings.lr]

    def chosen_lr(self, variant: Variant) -> float | None:
        """The candidate with the smallest CD on the set to choose by; None while not all have run."""
        if not self.settings.lr or variant.name == BASE:
            return None
        found = []
        for lr in self.settings.lr:
            row = self.row(Cell(variant, self.settings.seeds[0], lr))
            if row is None:
                return None
            found.append((self._choice(row), lr))
        return min(found)[1]

    def _choice(self, row: dict[str, Any]) -> float:
        sets = {one["name"]: one["mean"] for one in row["sets"]}
        if self.settings.choice not in sets:
            raise ConfigError(
                f"learning rates are chosen on {self.settings.choice}, which is not among the test sets "
                f"{', '.join(sets)}: add it to `evaluate`, or name another as `choice`"
            )
        return float(sets[self.settings.choice]["cd"])

    def row(self, cell: Cell) -> dict[str, Any] | None:
        """What a cell came to, or None if it has not run."""
        path = self._row_path(cell)
        return json.loads(path.read_text()) if path.is_file() else None

    def run(self, jobs: int, on_cell: OnCell = lambda _cell, _state: None) -> list[str]:
        """Run what is missing, ``jobs`` cells at a time, candidates first.

        Returns:
            What went wrong, in words.

        Raises:
            RunHeldError: another process runs this study.
        """
        (self.out / "rows").mkdir(parents=True, exist_ok=True)
        with run_lock(self.out):
            problems = self._run_all(self.candidates(), jobs, on_cell)
            return problems or self._run_all(self.cells(), jobs, on_cell)

    def _run_all(self, cells: Iterable[Cell], jobs: int, on_cell: OnCell) -> list[str]:
        missing = [cell for cell in cells if self.row(cell) is None]
        problems = []
        with ThreadPoolExecutor(jobs) as pool:
            futures = {pool.submit(self._run_cell, cell, on_cell): cell for cell in missing}
            for future in as_completed(futures):
                error = future.exception()
                if error is not None and not isinstance(error, SageError):
                    raise error
                if error is not None:
                    on_cell(futures[future], "failed")
                    problems.append(f"{futures[future]}: {error}")
        return problems

    def _run_cell(self, cell: Cell, on_cell: OnCell) -> None:
        on_cell(cell, "trains")
        config = self.settings.config(cell.variant, cell.lr)
        weights, trained = self._trained(cell, config)
        on_cell(cell, "is measured")
        scores = self._measured(cell, config, weights)
        write_json(
            self._row_path(cell),
            {
                "variant": cell.variant.name,
                "seed": cell.seed,
                "lr": config.adapt.optimizer.lr,
                "clips": sum(len(part.clips or ()) for part in self._parts(cell.variant)),
                "trained": trained,
                **scores,
            },
        )
        on_cell(cell, "done")

    def _trained(self, cell: Cell, config: SageConfig) -> tuple[str, dict[str, Any] | None]:
        """Weights, and what the trainer says of the run; the base is not trained."""
        if cell.variant.name == BASE:
            return config.adapt.base, None
        parts = self._parts(cell.variant)
        if cell.variant.pseudo:
            write_pseudo_shard(self.settings.shards, self._pseudo, _PSEUDO_SEED)
            clips = tuple(clip for part in parts for clip in part.clips or ())
            parts = [ShardPart(path=str(self._pseudo / f"frames-{SHARD}.parquet"), clips=clips)]
        if not parts and config.adapt.regularisation.ratio:
            raise SageError(
                f"variant {cell.variant.name} trains on video and there is no clip: name shards",
                reason=Reason.NO_DATA,
            )
        settings = TrainSettings(
            adapt=config.adapt,
            datasets=_datasets(parts, config, cell.seed),
            out=str(self.out / "runs" / self._key(cell)),
            seed=cell.seed,
            inputs=self._inputs,
        )
        done = launch(settings, wall_s=self.settings.wall_hours * 3600)
        names = ("steps", "video_samples", "labelled_samples", "seconds", "losses", "skipped")
        return str(done.weights), {name: done.result[name] for name in names}

    def _measured(self, cell: Cell, config: SageConfig, weights: str) -> dict[str, Any]:
        job = {
            "models": {cell.variant.name: weights},
            "config": config.evaluate.model_dump(mode="json"),
            "sampling": config.adapt.sampling.model_dump(mode="json"),
            "rendering": config.adapt.rendering.model_dump(mode="json"),
            "held_out": [],
            "seed": 0,
            "out": str(self.out / "pictures" / self._key(cell)),
            "lists": str(self.out / "tuples"),
        }
        limits = Limits(
            wall_s=config.evaluate.wall_minutes * 60,
            memory_mb=config.evaluate.memory_mb,
            threads=config.evaluate.threads,
        )
        report = call("sage_core.evaluation.compare:compare_json", {"job": job}, limits)
        name = cell.variant.name
        sets = [
            {
                "name": s["name"],
                "protocol": s["protocol"],
                "mean": s["mean"][name],
                "rows": s["rows"][name],
            }
            for s in report["sets"]
        ]
        return {"sets": sets, "model": report["models"][name]}

    def _parts(self, variant: Variant) -> list[ShardPart]:
        """The clips that a variant may use: whole videos, in the order of their names."""
        videos = sorted({clip.partition("_")[0] for _, clip in self.clips})[: variant.scenes]
        parts: dict[str, list[str]] = {}
        for path, clip in self.clips:
            if clip.partition("_")[0] in videos:
                parts.setdefault(path, []).append(clip)
        return [ShardPart(path=path, clips=tuple(clips)) for path, clips in sorted(parts.items())]

    def _row_path(self, cell: Cell) -> Path:
        return self.out / "rows" / f"{self._key(cell)}.json"

    def _key(self, cell: Cell) -> str:
        """Name and hash of all that decides what a cell comes to."""
        config = self.settings.config(cell.variant, cell.lr)
        parts = [sorted(part.clips or ()) for part in self._parts(cell.variant)]
        seed = 0 if cell.variant.name == BASE else cell.seed
        text = json.dumps(
            [config.adapt.result_hash(), config.evaluate.result_hash(), seed, self._inputs, parts]
        )
        return f"{cell.variant.name}-{seed}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"

    def _hash_of_inputs(self) -> str:
        base = self.settings.config(VARIANTS[BASE]).adapt.base
        contents = [sha256_of(weights_path(base))]
        contents += [sha256_of(Path(path)) for path in sorted({path for path, _ in self.clips})]
        return hashlib.sha256(":".join(contents).encode()).hexdigest()[:16]


def _datasets(parts: Sequence[ShardPart], config: SageConfig, seed: int) -> tuple[DataSet, ...]:
    """One data set of all clips, or one for each class of difficulty that the variant mixes."""
    if not parts:
        return ()
    if config.adapt.mixing.difficulty is None:
        return (DataSet(parts=tuple(parts)),)
    clips = [MinedClip(clip, part.path) for part in parts for clip in part.clips or ()]
    return mixed(clips, config.adapt.mixing, known_difficulties(clips, config.adapt, seed))


def _clips(shards: Iterable[str]) -> list[tuple[str, str]]:
    """(frames file, clip) of every clip in these folders, sorted."""
    return sorted(found for folder in shards for found in _clips_of(Path(folder)))


def _clips_of(folder: Path) -> Iterator[tuple[str, str]]:
    from sage_core.shards import ShardReader
    from sage_core.shards.read import shard_files

    if not folder.exists():
        raise ConfigError(f"the study's shards {folder} are not there: run `sage assemble` first")
    for path in shard_files([folder]):
        for clip in ShardReader([path]).names:
            yield str(path), clip
