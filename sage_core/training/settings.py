"""All that one training run needs to know, as one JSON file."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from pydantic import ValidationError

from sage_core.config._base import Section, setting
from sage_core.config._load import problems
from sage_core.config.adapt import AdaptConfig
from sage_core.errors import ConfigError
from sage_core.hub import weights_path


class ShardPart(Section):
    """A shard and the clips of it that are drawn from."""

    path: str = setting(..., "A folder of shards, or one shard's frames-….parquet.")
    clips: tuple[str, ...] | None = setting(None, "Ids of its clips to draw from; empty for all.")


class DataSet(Section):
    """One source of video samples: clips that are drawn from in turn."""

    name: str = setting("videos", "What messages call it.")
    parts: tuple[ShardPart, ...] = setting((), "Its shards.")
    weight: float = setting(
        1.0, "Its share of the video samples, in proportion to the other data sets' weights.", gt=0
    )


class TrainSettings(Section):
    """Settings of one run, its inputs and its folder."""

    adapt: AdaptConfig
    datasets: tuple[DataSet, ...] = setting((), "Where video samples come from.")
    out: str = setting(..., "The run's folder.")
    seed: int = setting(0, "Seed of everything that draws at random.", ge=0, lt=2**31)
    inputs: str = setting(
        "",
        "Hash over shards and base weights, if the caller knows it; else names and sizes stand for them.",
    )

    @classmethod
    def read(cls, path: Path) -> TrainSettings:
        """From a JSON file.

        Raises:
            ConfigError: unreadable, or a field is unknown, missing or out of bounds.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise ConfigError(
                f"cannot read the training settings {path}: {error.strerror}"
            ) from error
        except ValidationError as error:
            raise ConfigError(f"{path}: {problems(error, cls)}") from error

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return Path(self.out)

    def fingerprint(self) -> str:
        """Sixteen hex digits over all that decides the run's result.

        With ``batchnorm_frozen`` off that includes ``micro_batch`` and how many processes train.
        """
        inputs = self.inputs or "\n".join(_described(path) for path in self._input_files())
        # Paths may differ from machine to machine; what is drawn, and how often, may not.
        drawn = [(d.weight, [sorted(p.clips or ("all",)) for p in d.parts]) for d in self.datasets]
        text = f"{self.adapt.result_hash()}:{self.seed}:{inputs}:{drawn}"
        if not self.adapt.batchnorm_frozen:
            # Statistics are gathered over what passes the model at once, on the first process.
            processes = os.environ.get("WORLD_SIZE", "1")
            text += f":{self.adapt.optimizer.micro_batch}:{processes}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _input_files(self) -> list[Path]:
        files = [Path(part.path) for data in self.datasets for part in data.parts]
        return [*files, weights_path(self.adapt.base)]


def _described(path: Path) -> str:
    return f"{path.name} {path.stat().st_size if path.exists() else 'absent'}"
