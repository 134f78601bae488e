"""The folder of pulled weights: a sub-folder each, with the files and a record of where they are from."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from sage_core.errors import CheckpointError, ConfigError, SourceError
from sage_core.hub._download import Progress, download
from sage_core.hub._published import PUBLISHED, PublishedModel, published, shipped
from sage_core.types import Reason

_MARGIN = 1.01
"""How much larger than the published size a file may be, where that is known."""
_LIMIT_BYTES = 16 << 30
_LIMIT_BESIDE_BYTES = 1 << 20
_RECORD = "record.json"
_CHECKSUMS = "checksums.json"


@dataclass(frozen=True)
class Record:
    """Where pulled weights come from, and that their licence was accepted."""

    name: str
    file: str
    url: str
    sha256: str
    size_bytes: int
    licence: str
    trusted_on_first_use: bool
    """True where nobody had said what the checksum should be."""


def models_folder() -> Path:
    """Where pulled weights live: ``SAGE_MODELS``, or a folder of the user's cache."""
    said = os.environ.get("SAGE_MODELS")
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(said) if said else Path(cache) / "sage" / "models"


def pulled(name: str) -> Path | None:
    """The weights file of a published model, if it is here."""
    record = record_of(name)
    path = models_folder() / name / record.file if record else None
    return path if path and path.is_file() else None


def record_of(name: str) -> Record | None:
    """What is known of a pulled model, or None."""
    try:
        return Record(**json.loads((models_folder() / name / _RECORD).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def pull(
    name: str,
    *,
    licence_accepted: bool,
    url: str | None = None,
    progress: Progress = lambda done, total: None,
) -> Record:
    """Fetch a published model, unless it is here; go on where an earlier call was cut off.

    Args:
        url: a mirror of the weights file; what belongs beside it is fetched from beside it.

    Raises:
        ConfigError: no such name, or its licence was not accepted.
        SourceError: cannot be fetched; see :func:`~sage_core.hub._download.download`.
        CheckpointError: what came is not the file that was published, or no weights at all.
    """
    model = published(name)
    if not licence_accepted:
        raise ConfigError(f"{model.notice()}. Accept it with --accept-licence")
    if (record := record_of(name)) and pulled(name):
        return record
    model = replace(model, url=_address(model, url))
    if model.gated and url is None:
        raise SourceError(
            f"{name} is given out after a login only: ask for it at {model.page}, and give the path of "
            "the file as adapt.base",
            reason=Reason.BLOCKED,
        )
    folder = models_folder() / name
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        return _fetched(model, folder, progress)


def _address(model: PublishedModel, url: str | None) -> str:
    """The address asked for, or the published one on the mirror that ``SAGE_MODELS_MIRROR`` names."""
    mirror = os.environ.get("SAGE_MODELS_MIRROR", "").rstrip("/")
    return url or (model.url.replace("https://huggingface.co", mirror, 1) if mirror else model.url)


def _fetched(model: PublishedModel, folder: Path, progress: Progress) -> Record:
    limit = round(model.size_bytes * _MARGIN) if model.size_bytes else _LIMIT_BYTES
    fresh = folder / f".{model.file}.fetched"
    base = model.url.rpartition("/")[0]
    for name in model.beside:
        download(
            f"{base}/{name}",
            folder / name,
            limit_bytes=_LIMIT_BESIDE_BYTES,
            progress=lambda done, total: None,
        )
    if not fresh.exists():  # left by a process that died while it checked
        download(model.url, fresh, limit_bytes=limit, progress=progress)
    try:
        check_whole(fresh, model.file)
        record = _checked(model, fresh)
        fresh.replace(folder / model.file)
    finally:
        fresh.unlink(missing_ok=True)
    _write(folder / _RECORD, asdict(record))
    return record


def _checked(model: PublishedModel, file: Path) -> Record:
    found, known = sha256_of(file), model.sha256 or _remembered(model.name)
    if known is not None and found != known:
        raise CheckpointError(
            f"{model.url} has the checksum {found}, where {known} was expected: it is not the file that "
            f"{'was published' if model.sha256 else 'was fetched before'}, and is thrown away. If the "
            f"publisher replaced it on purpose, remove {model.name} from {models_folder() / _CHECKSUMS}"
        )
    if model.sha256 is None:
        _remember(model.name, found)
    return Record(
        model.name,
        model.file,
        model.url,
        found,
        file.stat().st_size,
        model.licence,
        trusted_on_first_use=known is None,
    )


def check_whole(file: Path, name: str) -> None:
    """Whether a file is what its name says, from its head and its size, without trusting it.

    Raises:
        CheckpointError: no weights, or not all of them.
    """
    whole = _whole_safetensors(file) if name.endswith(".safetensors") else zipfile.is_zipfile(file)
    if not whole:
        raise CheckpointError(
            f"what was fetched as {name} is no weights file, or not all of one ("
            f"{file.stat().st_size:,} bytes, beginning with {file.open('rb').read(16)!r}): it is thrown "
            "away; look at the address in a browser"
        )


def _whole_safetensors(file: Path) -> bool:
    with file.open("rb") as data:
        length = int.from_bytes(data.read(8), "little")
        if not 0 < length <= 100 << 20:
            return False
        try:
            header = json.loads(data.read(length))
            ends = [t["data_offsets"][1] for k, t in header.items() if k != "__metadata__"]
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            return False
    return bool(file.stat().st_size == 8 + length + max(ends, default=0))


def weights_path(name_or_path: str | Path) -> Path:
    """The file that a name stands for: a path, weights that ship with SAGE, or pulled ones.

    ``NAME:FILE``, which says of what kind a file is, stands for the file.

    Raises:
        CheckpointError: no such file; for a published name the message says how to get it.
    """
    path, text = Path(name_or_path), str(name_or_path)
    if path.is_file():
        return path
    if "/" not in text and (found := shipped(text)):
        return found
    if text in {entry.name for entry in PUBLISHED}:
        if here := pulled(text):
            return here
        raise CheckpointError(
            f"the weights of {text} are not here: `sage models pull {text}` fetches them, once their "
            f"licence ({published(text).licence}) is accepted"
        )
    kind, colon, rest = text.partition(":")
    if colon and kind.isidentifier():
        return weights_path(rest)
    raise CheckpointError(
        f"no weights file {path}: give a .safetensors or .pth file, mini, or a name from "
        "`sage models list`"
    )


def sha256_of(path: Path) -> str:
    """Checksum of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remembered(name: str) -> str | None:
    try:
        known = json.loads((models_folder() / _CHECKSUMS).read_text())
    except (OSError, ValueError):
        return None
    return str(known[name]) if name in known else None


def _remember(name: str, checksum: str) -> None:
    path = models_folder() / _CHECKSUMS
    try:
        known = json.loads(path.read_text())
    except (OSError, ValueError):
        known = {}
    _write(path, {**known, name: checksum})


def _write(path: Path, data: object) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n")
    partial.replace(path)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder; the operating system lets go of it when this process dies.

    Raises:
        SourceError: another process holds it.
    """
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SourceError(
                f"another process is fetching into {folder}: wait for it",
                reason=Reason.TRANSIENT,
                retryable=True,
            ) from error
        yield
