"""From a source item to a checked local copy with its facts."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sage_core.acquisition.check import check_images, check_video, verdict_of
from sage_core.acquisition.child import kept_facts
from sage_core.acquisition.fetch import fetch_url
from sage_core.acquisition.hosts import HostGate
from sage_core.acquisition.policy import (
    Refusal,
    RefusedError,
    refused_facts,
    refused_file,
    refused_url,
)
from sage_core.acquisition.sources import SourceItem, SourceKind, image_files, spelled
from sage_core.config.acquire import AcquireConfig
from sage_core.config.policy import PolicyConfig
from sage_core.errors import SageError, SourceError
from sage_core.types import Judgement, Reason, Verdict
from sage_core.video.probe import Probe

_SUFFIXES = {
    "mov": (".mp4", ".mov", ".m4v", ".3gp", ".3g2"),
    "matroska": (".mkv", ".webm"),
    "avi": (".avi",),
    "mpegts": (".ts", ".m2ts", ".mts"),
    "mpeg": (".mpg", ".mpeg", ".vob"),
    "flv": (".flv",),
    "asf": (".wmv", ".asf"),
    "ogg": (".ogv",),
    "gif": (".gif",),
    "mxf": (".mxf",),
    "rm": (".rm",),
}
IMAGES = "images"
_MOST_FACTS_BYTES = 16 << 20


@dataclass(frozen=True)
class Obtained:
    """A judged copy: ``content`` is ``source.<suffix>`` or the folder ``images``, None if not accepted."""

    judgement: Judgement
    content: Path | None
    info: dict[str, Any]


def fetch_key(source: SourceItem, config: AcquireConfig) -> str:
    """Sixteen hex digits over what decides which bytes are fetched: a copy under the same key is reused."""
    wanted = [source.location, source.kind.value]
    if source.kind is SourceKind.URL:
        wanted.append(str(config.max_height_px))
    else:
        wanted.append(source.input_hash)
    return hashlib.sha256("\n".join(wanted).encode()).hexdigest()[:16]


def obtain(
    source: SourceItem,
    area: Path,
    config: AcquireConfig,
    gate: HostGate,
    *,
    seed: int = 0,
    cache: Path | None = None,
    forgotten: Collection[str] = (),
) -> Obtained:
    """Fetch or copy an item into the fresh folder ``area / "item"`` and check it.

    ``forgotten``: hashes of uploaders of whom nothing is wanted.

    Raises:
        OSError: the disk is full, say.
    """
    target = area / "item"
    target.mkdir()
    refusal = refused_source(source, config.policy)
    if refusal is not None:
        return Obtained(refusal.judgement(), None, {})
    try:
        if source.kind is SourceKind.URL:
            return _from_network(source, area, target, config, gate, seed, cache, forgotten)
        if source.kind is SourceKind.FILE:
            return _from_file(source, target, config, forgotten)
        if source.kind is SourceKind.IMAGES:
            return _from_images(source, target, config)
    except RefusedError as error:
        return Obtained(error.refusal.judgement(), None, {})
    except SageError as error:
        return Obtained(verdict_of(error.reason, str(error), retryable=error.retryable), None, {})
    reason = source.reason or Reason.BAD_SOURCE
    return Obtained(verdict_of(reason, source.problem, retryable=False), None, {})


def refused_source(source: SourceItem, policy: PolicyConfig) -> Refusal | None:
    """The rule that an item does not keep by where it lies, or None."""
    if source.kind is SourceKind.URL:
        return refused_url(source.location, policy)
    return refused_file(policy) if source.kind is not SourceKind.BAD else None


def refused_content(
    source: SourceItem, site: dict[str, Any], policy: PolicyConfig, forgotten: Collection[str] = ()
) -> Refusal | None:
    """The rule that an item does not keep by what is known of it (uploader, licence), or None."""
    if source.kind is SourceKind.URL or policy.apply_to_files:
        return refused_facts(site, policy, forgotten)
    return refused_facts(site, PolicyConfig(), forgotten)


def check_again(content: Path, info: dict[str, Any], config: AcquireConfig) -> Obtained:
    """Judge a copy that an earlier run left."""
    if content.is_dir():
        return Obtained(check_images(image_files(content), config), content, info)
    judgement, facts = check_video(content, config, info.get("site", {}).get("duration"))
    return Obtained(judgement, content, {**info, **_measured(facts)})


def _from_network(
    source: SourceItem,
    area: Path,
    target: Path,
    config: AcquireConfig,
    gate: HostGate,
    seed: int,
    cache: Path | None,
    forgotten: Collection[str],
) -> Obtained:
    folder = area / "download"
    folder.mkdir()
    got = fetch_url(
        source.location, folder, config, gate, seed=seed, cache=cache, forgotten=forgotten
    )
    judgement, facts = check_video(got.file, config, got.info.get("duration"))
    if judgement.reason in (Reason.TRUNCATED, Reason.DURATION_MISMATCH):
        judgement = verdict_of(
            judgement.reason, judgement.message, retryable=True, **judgement.figures
        )
    return _kept(source, judgement, facts, got.file, target, {"site": got.info})


def _from_file(
    source: SourceItem, target: Path, config: AcquireConfig, forgotten: Collection[str]
) -> Obtained:
    original = source.path
    site = _facts_beside(original)
    refusal = refused_content(source, site, config.policy, forgotten)
    if refusal is not None:
        raise RefusedError(refusal)
    try:
        size = original.stat().st_size
        if size > config.max_file_mb * 2**20:
            message = f"{size / 2**20:.0f} MiB, over acquire.max_file_mb = {config.max_file_mb}"
            return Obtained(Judgement.reject(Reason.TOO_LARGE, message), None, {})
        copy = target / "copy"
        _copy(original, copy, link=config.link_local_files)
    except OSError as error:
        raise _unreadable(source, error) from error
    judgement, facts = check_video(copy, config)
    info = {"file_name": spelled(original.name), **({"site": site} if site else {})}
    return _kept(source, judgement, facts, copy, target, info)


def _facts_beside(video: Path) -> dict[str, Any]:
    """What yt-dlp wrote of a video into the ``.info.json`` beside it, if it is there and is that."""
    file = video.with_suffix(".info.json")
    try:
        if file.stat().st_size > _MOST_FACTS_BYTES:
            return {}
        found = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return kept_facts(found) if isinstance(found, dict) else {}


def _from_images(source: SourceItem, target: Path, config: AcquireConfig) -> Obtained:
    folder = target / IMAGES
    folder.mkdir()
    try:
        originals = image_files(source.path)
        for original, name in zip(originals, _safe_names(originals), strict=True):
            _copy(original, folder / name, link=False)
    except OSError as error:
        raise _unreadable(source, error) from error
    judgement = check_images(image_files(folder), config)
    info = {"kind": IMAGES, "file_name": Path(source.location).name, "n_images": len(originals)}
    return Obtained(judgement, folder if judgement.verdict is Verdict.ACCEPTED else None, info)


def _kept(
    source: SourceItem,
    judgement: Judgement,
    facts: Probe | None,
    file: Path,
    target: Path,
    info: dict[str, Any],
) -> Obtained:
    """An accepted file under its final name, which no site or user has a say in."""
    info = {"kind": "video", **info, **_measured(facts)}
    if judgement.verdict is not Verdict.ACCEPTED or facts is None:
        return Obtained(judgement, None, info)
    content = target / f"source{_suffix(facts, source.location)}"
    file.rename(content)
    return Obtained(judgement, content, info)


def _measured(facts: Probe | None) -> dict[str, Any]:
    return {"probe": asdict(facts)} if facts else {}


def _suffix(facts: Probe, location: str) -> str:
    """By the measured container; the source's own suffix where it is one of that container's."""
    known = _SUFFIXES.get(facts.container, (".video",))
    own = Path(location.split("?")[0]).suffix.lower()
    if own in known:
        return own
    return ".webm" if facts.container == "matroska" and facts.codec in ("vp8", "vp9") else known[0]


def _copy(original: Path, target: Path, *, link: bool) -> None:
    if link:
        try:
            os.link(original.resolve(), target)
            return
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
                raise
    shutil.copyfile(original, target)


def _unreadable(source: SourceItem, error: OSError) -> OSError | SourceError:
    """A fault of the source; a full disk stays the OSError that it is."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return error
    gone = isinstance(error, FileNotFoundError)
    return SourceError(
        f"{source.source!r} cannot be read: {error.strerror}",
        reason=Reason.NOT_FOUND if gone else Reason.BAD_SOURCE,
    )


def _safe_names(files: list[Path]) -> list[str]:
    """File names of letters, digits, dot, dash and underscore, in the same order, each once."""
    if all(re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}", f.name) for f in files):
        return [f.name for f in files]
    return [f"{number:06d}{f.suffix.lower()}" for number, f in enumerate(files)]
