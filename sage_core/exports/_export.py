"""One export: unit by unit into a hidden folder beside the target, which takes its name when all is there."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sage_core.errors import SageError
from sage_core.exports._attribution import ATTRIBUTION, attribution_table
from sage_core.exports._colmap import write_colmap
from sage_core.exports._nerfstudio import write_nerfstudio
from sage_core.exports._parquet import card, write_parquet
from sage_core.exports._re10k import write_camera_file
from sage_core.exports._scene import Scene, appearing
from sage_core.exports._webdataset import write_tar
from sage_core.shards import ShardReader
from sage_core.types import Reason

FORMS = ("re10k", "colmap", "nerfstudio", "webdataset", "huggingface")
_VERSION = 1
_STATE = ".export.json"
Tell = Callable[[int, int], None]


@dataclass(frozen=True)
class Export:
    """What was written: clips and frames; clips left out, each with the reason."""

    clips: int
    frames: int
    left_out: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Part:
    """What is written in one go: the scenes, and the file or folder that is there when it is done."""

    scenes: Sequence[Scene]
    target: Path


def export(
    shards: Mapping[Path, Sequence[str]],
    form: str,
    out: Path,
    tell: Tell = lambda _done, _all: None,
) -> Export:
    """Write the named clips of shards (by frames file) in a form into the folder ``out``.

    The folder appears whole. An export that was killed goes on where it was, if it is asked for the same
    again. The same clips give the same bytes. ``tell`` is given the parts done, and all.

    Raises:
        SageError: no such form, nothing to export, ``out`` is there already.
        ShardError: a shard that cannot be read.
    """
    if form not in FORMS:
        raise SageError(f"no form {form!r}: there are {', '.join(FORMS)}", reason=Reason.BAD_CONFIG)
    if not any(shards.values()):
        raise SageError(
            "there is no clip to export: run `sage assemble` first", reason=Reason.NO_DATA
        )
    if out.exists():
        raise SageError(f"{out} is there already: name a new folder", reason=Reason.BAD_CONFIG)
    work = _begun(shards, form, out)
    parts = list(_parts(shards, form, work))
    left_out: dict[str, str] = {}
    for number, part in enumerate(parts):
        tell(number, len(parts))
        if not part.target.exists():
            left_out |= _write(form, part, work)
    done = _finish(parts, form, work, left_out)
    work.rename(out)
    tell(len(parts), len(parts))
    return done


def _begun(shards: Mapping[Path, Sequence[str]], form: str, out: Path) -> Path:
    """The hidden folder: gone on with if it was begun for the very same, else begun anew."""
    work = out.with_name(f".{out.name}.partial")
    content = [(p.name, p.stat().st_size, sorted(clips)) for p, clips in sorted(shards.items())]
    text = json.dumps([_VERSION, form, content])
    key = {"key": hashlib.sha256(text.encode()).hexdigest()}
    state = work / _STATE
    if not state.exists() or json.loads(state.read_text()) != key:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        with appearing(state) as partial:
            partial.write_text(json.dumps(key))
    return work


def _parts(shards: Mapping[Path, Sequence[str]], form: str, work: Path) -> Iterator[_Part]:
    """A part a clip; of the forms that are packed, a part a shard."""
    full = [(path, clips) for path, clips in sorted(shards.items()) if clips]
    for number, (path, clips) in enumerate(full):
        reader = ShardReader([path])
        scenes = [Scene(reader, clip) for clip in sorted(clips)]
        if form == "webdataset":
            yield _Part(scenes, work / f"sage-{number:06d}.tar")
        elif form == "huggingface":
            name = f"train-{number:05d}-of-{len(full):05d}.parquet"
            yield _Part(scenes, work / "data" / name)
        else:
            suffix = ".txt" if form == "re10k" else ""
            yield from (_Part([scene], work / f"{scene.name}{suffix}") for scene in scenes)


def _write(form: str, part: _Part, work: Path) -> dict[str, str]:
    """Write one part; returns the scenes that have none in this form, with the reason."""
    if form == "webdataset":
        write_tar(part.scenes, part.target)
    elif form == "huggingface":
        write_parquet(part.scenes, part.target)
    for scene in part.scenes:
        if form == "colmap":
            write_colmap(scene, work)
        elif form == "nerfstudio":
            write_nerfstudio(scene, work)
        elif form == "re10k" and (why := write_camera_file(scene, work)):
            return {scene.name: why}
    return {}


def _finish(parts: Sequence[_Part], form: str, work: Path, left_out: Mapping[str, str]) -> Export:
    """The table of who made it, and what else stands beside the parts."""
    scenes = [scene for part in parts for scene in part.scenes if scene.name not in left_out]
    frames = sum(scene.info.n_frames for scene in scenes)
    if not scenes:
        shutil.rmtree(work)
        why = "; ".join(sorted(set(left_out.values())))
        raise SageError(f"no clip can be exported as {form}: {why}", reason=Reason.NO_DATA)
    with appearing(work / ATTRIBUTION) as file:
        file.write_bytes(attribution_table(scenes))
    if form == "huggingface":
        with appearing(work / "README.md") as file:
            file.write_text(card(len(scenes), frames))
    (work / _STATE).unlink()
    return Export(len(scenes), frames, dict(left_out))
