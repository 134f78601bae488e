"""One file over HTTP, whole or not at all: bounded, resumed where it was cut, every redirect looked at."""

from __future__ import annotations

import errno
import http.client
import ipaddress
import json
import os
import shutil
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urljoin, urlsplit

from sage_core.errors import SourceError, disk_full
from sage_core.types import Reason

Progress = Callable[[int, int | None], None]
"""Called with the bytes that are here and the bytes there will be, None where the server does not say."""

_CHUNK = 1 << 20
_TIMEOUT_S = 30.0
_ATTEMPTS = 4
_AGENT = "sage-models/1"


@dataclass(frozen=True)
class _Answer:
    """What a server said of the file it sends: where its first byte belongs, and the whole's size."""

    start: int
    total: int | None
    tag: str
    body: Any


def download(url: str, target: Path, *, limit_bytes: int, progress: Progress) -> None:
    """Fetch ``url`` into ``target``, going on from what an earlier call left beside it.

    Only https is spoken, with plain http for servers on this machine; redirects are held to the same.

    Raises:
        SourceError: forbidden or dead address, gone, too large, not weights but a web page, disk full, or
            cut off time and again (then the next call goes on).
    """
    check_url(url)
    part = target.with_name(f".{target.name}.part")
    for left in reversed(range(_ATTEMPTS)):
        try:
            _attempt(url, part, limit_bytes, progress)
            break
        except (
            http.client.HTTPException,
            TimeoutError,
            ConnectionError,
            ssl.SSLError,
            _Cut,
        ) as error:
            if left == 0:
                got = part.stat().st_size if part.exists() else 0
                raise SourceError(
                    f"{url} was cut off {_ATTEMPTS} times ({error}); {got:,} bytes are here. Run the same "
                    "command again to go on from there",
                    reason=Reason.TRANSIENT,
                    retryable=True,
                ) from error
    _notes(part).unlink(missing_ok=True)
    part.replace(target)


def check_url(url: str, *, came_from: str | None = None) -> None:
    """Refuse all but https, and http to this machine from this machine.

    Raises:
        SourceError: any other address.
    """
    parts = urlsplit(url)
    local = _is_local(parts.hostname) and (
        came_from is None or _is_local(urlsplit(came_from).hostname)
    )
    if parts.hostname and (parts.scheme == "https" or (parts.scheme == "http" and local)):
        return
    via = f", to which {came_from} redirects," if came_from else ""
    raise SourceError(
        f"{url}{via} is not fetched: weights come over https only (or http from this machine)",
        reason=Reason.FORBIDDEN_HOST,
    )


def _is_local(host: str | None) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


class _Cut(Exception):  # noqa: N818  it ends an attempt, and is told to nobody
    """The connection ended before the file did."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Any,
        newurl: str,
    ) -> urllib.request.Request | None:
        check_url(newurl, came_from=req.full_url)
        return super().redirect_request(req, fp, code, msg, headers, newurl)

    def http_error_302(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
    ) -> Any:
        # urllib looks at the scheme before redirect_request is asked, and its words name no address.
        if target := headers.get("location"):
            check_url(urljoin(req.full_url, target), came_from=req.full_url)
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def _opener(url: str) -> urllib.request.OpenerDirector:
    """One that speaks http and https and nothing else: no file, no ftp, no data. No proxy to this machine."""
    opener = urllib.request.OpenerDirector()
    proxies: dict[str, str] | None = {} if _is_local(urlsplit(url).hostname) else None
    for handler in (
        urllib.request.ProxyHandler(proxies),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener


def _attempt(url: str, part: Path, limit: int, progress: Progress) -> None:
    answer = _asked(url, part)
    with answer.body:
        _check_size(url, answer, limit, part.parent)
        _notes(part).write_text(json.dumps({"url": url, "tag": answer.tag}))
        have = answer.start
        with _writing(part, append=have > 0) as file:
            while chunk := answer.body.read(_CHUNK):
                have += len(chunk)
                if have > limit:
                    raise _too_large(url, have, limit)
                file.write(chunk)
                progress(have, answer.total)
            file.flush()
            os.fsync(file.fileno())
    if answer.total is not None and have < answer.total:
        raise _Cut(f"{have:,} of {answer.total:,} bytes came")


def _asked(url: str, part: Path) -> _Answer:
    headers = {"User-Agent": _AGENT, "Accept-Encoding": "identity"}
    have, tag = _left_over(url, part)
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": tag}
    try:
        reply = _opener(url).open(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_S)  # noqa: S310
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink(missing_ok=True)  # what is here is no beginning of what is there
            raise _Cut("the part that was here does not fit any more") from error
        raise _refused(url, error) from error
    except urllib.error.URLError as error:
        raise _unreachable(url, error) from error
    assert reply is not None
    _refuse_page(url, reply)
    start = have if reply.status == http.client.PARTIAL_CONTENT else 0
    if start and not reply.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
        reply.close()
        part.unlink(missing_ok=True)
        raise _Cut("the server went on somewhere else than asked")
    length = reply.headers.get("Content-Length")
    total = start + int(length) if length and length.isdecimal() else None
    etag = reply.headers.get("ETag", "")
    return _Answer(start, total, etag if not etag.startswith("W/") else "", reply)


def _left_over(url: str, part: Path) -> tuple[int, str]:
    """Bytes of an earlier attempt at the same file, and what the server called that version of it."""
    try:
        notes = json.loads(_notes(part).read_text())
        size = part.stat().st_size
    except (OSError, ValueError):
        return 0, ""
    if notes.get("url") != url or not notes.get("tag"):
        return 0, ""
    return size, str(notes["tag"])


def _notes(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _refuse_page(url: str, reply: Any) -> None:
    if reply.headers.get_content_type() == "text/html":
        reply.close()
        raise SourceError(
            f"{url} answers with a web page where weights should be: it may ask for a login or a click. "
            "Open it in a browser, save the file, and give its path as adapt.base",
            reason=Reason.BAD_SOURCE,
        )


def _check_size(url: str, answer: _Answer, limit: int, folder: Path) -> None:
    if answer.total is None:
        return
    if answer.total > limit:
        raise _too_large(url, answer.total, limit)
    needed, free = answer.total - answer.start, shutil.disk_usage(folder).free
    if needed > free:
        raise SourceError(
            f"{url} needs {needed:,} bytes more in {folder}, where {free:,} are free: free some, or set "
            "SAGE_MODELS to a folder elsewhere",
            reason=Reason.DISK_FULL,
            retryable=True,
        )


@contextmanager
def _writing(path: Path, *, append: bool) -> Iterator[IO[bytes]]:
    """A file opened for writing; a full disk becomes words."""
    try:
        with path.open("ab" if append else "wb") as file:
            yield file
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise SourceError(
            disk_full(f"fetching {path.name}"), reason=Reason.DISK_FULL, retryable=True
        ) from error


def _too_large(url: str, size: int, limit: int) -> SourceError:
    return SourceError(
        f"{url} has {size:,} bytes or more, {limit:,} are the most that is fetched for it: it is not the "
        "file that was published",
        reason=Reason.TOO_LARGE,
    )


def _refused(url: str, error: urllib.error.HTTPError) -> SourceError:
    code = error.code
    if code in (401, 403):
        hint = "it asks for a login: fetch it in a browser and give the file's path as adapt.base"
        return SourceError(f"{url} answers {code}: {hint}", reason=Reason.BLOCKED)
    if code in (404, 410):
        hint = "the publisher may have moved it: give its new address with --url"
        return SourceError(f"{url} answers {code}: {hint}", reason=Reason.NOT_FOUND)
    hint = "try again later, or another address with --url"
    return SourceError(f"{url} answers {code}: {hint}", reason=Reason.TRANSIENT, retryable=True)


def _unreachable(url: str, error: urllib.error.URLError) -> SourceError:
    return SourceError(
        f"{url} cannot be reached ({error.reason}): check the connection (HTTPS_PROXY is honoured), or give "
        "a mirror with --url",
        reason=Reason.TRANSIENT,
        retryable=True,
    )
