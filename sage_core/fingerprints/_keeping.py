"""Which of the clips that show the same footage is kept: a pure function of the set of clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sage_core.fingerprints._links import Link, Span


@dataclass(frozen=True, slots=True)
class Footage:
    """What decides between clips.

    Attributes:
        item: the clip's id.
        start_s, end_s: its part of the source (photos: of the indices).
        pixels: of its picture inside the letterbox.
        bytes_per_s: of the file that it comes from.
    """

    item: str
    start_s: float
    end_s: float
    pixels: int
    bytes_per_s: float

    @property
    def rank(self) -> tuple[float, float, str]:
        """Sorts what is kept first: more pixels, more bytes a second, the smaller id."""
        return (-self.pixels, -self.bytes_per_s, self.item)


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A clip that other, kept clips show already.

    Attributes:
        share: of its time that they show.
        links: to them, ``first`` being this clip; the one with most in common first.
    """

    share: float
    links: tuple[Link, ...]


def duplicates(
    clips: Sequence[Footage], links: Sequence[Link], max_share: float
) -> dict[int, Duplicate]:
    """The clips that are not kept, by position.

    From the best clip to the worst (:attr:`Footage.rank`), each is kept unless those kept before it show
    more than ``max_share`` of its time. The order in which clips are listed changes nothing.
    """
    shown_by: dict[int, list[Link]] = {}
    for link in links:
        shown_by.setdefault(link.first, []).append(link)
        shown_by.setdefault(link.second, []).append(link.turned())
    dropped: dict[int, Duplicate] = {}
    kept: set[int] = set()
    for at in sorted(range(len(clips)), key=lambda n: clips[n].rank):
        own = [link for link in shown_by.get(at, []) if link.second in kept]
        share = shown_share(clips[at], [span for link in own for span in link.spans_first])
        if own and share > max_share:
            own.sort(key=lambda link: (-_seconds(link.spans_first), clips[link.second].item))
            dropped[at] = Duplicate(share, tuple(own))
        else:
            kept.add(at)
    return dropped


def shown_share(clip: Footage, spans: Sequence[Span]) -> float:
    """Share of a clip's time that the union of these spans covers."""
    covered, reached = 0.0, clip.start_s
    for start, end in sorted(spans):
        start, end = max(start, reached), min(end, clip.end_s)
        if end > start:
            covered += end - start
            reached = end
    return covered / max(clip.end_s - clip.start_s, 1e-9)


def _seconds(spans: Sequence[Span]) -> float:
    return sum(end - start for start, end in spans)
