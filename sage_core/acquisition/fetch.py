"""Fetching one video from the network: yt-dlp in a guarded child, retried by the class of its error."""

from __future__ import annotations

import random
import shutil
import time
import urllib.request
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sage_core.acquisition.credentials import redacted, with_login
from sage_core.acquisition.failures import Failure
from sage_core.acquisition.hosts import HostGate, HostGuard
from sage_core.acquisition.policy import RefusedError, refused_url
from sage_core.config.acquire import AcquireConfig
from sage_core.errors import SandboxError, SourceError
from sage_core.sandbox import Limits, call
from sage_core.types import Reason

_CHILD = "sage_core.acquisition.child"
IMPORTS = (_CHILD, "yt_dlp")
"""What every download's child needs."""
_MEMORY_MB = 1024
_RETRIED = (Reason.TRANSIENT, Reason.TRUNCATED)
_LISTING_S = 600.0


@dataclass(frozen=True)
class Download:
    """A fetched file, not yet looked into, and what the site says of it (title, uploader, duration, …)."""

    file: Path
    info: dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """One video of a playlist or channel."""

    url: str
    title: str | None
    duration_s: float | None


def fetch_url(
    url: str,
    folder: Path,
    config: AcquireConfig,
    gate: HostGate,
    *,
    seed: int = 0,
    cache: Path | None = None,
    forgotten: Collection[str] = (),
) -> Download:
    """Download a video's pictures into ``folder``, with further attempts after passing faults.

    Parts that arrived are kept between attempts and gone on from. ``cache`` is where yt-dlp may keep
    what it learnt of a site. ``seed`` draws the jitter of the pauses. ``forgotten``: hashes of uploaders of
    whom nothing is wanted.

    Raises:
        RefusedError: ``acquire.policy`` does not allow it, which the site's facts show before the download.
        SourceError: see :class:`~sage_core.types.Reason`; ``blocked`` when ``gate`` is closed.
    """
    limits = Limits(config.download_timeout_s, memory_mb=_MEMORY_MB)
    answer = _attempts(
        url, "fetch", folder, config, gate, limits, seed=seed, cache=cache, forgotten=forgotten
    )
    return Download(folder / answer["file"], answer["info"])


def list_url(
    url: str, folder: Path, config: AcquireConfig, gate: HostGate, *, cache: Path | None = None
) -> list[Entry] | None:
    """The videos of a playlist or channel, at most ``max_entries``; None where the URL is one video.

    Raises:
        SourceError: as :func:`fetch_url`.
    """
    refusal = refused_url(url, config.policy)
    if refusal is not None:
        raise RefusedError(refusal)
    limits = Limits(min(_LISTING_S, config.download_timeout_s), memory_mb=_MEMORY_MB)
    answer = _attempts(url, "expand", folder, config, gate, limits, cache=cache)
    if answer["entries"] is None:
        return None
    return [Entry(e["url"], e["title"], e["duration"]) for e in answer["entries"]]


def _attempts(
    url: str,
    function: str,
    folder: Path,
    config: AcquireConfig,
    gate: HostGate,
    limits: Limits,
    *,
    seed: int = 0,
    cache: Path | None = None,
    forgotten: Collection[str] = (),
) -> dict[str, Any]:
    """One answer from the child, or the last attempt's error."""
    proxies = _proxies(config)
    guard = HostGuard(config.allow_hosts, proxies)
    settings = _settings(config, guard.is_own(url), folder, cache)
    settings["forgotten"] = sorted(forgotten)
    address = with_login(url, config.netrc_file)
    arguments = {"url": address, "folder": str(folder), "settings": settings, "proxies": proxies}

    def attempt() -> dict[str, Any]:
        gate.check(url)
        if gate.room is not None:
            gate.room.check_open(url)
            settings["room"] = gate.room.left().to_json()
        guard.check(url)
        return _ask(f"{_CHILD}:{function}", url, arguments, limits, gate)

    return _retried(attempt, _pauses(config, f"{seed}:{url}"))


def _retried(attempt: Callable[[], dict[str, Any]], pauses: Iterator[float]) -> dict[str, Any]:
    while True:
        try:
            return attempt()
        except SourceError as error:
            pause = next(pauses, None) if error.reason in _RETRIED else None
            if pause is None:
                raise
        time.sleep(pause)


def _ask(
    function: str, url: str, arguments: dict[str, Any], limits: Limits, gate: HostGate
) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = call(function, arguments, limits, imports=IMPORTS)
    except SandboxError as error:
        retryable = error.reason is Reason.TIME_LIMIT
        message = redacted(f"{url}: {error}")
        raise SourceError(message, reason=error.reason, retryable=retryable) from error
    if "failure" not in answer:
        gate.served(url)
        return answer
    failure = Failure(**answer["failure"])
    if failure.reason == Reason.BLOCKED:
        gate.refused(url, failure.message, wall=failure.wall)
    elif failure.reason != Reason.TRANSIENT:
        gate.served(url)
    found = failure.to_error()
    if gate.room is not None and failure.reason in (Reason.DISK_FULL, Reason.QUOTA):
        gate.room.close(found)
    raise found


def _pauses(config: AcquireConfig, seed: str) -> Iterator[float]:
    """Doubling pauses, each drawn between a half and one and a half of its length."""
    draw = random.Random(seed)
    for attempt in range(config.retries):
        yield config.retry_wait_s * 2**attempt * draw.uniform(0.5, 1.5)


def _proxies(config: AcquireConfig) -> list[str]:
    if config.proxy is not None:
        return [config.proxy] if config.proxy else []
    found = urllib.request.getproxies()
    return sorted(url for scheme, url in found.items() if scheme in ("http", "https", "all"))


def _settings(config: AcquireConfig, own: bool, folder: Path, cache: Path | None) -> dict[str, Any]:
    """What the child is told: the section's fields, without pauses for one's own hosts."""
    told = config.model_dump(mode="json")
    if own:
        told.update(sleep_s=0.0, max_sleep_s=0.0, sleep_requests_s=0.0)
    told["cookies_file"] = _own_cookies(config.cookies_file, folder)
    told["cache_dir"] = str(cache) if cache else None
    return told


def _own_cookies(file: str | None, folder: Path) -> str | None:
    """A private copy: yt-dlp writes its cookie jar back, and several downloads run at once."""
    if file is None:
        return None
    try:
        private = folder.with_name(folder.name + ".cookies")
        shutil.copyfile(Path(file).expanduser(), private)
        private.chmod(0o600)
    except OSError as error:
        raise SourceError(
            f"acquire.cookies_file = {file!r} cannot be read: {error.strerror}",
            reason=Reason.BAD_CONFIG,
        ) from error
    return str(private)
