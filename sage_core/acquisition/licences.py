"""Licences by one short name each, whatever words a site uses for them."""

from __future__ import annotations

import re

UNKNOWN = "unknown"

_NO_LICENCE = ("", "unknown", "none", "null")
_RESERVED = re.compile(r"all rights reserved|standard (youtube|vimeo)? ?licen[cs]e|copyright(ed)?$")
_PUBLIC = re.compile(r"public ?domain|no known copyright|government work|/publicdomain/mark")
_ZERO = re.compile(r"\bcc[ -]?0\b|/publicdomain/zero|public domain dedication")
_URL = re.compile(r"creativecommons\.org/licenses/([a-z+-]+)")
_CODE = re.compile(r"(?:cc[ -]?)?(by(?:-(?:nc|sa|nd))*)(?:[ -]?\d(?:\.\d)?)?$")
_WORDS = {"nc": r"non-? ?commercial", "sa": r"share ?-?alike", "nd": r"no-? ?deriv"}


def short_licence(text: str | None) -> str:
    """``cc-by-nc-sa`` and the like, ``cc0``, ``public-domain``, ``all-rights-reserved``, or ``unknown``.

    What yt-dlp's extractors report: YouTube's "Creative Commons Attribution license (reuse allowed)", Vimeo's
    "by-nc", URLs of Creative Commons, Flickr's and PeerTube's words.
    """
    low = " ".join((text or "").lower().split())
    if low in _NO_LICENCE:
        return UNKNOWN
    if _ZERO.search(low):
        return "cc0"
    if _PUBLIC.search(low):
        return "public-domain"
    if _RESERVED.search(low):
        return "all-rights-reserved"
    code = _URL.search(low) or _CODE.match(low)
    if code:
        return (
            _named(set(code[1].split("-")) - {"by"})
            if code[1] != "publicdomain"
            else "public-domain"
        )
    if "attribution" in low:
        return _named({part for part, words in _WORDS.items() if re.search(words, low)})
    return UNKNOWN


def _named(parts: set[str]) -> str:
    return "-".join(["cc", "by", *(part for part in ("nc", "sa", "nd") if part in parts)])
