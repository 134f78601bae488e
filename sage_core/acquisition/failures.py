"""What yt-dlp's errors mean: gone, refused for good, blocked, or passing trouble."""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from sage_core.acquisition.credentials import redacted
from sage_core.acquisition.policy import POLICY_REASONS, Refusal, RefusedError
from sage_core.errors import SageError, SourceError
from sage_core.types import Figure, Reason

_WALL = (
    r"not a bot|captcha|unusual traffic|anti-bot|bot (check|detection)|"
    r"rate.?limited by|try again later|too many requests"
)
_SHORT = re.compile(r"bytes read, .*more expected|content too short|downloaded \d+ bytes, expected")
_BLOCKED = "The host refuses us; asking on would make it worse."
_LATER = "This may pass: run again with --retry failed."
_REFUSED = "The site refuses it; cookies may help."


@dataclass(frozen=True)
class Failure:
    """Why a download failed; ``wall`` when the site said that it takes us for a bot."""

    reason: str
    message: str
    retryable: bool = False
    wall: bool = False
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Of a rule that was not kept (see :class:`~sage_core.acquisition.policy.Refusal`)."""

    @classmethod
    def of(cls, error: SageError) -> Self:
        found = error.refusal.figures if isinstance(error, RefusedError) else {}
        figures = {name: asdict(figure) for name, figure in found.items()}
        return cls(error.reason.value, redacted(str(error)), error.retryable, figures=figures)

    def to_error(self) -> SourceError:
        """The error in the process that asked."""
        reason = Reason(self.reason)
        if reason in POLICY_REASONS:
            figures = {name: Figure(**figure) for name, figure in self.figures.items()}
            return RefusedError(Refusal(reason, self.message, figures))
        return SourceError(self.message, reason=reason, retryable=self.retryable)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def describe(error: BaseException, url: str) -> Failure:
    """The class of an exception that came out of yt-dlp."""
    causes = list(_causes(error))
    text = _clean(str(error))
    low = " ".join(_clean(str(cause)) for cause in causes).lower()
    reason, retryable, wall, advice = (
        _by_disk(causes)
        or _by_status(causes, low)
        or _by_transport(causes, low)
        or _by_text(low)
        or (Reason.UNAVAILABLE, True, False, "A newer yt-dlp may know better.")
    )
    message = redacted(f"{url}: {text.rstrip('.')}. {advice}".strip())
    return Failure(reason.value, message, retryable, wall)


_Class = tuple[Reason, bool, bool, str]
_GONE: _Class = (Reason.NOT_FOUND, False, False, "It is gone; there is nothing to retry.")
_TEXTS: tuple[tuple[str, _Class], ...] = (
    (_WALL, (Reason.BLOCKED, True, True, _BLOCKED)),
    (
        r"did not get any data blocks",
        (Reason.EMPTY_FILE, False, False, "The server sent nothing."),
    ),
    (
        r"file:// urls|unsupported url scheme",
        (Reason.BAD_SOURCE, False, False, "Only http and https are fetched."),
    ),
    (
        r"unsupported url:|requested format is not available|no video formats",
        (Reason.NOT_VIDEO, False, False, "No video was found there."),
    ),
    (r"live event will begin|premieres in", (Reason.LIVE_STREAM, False, False, "")),
    (
        r"private|removed|terminated|copyright|unavailable|not available|geo.?restrict|"
        r"your country|sign in|log ?in|members.only|premium|subscri|age.restrict|"
        r"confirm your age|drm|purchase|payment|no longer",
        (Reason.UNAVAILABLE, False, False, _REFUSED),
    ),
)


def _by_disk(causes: list[BaseException]) -> _Class | None:
    codes = (errno.ENOSPC, errno.EDQUOT)
    full = any(isinstance(c, OSError) and c.errno in codes for c in causes)
    full = full or any("[Errno 28]" in str(c) for c in causes)
    advice = "The disk is full: free some space and run again with --retry failed."
    return (Reason.DISK_FULL, True, False, advice) if full else None


def _by_status(causes: list[BaseException], low: str) -> _Class | None:
    """By the HTTP status where there was one."""
    status = next((int(s) for c in causes if (s := getattr(c, "status", None))), None)
    if status is None and (found := re.search(r"http error (\d{3})", low)):
        status = int(found[1])
    if status is None:
        return None
    if status in (404, 410):
        return _GONE
    if status == 429 or re.search(_WALL, low):
        return Reason.BLOCKED, True, status != 429, _BLOCKED
    if status in (408, 425) or status >= 500:
        return Reason.TRANSIENT, True, False, _LATER
    return Reason.UNAVAILABLE, False, False, _REFUSED


def _by_transport(causes: list[BaseException], low: str) -> _Class | None:
    """By the type of the innermost error, where the network was at fault."""
    names = {type(c).__name__ for c in causes}
    if _SHORT.search(low):
        return Reason.TRUNCATED, True, False, "The server sent less than it promised."
    if any(isinstance(c, socket.gaierror) and c.errno == socket.EAI_NONAME for c in causes):
        return Reason.NOT_FOUND, False, False, "No such host: check the name."
    if "CertificateVerifyError" in names:
        return Reason.UNAVAILABLE, False, False, "Its certificate cannot be trusted."
    if names & {"TransportError", "IncompleteRead", "ProxyError", "SSLError"} or any(
        isinstance(c, ConnectionError | TimeoutError | socket.gaierror) for c in causes
    ):
        return Reason.TRANSIENT, True, False, _LATER
    return None


def _by_text(low: str) -> _Class | None:
    """By what the site's extractor says."""
    for pattern, found in _TEXTS:
        if re.search(pattern, low):
            return found
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and all that it was made from, outermost first."""
    todo, seen = [error], set[int]()
    while todo:
        current = todo.pop(0)
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        inner = getattr(current, "exc_info", None) or (None, None)
        reasons = (
            inner[1],
            getattr(current, "cause", None),
            current.__cause__,
            current.__context__,
        )
        todo.extend(r for r in reasons if isinstance(r, BaseException))


def _clean(text: str) -> str:
    text = re.sub(r"\x1b\[[0-9;]*m|\r", "", text)
    text = re.sub(r";? *(please report this issue|see  https?://).*", "", text, flags=re.S | re.I)
    return re.sub(r"^(ERROR: )?(\[[\w:+.-]+\] )?", "", text).strip()
