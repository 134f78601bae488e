"""What a user's source string means: one or many items, each a video or a photo set.

A source is a URL (of a video, a playlist or a channel), a video file, a folder of videos or of images
(also DL3DV's and COLMAP's ``images``, ``images_4`` … layout), or a list of further sources: a text file
with one a line, a CSV or Parquet table with a column ``url`` (or ``source``, ``path``), or one of
RealEstate10K's camera files, whose time stamps become the item's sections.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit, urlunsplit

from sage_core.acquisition.credentials import has_login, redacted
from sage_core.acquisition.fetch import Entry
from sage_core.acquisition.lists import LIST_SUFFIXES, Listed, is_camera_file, read_list
from sage_core.errors import SageError, SourceError
from sage_core.types import Reason

VIDEO_SUFFIXES = frozenset(
    (
        *(".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".f4v", ".webm", ".mkv", ".avi", ".flv"),
        *(".mpg", ".mpeg", ".vob", ".ts", ".m2ts", ".mts", ".wmv", ".asf", ".ogv", ".mxf", ".gif"),
    )
)
IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"))
_MANIFESTS = frozenset((".m3u8", ".mpd"))
_IMAGE_FOLDERS = ("images", "images_2", "images_4", "images_8", "rgb")
"""From the finest: DL3DV and COLMAP data sets keep the same photos at several sizes."""
_YOUTUBE = frozenset(("youtube.com", "www.youtube.com", "m.youtube.com", "music.youtube.com"))
_NESTED_LISTS = 3

_BYTE = re.compile("[\udc80-\udcff]")
_SPELLED_BYTE = re.compile(r"\\x([89a-f][0-9a-f])")

Section = tuple[float, float]
"""Start and end of a part to use, in seconds."""
ListUrl = Callable[[str], list[Entry] | None]
"""The videos under a URL, or None where it is one video (see ``fetch.list_url``)."""


class SourceKind(StrEnum):
    URL = "url"
    FILE = "file"
    IMAGES = "images"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class SourceItem:
    """One item to acquire.

    Attributes:
        item: id, safe as a file name: "v" and 16 hex digits over the canonical location.
        source: what the user gave; for parts of a folder, list or playlist, the part's path or URL.
        kind: what it is.
        location: canonical URL or absolute path, :func:`spelled`.
        sections: parts to use, sorted, in seconds; empty for the whole.
        title: what the playlist calls it.
        problem, reason: for kind ``bad``, why it cannot be acquired.
    """

    item: str
    source: str
    kind: SourceKind
    location: str
    sections: tuple[Section, ...] = ()
    title: str = ""
    problem: str = ""
    reason: Reason | None = None

    @property
    def path(self) -> Path:
        """The local file or folder."""
        return _named(Path(self.location))

    @property
    def input_hash(self) -> str:
        """Sixteen hex digits that change when a local file or the sections do."""
        state: list[Any] = [self.location, self.sections]
        path = self.path
        if self.kind in (SourceKind.FILE, SourceKind.IMAGES) and path.exists():
            files = [path] if path.is_file() else image_files(path)
            state += [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]
        return hashlib.sha256(repr(state).encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        sections = tuple((float(a), float(b)) for a, b in data["sections"])
        reason = Reason(data["reason"]) if data["reason"] else None
        return cls(
            **{**data, "kind": SourceKind(data["kind"]), "sections": sections, "reason": reason}
        )


def expand(sources: Sequence[str], list_url: ListUrl) -> list[SourceItem]:
    """The items that sources stand for, in order, each once.

    A source that is wrong, or a folder without anything of use, becomes an item of kind ``bad``, so
    that it gets a verdict as everything else does. Where one video is named several times with
    different sections, it is one item with all of them. A playlist that cannot be read now stays one
    item, whose fetch will say why.
    """
    items: dict[str, SourceItem] = {}
    for source in sources:
        for found in _expand(source, source, Path(), list_url, _NESTED_LISTS):
            before = items.get(found.item)
            items[found.item] = found if before is None else _joined(before, found)
    return list(items.values())


def image_files(folder: Path) -> list[Path]:
    """The images directly in a folder, sorted by name."""
    return sorted(
        f for f in folder.iterdir() if _is_visible(f) and f.suffix.lower() in IMAGE_SUFFIXES
    )


def canonical_url(url: str) -> str:
    """One spelling for URLs that mean the same.

    The host in lower case, without login and fragment; YouTube's by the video's id.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if video := _youtube_id(host, parts.path, parts.query):
        return f"https://www.youtube.com/watch?v={video}"
    netloc = parts.netloc.rpartition("@")[2].lower()
    default = {"http": ":80", "https": ":443"}.get(parts.scheme.lower(), "")
    netloc = netloc.removesuffix(default) if default else netloc
    return urlunsplit((parts.scheme.lower(), netloc, parts.path or "/", parts.query, ""))


def spelled(text: str) -> str:
    r"""The text in UTF-8; an odd byte of a file name is spelled ``\xe9``, and the file still found so."""
    text = _BYTE.sub(lambda byte: f"\\x{ord(byte[0]) & 0xFF:02x}", text)
    return text.encode("utf-8", "replace").decode()


def _named(path: Path) -> Path:
    """The path, or the one with the bytes that :func:`spelled` wrote out, if only that is there."""
    raw = _SPELLED_BYTE.sub(lambda byte: chr(0xDC00 + int(byte[1], 16)), str(path))
    return path if raw == str(path) or path.exists() else Path(raw)


def _expand(
    text: str, source: str, base: Path, list_url: ListUrl, depth: int
) -> Iterator[SourceItem]:
    text = text.strip()
    if "://" in text:
        yield from _expand_url(text, source, list_url)
        return
    path = base / _from_home(text)
    try:
        path = _named(path)
        if not text or not path.exists():
            yield _bad(
                source, str(path), f"{source!r} is neither a URL nor a path that exists here"
            )
        elif path.is_dir():
            yield from _expand_folder(path, source, list_url)
        elif path.suffix.lower() in LIST_SUFFIXES:
            yield from _expand_list(path, source, list_url, depth)
        elif path.is_file():
            yield _item(SourceKind.FILE, source, str(path.resolve()))
        else:
            yield _bad(source, str(path), f"{source!r} is no regular file")
    except OSError as error:
        yield _bad(source, str(path), f"{source!r} cannot be read: {error.strerror}")


def _from_home(text: str) -> Path:
    """The path, with ``~`` and ``~user`` replaced; a user that is not there stands for itself."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def _expand_url(url: str, source: str, list_url: ListUrl) -> Iterator[SourceItem]:
    scheme = url.partition("://")[0].lower()
    if scheme not in ("http", "https"):
        hint = " (for a local file, give its path)" if scheme == "file" else ""
        yield _bad(source, url, f"{source!r}: only http and https are fetched, not {scheme}{hint}")
        return
    if has_login(url):
        yield _with_login(source, url)
        return
    try:
        canonical = canonical_url(url)
    except ValueError as error:
        yield _bad(source, url, f"{source!r} is not a URL that can be read: {error}")
        return
    entries = None if _is_single(canonical) else _listed(canonical, list_url)
    if entries is None:
        yield _item(SourceKind.URL, source, canonical)
    elif not entries:
        yield _bad(source, canonical, f"the list {source} holds no video", Reason.NOT_VIDEO)
    for entry in entries or []:
        for found in _entry_items(entry, source):
            yield replace(found, title=spelled(entry.title or ""))


def _with_login(source: str, url: str) -> SourceItem:
    return _bad(
        redacted(source),
        redacted(url),
        f"{redacted(source)!r} has a login in it, which would be written down: give the URL without, and "
        "the login in the file that acquire.netrc_file names",
    )


def _entry_items(entry: Entry, source: str) -> Iterator[SourceItem]:
    if has_login(entry.url):
        yield _with_login(entry.url, entry.url)
    elif entry.url.partition("://")[0].lower() in ("http", "https"):
        yield _item(SourceKind.URL, entry.url, canonical_url(entry.url))
    else:
        yield _bad(
            entry.url, entry.url, f"the list {source} names {entry.url!r}, which is no http(s) URL"
        )


def _listed(url: str, list_url: ListUrl) -> list[Entry] | None:
    try:
        return list_url(url)
    except (SageError, OSError):
        return None


def _is_single(url: str) -> bool:
    """Whether a URL's form alone shows that it is one video, which saves asking the site."""
    parts = urlsplit(url)
    suffix = Path(parts.path).suffix.lower()
    return (
        suffix in VIDEO_SUFFIXES | _MANIFESTS
        or _youtube_id((parts.hostname or "").lower(), parts.path, parts.query) != ""
    )


def _youtube_id(host: str, path: str, query: str) -> str:
    parts = path.strip("/").split("/")
    if host in ("youtu.be", "www.youtu.be"):
        return parts[0]
    if host not in _YOUTUBE:
        return ""
    if parts == ["watch"]:
        return parse_qs(query).get("v", [""])[0]
    return parts[1] if len(parts) == 2 and parts[0] in ("shorts", "embed", "live", "v") else ""


def _expand_folder(folder: Path, source: str, list_url: ListUrl) -> Iterator[SourceItem]:
    """Videos, photo sets and camera files in a folder and below, in the order of their paths."""
    found = False
    for path in _walk(folder):
        found = True
        inside = path.relative_to(folder).as_posix()
        name = source if inside == "." else f"{source.rstrip('/')}/{inside}"
        if path.is_dir():
            yield _item(SourceKind.IMAGES, name, str(path.resolve()))
        elif path.suffix.lower() == ".txt":
            yield from _expand_list(path, name, list_url, 1)
        else:
            yield _item(SourceKind.FILE, name, str(path.resolve()))
    if not found:
        yield _bad(source, str(folder), f"the folder {source!r} holds neither videos nor images")


def _walk(folder: Path) -> Iterator[Path]:
    """Video files, camera files and folders of images, sorted; links to folders are not followed."""
    entries = sorted(e for e in folder.iterdir() if _is_visible(e))
    files = [e for e in entries if e.is_file()]
    yield from (
        f for f in files if f.suffix.lower() in VIDEO_SUFFIXES - {".gif"} or is_camera_file(f)
    )
    if any(f.suffix.lower() in IMAGE_SUFFIXES for f in files):
        yield folder
    folders = [e for e in entries if e.is_dir() and not e.is_symlink()]
    sizes = [e for name in _IMAGE_FOLDERS for e in folders if e.name == name and image_files(e)]
    for inner in folders:
        if inner not in sizes[1:]:
            yield from _walk(inner)


def _expand_list(path: Path, source: str, list_url: ListUrl, depth: int) -> Iterator[SourceItem]:
    if depth == 0:
        yield _bad(
            source, str(path), f"{source!r}: lists are nested more than {_NESTED_LISTS} deep"
        )
        return
    try:
        listed = read_list(path)
    except SourceError as error:
        yield _bad(source, str(path), str(error))
        return
    if not listed:
        yield _bad(source, str(path), f"the list {source!r} names nothing")
    for entry in listed:
        yield from _expand_entry(entry, path.parent, list_url, depth - 1)


def _expand_entry(entry: Listed, base: Path, list_url: ListUrl, depth: int) -> Iterator[SourceItem]:
    for found in _expand(entry.source, entry.source, base, list_url, depth):
        yield replace(found, sections=(entry.section,)) if entry.section else found


def _item(kind: SourceKind, source: str, location: str) -> SourceItem:
    return SourceItem(item_id(location), spelled(source), kind, spelled(location))


def item_id(location: str) -> str:
    """Id of the item at a canonical URL or absolute path."""
    return "v" + hashlib.sha256(spelled(location).encode()).hexdigest()[:16]


def _bad(
    source: str, location: str, problem: str, reason: Reason = Reason.BAD_SOURCE
) -> SourceItem:
    item = _item(SourceKind.BAD, source, location)
    return replace(item, problem=spelled(problem), reason=reason)


def _joined(first: SourceItem, again: SourceItem) -> SourceItem:
    """The same video named twice: its sections together; the whole, where one named the whole."""
    whole = not first.sections or not again.sections
    sections: Iterable[Section] = () if whole else {*first.sections, *again.sections}
    return replace(first, sections=tuple(sorted(sections)))


def _is_visible(path: Path) -> bool:
    return not path.name.startswith(".")
