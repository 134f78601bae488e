"""Logins in URLs: not taken from sources, and not shown where one comes up in a message."""

from __future__ import annotations

import netrc
import re
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from sage_core.errors import SourceError
from sage_core.types import Reason

_LOGIN = re.compile(r"(?<=://)[^/?#\s'\"@]*(?:@[^/?#\s'\"@]*)*(?=@)")
HIDDEN = "***"


def redacted(text: str) -> str:
    """The text with ``***`` in place of the login of every URL in it."""
    return _LOGIN.sub(HIDDEN, text) if "@" in text else text


def with_login(url: str, netrc_file: str | None) -> str:
    """The URL with the login that the file holds for its host, for the process that fetches it alone.

    Raises:
        SourceError: the file cannot be read (``bad_config``).
    """
    if netrc_file is None:
        return url
    parts = urlsplit(url)
    try:
        found = netrc.netrc(str(Path(netrc_file).expanduser())).hosts.get(parts.hostname or "")
    except (OSError, netrc.NetrcParseError, UnicodeDecodeError) as error:
        raise SourceError(
            f"acquire.netrc_file = {netrc_file!r} cannot be read: {type(error).__name__}",
            reason=Reason.BAD_CONFIG,
        ) from error
    if found is None:
        return url
    login = f"{quote(found[0], safe='')}:{quote(found[2] or '', safe='')}"
    return urlunsplit(parts._replace(netloc=f"{login}@{parts.netloc}"))


def has_login(url: str) -> bool:
    """Whether a URL names a user or a password."""
    try:
        parts = urlsplit(url)
        return parts.username is not None or parts.password is not None
    except ValueError:
        return redacted(url) != url
