"""Which clips show the same footage: near hashes along one line of time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sage_core.config.duplicates import DuplicatesConfig
from sage_core.fingerprints._fingerprint import Fingerprint
from sage_core.fingerprints._hashes import CROPS, Hashes, distance, mirrored
from sage_core.fingerprints._index import HashIndex

Span = tuple[float, float]

_HIT_BITS = 12
_MEAN_BITS, _DEVIATION_BITS = 32.0, 4.3
_LEAST_DEVIATION = 2.0
_PROMISE = 14.0
_FROM_TIME = 5.0
"""Digits of evidence that must come from what happens when, not from what the films have in common always."""
_APART_S, _FEWEST_APART = 1.5, 20
_INDEX_S = 0.35
_RATES = 1.03 ** np.arange(-8, 9)
_SHIFTS_S = np.arange(-3, 4) * 0.2
_TRIED_CROPS, _PIVOTS = 4, 4
_NEW_BITS, _WHOLLY_NEW_BITS = 8, 20
_STEP_S = 1.0


@dataclass(frozen=True)
class Link:
    """Two clips of which stretches show the same footage.

    Time ``t`` of ``first`` is ``rate * t + offset_s`` of ``second`` (sources' clocks).

    Attributes:
        first, second: the clips' positions in the list that was searched.
        rate, offset_s: see above; without meaning for photos.
        mirrored: left and right are exchanged.
        crop: what ``second`` lacks of the picture of ``first``: left, top, right, bottom, as shares (or, if
            ``cropped`` is ``first``, the other way round).
        cropped: which of them the crop is of.
        distance: mean bits that differ where they agree.
        spans_first, spans_second: seconds of either (photos: indices) that show the same.
    """

    first: int
    second: int
    rate: float
    offset_s: float
    mirrored: bool
    crop: tuple[float, float, float, float]
    cropped: str
    distance: float
    spans_first: tuple[Span, ...]
    spans_second: tuple[Span, ...]

    def turned(self) -> Link:
        """The same link, seen from the other clip."""
        return Link(
            first=self.second,
            second=self.first,
            rate=1 / self.rate,
            offset_s=-self.offset_s / self.rate,
            mirrored=self.mirrored,
            crop=self.crop,
            cropped="first" if self.cropped == "second" else "second",
            distance=self.distance,
            spans_first=self.spans_second,
            spans_second=self.spans_first,
        )


@dataclass(frozen=True)
class _Line:
    """One way to lay a clip along another: crop, mirror, rate, offset, and the bits that then differ."""

    crop: int
    rate: float
    offset_s: float
    bits: NDArray[np.float64]


def find_links(clips: Sequence[Fingerprint], config: DuplicatesConfig) -> list[Link]:
    """All pairs of clips that share footage, ``first < second``, sorted; pure.

    Each clip's views, cropped in 81 ways and mirrored, are looked up among the others' pictures; two clips
    with two hits at different times are laid along each other, and linked if they agree for
    ``min_overlap_s``.
    """
    best: dict[tuple[int, int], Link] = {}
    catalogue = _Catalogue(clips)
    for one, clip in enumerate(clips):
        for other, flipped, hits in catalogue.meetings(one, clip):
            found = _laid(clip, clips[other], flipped, hits, config)
            if found is None:
                continue
            link = replace(found, first=one, second=other)
            link = link if one < other else link.turned()
            known = best.get((link.first, link.second))
            if known is None or _strength(link) > _strength(known):
                best[link.first, link.second] = link
    return [best[pair] for pair in sorted(best)]


def _strength(link: Link) -> tuple[float, float]:
    return (round(sum(b - a for a, b in link.spans_first), 3), -link.distance)


@dataclass(frozen=True)
class _Hits:
    """Where pictures of one clip look like pictures of another: parallel arrays.

    ``view`` and ``crop`` of the one, presentation time ``there_s`` of the other, ``bits`` that differ.
    """

    view: NDArray[np.int64]
    crop: NDArray[np.int64]
    there_s: NDArray[np.float64]
    bits: NDArray[np.int64]

    def chosen(self, which: NDArray[Any] | slice) -> _Hits:
        return _Hits(self.view[which], self.crop[which], self.there_s[which], self.bits[which])


class _Catalogue:
    """The pictures of all clips, indexed by their hashes."""

    def __init__(self, clips: Sequence[Fingerprint]) -> None:
        hashes, times, counts = [], [], []
        for clip in clips:
            rows = _thinned(clip)
            hashes.append(clip.hashes[rows])
            times.append(clip.times_s[rows])
            counts.append(len(rows))
        self._owner = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        self._times = np.concatenate([np.empty(0), *times])
        self._index = HashIndex(np.concatenate([np.empty(0, np.uint64), *hashes]))

    def meetings(self, number: int, clip: Fingerprint) -> Iterator[tuple[int, bool, _Hits]]:
        """The other clips that this one, cropped or mirrored, looks like at two different times."""
        if len(clip.view) == 0:
            return
        crops = clip.crops.ravel()
        for flipped in (False, True):
            queries = mirrored(crops) if flipped else crops
            query, row, bits = self._index.near(queries, _HIT_BITS)
            kept = np.flatnonzero(self._owner[row] != number)
            kept = kept[np.lexsort((row[kept], query[kept], self._owner[row[kept]]))]
            query, row, bits, whose = query[kept], row[kept], bits[kept], self._owner[row[kept]]
            view, crop = np.divmod(query, len(CROPS))
            hits = _Hits(view, crop, self._times[row], bits.astype(np.int64))
            for one in _surest(whose, hits):
                own = hits.chosen(one)
                if _promising(clip, own):
                    yield int(whose[one.start]), flipped, own


def _surest(whose: NDArray[np.int32], hits: _Hits) -> Iterator[slice]:
    """Of the stretches of hits on one clip each, those that may be promising; most are not, by far.

    ``whose`` clip a hit is on, and then the view, rise. No subset of a stretch can add up to more.
    """
    if len(whose) == 0:
        return
    begins = np.diff(whose, prepend=-1) != 0
    views = np.flatnonzero(begins | (np.diff(hits.view, prepend=-1) != 0))
    digits = surprise(np.minimum.reduceat(hits.bits, views))
    most = np.add.reduceat(digits, np.flatnonzero(begins[views]))
    edges = np.append(np.flatnonzero(begins), len(whose))
    for at in np.flatnonzero(most >= _PROMISE - 1e-6):
        yield slice(int(edges[at]), int(edges[at + 1]))


def _promising(clip: Fingerprint, hits: _Hits) -> bool:
    """Whether hits at two times at least, as fits the surest of them, are too sure to be chance."""
    if clip.ordered:
        here_s = clip.times_s[clip.view[hits.view]]
        surest = hits.bits.argmin()
        apart_s = np.abs((hits.there_s - hits.there_s[surest]) - (here_s - here_s[surest]))
        slack_s = (_RATES[-1] - 1) * np.abs(here_s - here_s[surest]) + _SHIFTS_S[-1]
        hits = hits.chosen(apart_s <= slack_s)
    least = np.full(int(hits.view.max()) + 1, 64)
    np.minimum.at(least, hits.view, hits.bits)
    seen = least[least < 64]
    return len(seen) > 1 and float(surprise(seen).sum()) >= _PROMISE


def _thinned(clip: Fingerprint) -> NDArray[np.int64]:
    """The pictures to index: a few a second, one of each run that stays the same."""
    if not clip.ordered:
        return np.arange(len(clip))
    kept: list[int] = []
    last_s, last = -np.inf, 0
    for row, (time_s, found) in enumerate(
        zip(clip.times_s.tolist(), clip.hashes.tolist(), strict=True)
    ):
        if kept and (time_s - last_s < _INDEX_S or (found ^ last).bit_count() <= 1):
            continue
        kept.append(row)
        last_s, last = time_s, found
    return np.array(kept, np.int64)


def _laid(
    a: Fingerprint, b: Fingerprint, flipped: bool, hits: _Hits, config: DuplicatesConfig
) -> Link | None:
    """The link that is found by laying one clip along the other, or None where they do not agree."""
    crops = mirrored(a.crops) if flipped else a.crops
    lay = _aligned if a.ordered and b.ordered else _gathered
    found = lay(a, b, crops, hits, config)
    return None if found is None else replace(found, mirrored=flipped)


def _aligned(
    a: Fingerprint, b: Fingerprint, crops: Hashes, hits: _Hits, config: DuplicatesConfig
) -> Link | None:
    line = _best_line(a, b, crops, hits, config.max_distance)
    near = line.bits <= config.max_distance
    stretch = _best_stretch(near, np.isfinite(line.bits), config.min_agreement)
    good = np.flatnonzero(near)
    good = good[(good >= stretch.start) & (good < stretch.stop)]
    if len(good) < 2:
        return None
    times = a.times_s[a.view]
    start, end = float(times[good[0]]), float(times[good[-1]]) + _STEP_S
    if end - start < config.min_overlap_s:
        return None
    mean = float(line.bits[good].mean())
    if _evidence(a.crops[good, 0], surprise(line.bits[good])) < config.min_evidence:
        return None
    against = surprise(line.bits[good], *_elsewhere(a, b, crops[:, line.crop], line))
    if _evidence(a.crops[good, 0], against) < _FROM_TIME:
        return None
    there = (line.rate * start + line.offset_s, line.rate * end + line.offset_s)
    return Link(
        0, 0, line.rate, line.offset_s, False, CROPS[line.crop], "second", mean,
        ((start, end),), (there,),
    )  # fmt: skip


def _best_line(a: Fingerprint, b: Fingerprint, crops: Hashes, hits: _Hits, limit: int) -> _Line:
    """Of all rates and offsets through some of the hits the one along which most views agree."""
    times = a.times_s[a.view]
    common = np.bincount(hits.crop, weights=1 / (1.0 + hits.bits), minlength=len(CROPS))
    ways = [int(w) for w in np.argsort(-common, kind="stable")[:_TRIED_CROPS] if common[w]]
    rates, through = _lines(times, hits)
    there = rates[:, None] * times + through[:, None]
    row, inside = _nearest(b.times_s, there)
    best: _Line | None = None
    most = (-1.0, 0.0)
    for way in ways:
        bits = np.where(inside, distance(crops[:, way], b.hashes[row]), np.inf)
        agreed = bits <= limit
        merit = agreed.sum(1) - np.where(agreed, bits, 0).sum(1) / (limit + 1)
        # The plainest of equals: the natural speed.
        for k in np.flatnonzero(merit >= merit.max() - 1e-9):
            rank = (float(merit[k]), -abs(float(np.log(rates[k]))))
            if rank > most:
                most = rank
                best = _Line(way, float(rates[k]), float(through[k]), bits[k])
    assert best is not None, "there is a hit, so there is a line through it"
    return best


def _lines(
    times: NDArray[np.float64], hits: _Hits
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rates and offsets of all lines that lead past the surest hits at different times."""
    nearest = hits.chosen(np.argsort(hits.bits, kind="stable"))
    _, firsts = np.unique(nearest.view, return_index=True)
    pivots = nearest.chosen(np.sort(firsts)[:_PIVOTS])
    rates, there, shift = np.meshgrid(_RATES, pivots.there_s, _SHIFTS_S, indexing="ij")
    here = times[pivots.view][None, :, None]
    return rates.ravel(), (there + shift - rates * here).ravel()


def _best_stretch(
    near: NDArray[np.bool_], compared: NDArray[np.bool_], least_share: float
) -> slice:
    """The run of views with the most near ones in which their share is at least this large."""
    price = least_share / max(1e-9, 1 - least_share)
    gains = np.where(near, 1.0, np.where(compared, -price, 0.0))
    best, start, total, found = 0.0, 0, 0.0, slice(0, 0)
    for place, gain in enumerate(gains):
        if total <= 0:
            start, total = place, 0.0
        total += float(gain)
        if total > best:
            best, found = total, slice(start, place + 1)
    return found


def _gathered(
    a: Fingerprint, b: Fingerprint, crops: Hashes, hits: _Hits, config: DuplicatesConfig
) -> Link | None:
    """Photos have no time: enough of them must be found, each by itself, in one crop."""
    way = int(np.bincount(hits.crop).argmax())
    bits = distance(crops[:, way][:, None], b.hashes[None])
    nearest, least = bits.argmin(1), bits.min(1)
    good = np.flatnonzero(least <= _HIT_BITS)
    if _evidence(a.crops[good, 0], surprise(least[good])) < config.min_evidence:
        return None
    here, there = a.times_s[a.view][good], b.times_s[np.unique(nearest[good])]
    return Link(
        0, 0, 1.0, 0.0, False, CROPS[way], "second", float(least[good].mean()),
        _around(here), _around(there),
    )  # fmt: skip


def _around(times: NDArray[np.float64]) -> tuple[Span, ...]:
    return tuple((float(t), float(t) + _STEP_S) for t in np.sort(times))


def _nearest(
    times: NDArray[np.float64], wanted: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Positions of the times nearest to those wanted, and whether they are near at all."""
    right = np.searchsorted(times, wanted).clip(0, len(times) - 1)
    left = (right - 1).clip(0)
    row = np.where(np.abs(times[left] - wanted) <= np.abs(times[right] - wanted), left, right)
    return row, np.abs(times[row] - wanted) <= _INDEX_S


def _elsewhere(a: Fingerprint, b: Fingerprint, hashes: Hashes, line: _Line) -> tuple[float, float]:
    """Mean and deviation of the bits that differ away from the line, as if the clips were unrelated.

    Films with the same bars, captions or cockpit agree everywhere; that says nothing of what they show.
    """
    times = a.times_s[a.view]
    off_s = np.abs(b.times_s - (line.rate * times + line.offset_s)[:, None])
    bits = distance(hashes[:, None], b.hashes)[off_s > _APART_S]
    if len(bits) < _FEWEST_APART:
        return _MEAN_BITS, _DEVIATION_BITS
    mean, deviation = float(bits.mean()), float(bits.std())
    return min(mean, _MEAN_BITS), min(max(deviation, _LEAST_DEVIATION), _DEVIATION_BITS)


def _evidence(hashes: Hashes, digits: NDArray[np.float64]) -> float:
    """Sum of decimal digits against chance; pictures like earlier ones count for less."""
    total = 0.0
    counted: list[np.uint64] = []
    for found, own in zip(hashes, digits, strict=True):
        unlike = min((int(distance(found, other)) for other in counted), default=64)
        if unlike >= _NEW_BITS:
            counted.append(found)
            total += float(own) * min(1.0, unlike / _WHOLLY_NEW_BITS)
    return total


def surprise(
    bits: NDArray[Any], mean: float = _MEAN_BITS, deviation: float = _DEVIATION_BITS
) -> NDArray[np.float64]:
    """-log10 of the share of pairs of unrelated pictures that differ in so few bits.

    Their distances are normal; by default as measured on real footage (docs/curate.md).
    """
    z = np.maximum((mean - np.asarray(bits, np.float64)) / deviation, 1.0)
    # The tail of the normal distribution, good to a hundredth of a digit where it matters (z > 3).
    tail = (z * z / 2 + np.log(z * np.sqrt(2 * np.pi)) + 1 / (z * z)) / np.log(10)
    return np.where(z > 1, tail, 0.0)
