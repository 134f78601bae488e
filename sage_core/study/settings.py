"""Settings of a study, as one YAML file."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError, field_validator

from sage_core.config import SageConfig, Section, setting
from sage_core.config._load import problems
from sage_core.errors import ConfigError
from sage_core.study.variants import FIRST, VARIANTS, Variant, merged

PRESETS = ("mini",)


class StudySettings(Section):
    """What is compared, with what budget, on what."""

    shards: tuple[str, ...] = setting(
        (),
        "Folders of the shards that the pipeline mined; every variant but `labels` trains on them.",
    )
    seeds: tuple[int, ...] = setting((0, 1, 2), "One run of every variant for each.", min_length=1)
    variants: tuple[str, ...] = setting(FIRST, "Names of variants, in the order in which they run.")
    adapt: dict[str, Any] = setting(
        {}, "Section adapt, common to all variants: base, steps, optimizer, …"
    )
    evaluate: dict[str, Any] = setting(
        {}, "Section evaluate: domains and data sets, tuples, views."
    )
    lr: tuple[float, ...] = setting(
        (),
        "Learning rates to choose from: each variant runs with all of them at the first seed and keeps the "
        "one that is best on `choice`; empty for that of `adapt`.",
    )
    choice: str = setting(
        "world-choice", "Test set that learning rates are chosen on, and nothing else."
    )
    wall_hours: float = setting(24.0, "Hours after which one run is given up.", gt=0)

    @field_validator("variants")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in VARIANTS:
                raise ValueError(f"no variant {name!r}: choose of {', '.join(VARIANTS)}")
        return names

    @classmethod
    def read(cls, path: Path) -> StudySettings:
        """From a YAML file, or from the preset of that name (``mini``).

        Raises:
            ConfigError: unreadable, or a field is unknown or out of bounds.
        """
        import yaml

        if str(path) in PRESETS and not path.is_file():
            path = Path(str(resources.files("sage_core.study") / "presets" / f"{path}.yaml"))
        try:
            return cls.model_validate(yaml.safe_load(path.read_text()) or {})
        except OSError as error:
            raise ConfigError(
                f"cannot read the study's settings {path}: {error.strerror}"
            ) from error
        except yaml.YAMLError as error:
            raise ConfigError(f"{path} is not valid YAML: {error}") from error
        except ValidationError as error:
            raise ConfigError(f"{path}: {problems(error, cls)}") from error

    def config(self, variant: Variant, lr: float | None = None) -> SageConfig:
        """The settings tree of a variant.

        Raises:
            ConfigError: the sections, with the variant's changes, do not go together.
        """
        changes = dict(variant.adapt) | ({} if lr is None else {"optimizer.lr": lr})
        if variant.budget != 1:
            changes["steps"] = self._share_of_steps(variant)
        tree = {"adapt": merged(self.adapt, changes), "evaluate": self.evaluate}
        try:
            return SageConfig.model_validate(tree)
        except ValidationError as error:
            raise ConfigError(f"variant {variant.name}: {problems(error)}") from error

    def _share_of_steps(self, variant: Variant) -> int:
        steps = self.adapt.get("steps")
        if not isinstance(steps, int):
            raise ConfigError(
                f"variant {variant.name} takes {variant.budget:.0%} of adapt.steps, which the study does not "
                "set: give the number of steps"
            )
        return max(1, round(steps * variant.budget))
