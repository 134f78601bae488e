"""All that one training run needs to know, as one JSON file."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import ValidationError

from sage_core.config._base import Section, setting
from sage_core.config.adapt import AdaptConfig
from sage_core.errors import ConfigError


class DataSet(Section):
    """One source of video samples: shard files that are drawn from together."""

    name: str = setting("videos", "What metrics and messages call it.")
    shards: tuple[str, ...] = setting((), "Folders of shards, or files of either kind.")


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
            return cls.model_validate_json(path.read_text())
        except OSError as error:
            raise ConfigError(
                f"cannot read the training settings {path}: {error.strerror}"
            ) from error
        except ValidationError as error:
            raise ConfigError(f"{path}: {error}") from error

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return Path(self.out)

    def fingerprint(self) -> str:
        """Sixteen hex digits over all that decides the run's result."""
        inputs = self.inputs or "\n".join(_described(path) for path in self._input_files())
        text = f"{self.adapt.result_hash()}:{self.seed}:{inputs}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _input_files(self) -> list[Path]:
        files = [Path(path) for data in self.datasets for path in data.shards]
        return files + ([Path(self.adapt.weights)] if self.adapt.weights else [])


def _described(path: Path) -> str:
    return f"{path.name} {path.stat().st_size if path.exists() else 'absent'}"
