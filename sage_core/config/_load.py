"""Reading settings: preset, then file, then ``--set`` overrides, each checked with a helpful error."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from sage_core.config._tree import SageConfig
from sage_core.errors import ConfigError

PRESETS = ("demo", "mvdust3r", "vggt")


def preset_text(name: str) -> str:
    """The YAML of a preset."""
    if name not in PRESETS:
        raise ConfigError(f"no preset {name!r}: choose one of {', '.join(PRESETS)}")
    return (resources.files("sage_core.config") / "presets" / f"{name}.yaml").read_text()


def load_config(
    file: str | Path | None = None, overrides: Iterable[str] = (), preset: str | None = None
) -> SageConfig:
    """The tree after preset, file and overrides such as ``curate.min_duration_s=5``.

    ``file`` may name a preset instead of a path, and a file may begin from one with ``preset: demo``.

    Raises:
        ConfigError: an unknown key (with the nearest right one), a value out of bounds, bad YAML.
    """
    if file is not None and str(file) in PRESETS and not Path(file).is_file():
        preset, file = str(file), None
    layer = _read_yaml(Path(file)) if file is not None else {}
    preset = preset or layer.get("preset")
    tree: dict[str, Any] = {}
    if preset is not None:
        _merge(tree, _parse_yaml(preset_text(preset), f"preset {preset}"))
        tree["preset"] = preset
    _merge(tree, layer)
    for text in overrides:
        _merge(tree, _parse_override(text))
    return _validated(tree)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        return _parse_yaml(path.read_text(), str(path))
    except OSError as error:
        raise ConfigError(
            f"cannot read the settings file {path}: {error.strerror}. "
            f"Give a path, or one of the presets {', '.join(PRESETS)}"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"the settings file {path} is no UTF-8 text, so no YAML") from error


def _parse_yaml(text: str, where: str) -> dict[str, Any]:
    import yaml

    try:
        data = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} is not valid YAML: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{where} must hold a mapping such as 'curate: {{min_duration_s: 10}}'")
    return data


def _parse_override(text: str) -> dict[str, Any]:
    import yaml

    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set wants stage.key=value, got {text!r}")
    try:
        tree: Any = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {text!r}: the value is not valid YAML: {error}") from error
    for part in reversed(key.strip().split(".")):
        tree = {part: tree}
    return dict(tree)


def _merge(tree: dict[str, Any], layer: Mapping[str, Any]) -> None:
    for key, value in layer.items():
        if isinstance(value, Mapping) and isinstance(tree.get(key), dict):
            _merge(tree[key], value)
        else:
            tree[key] = dict(value) if isinstance(value, Mapping) else value


def _validated(tree: dict[str, Any]) -> SageConfig:
    try:
        return SageConfig.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(problems(error)) from error


def problems(error: ValidationError, model: type[BaseModel] = SageConfig) -> str:
    """What is wrong with the settings of a ``model``, each by its dotted name, in one line."""
    return "; ".join(_problem(dict(detail), model) for detail in error.errors())


def _problem(detail: dict[str, Any], model: type[BaseModel]) -> str:
    path = [str(part) for part in detail["loc"]]
    dotted = ".".join(path)
    if detail["type"] == "extra_forbidden":
        nearest = nearest_key(path, model)
        return f"unknown setting {dotted!r}" + (f": did you mean {nearest!r}?" if nearest else "")
    if (
        detail["type"] == "value_error"
    ):  # settings that contradict: the section's whole input says nothing
        return f"{dotted}: {detail['ctx']['error']}"
    if detail["type"] == "missing":
        return f"{dotted} is missing"
    if not path:
        return str(detail["msg"])
    return f"{dotted} = {detail['input']!r}: {detail['msg'].lower()}"


def nearest_key(path: list[str], model: type[BaseModel] = SageConfig) -> str | None:
    """The existing dotted key that is most like an unknown one, looked for in its section first."""
    keys = dotted_keys(model)
    section = ".".join(path[:-1])
    local = [key.rsplit(".", 1)[-1] for key in keys if key.rpartition(".")[0] == section]
    near = difflib.get_close_matches(path[-1], local, n=1, cutoff=0.6)
    if near:
        return f"{section}.{near[0]}" if section else near[0]
    anywhere = [key for key in keys if key.rsplit(".", 1)[-1] == path[-1]]
    if anywhere:
        return anywhere[0]
    near = difflib.get_close_matches(".".join(path), keys, n=1, cutoff=0.5)
    return near[0] if near else None


def dotted_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Every setting's and section's dotted name."""
    keys: list[str] = []
    for name, info in model.model_fields.items():
        keys.append(prefix + name)
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            keys.extend(dotted_keys(info.annotation, f"{prefix}{name}."))
    return keys
