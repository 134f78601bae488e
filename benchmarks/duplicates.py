"""Copies of footage: how many of each kind are found, what is linked in error, and what 100,000 clips cost.

python -m benchmarks.duplicates --rooms 6 --clips 20000 --json duplicates.json

Films of procedural rooms are edited as people edit what they upload again, encoded at CRF 38, fingerprinted
as curate does it, and all compared with all; with --data real ones, frame by frame. A link is false if the
films show different places, or one room filmed in different ways. The index is measured on made-up
fingerprints of 20 s, whose bits have the frequencies and correlations of those that were just taken.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import cv2
import numpy as np

from benchmarks.copies import COPIES, Take, copied, other_takes, room_takes
from benchmarks.frame_edits import Timed, edits_of, frames_of, real_takes
from benchmarks.table import parser, publish
from sage_core.config.duplicates import DuplicatesConfig
from sage_core.fingerprints import CROPS, Fingerprint, Footage, Recorder, find_links, shown_share
from sage_core.mining._measure import LONG_SIDE, STEP_S, _bars
from sage_core.video.frames import open_frames

CONFIG = DuplicatesConfig()
_BITS = np.left_shift(np.uint64(1), np.arange(64, dtype=np.uint64))


@dataclass(frozen=True)
class Printed:
    """A film with its fingerprint, which edit it is (none of the original) and what taking it cost."""

    take: Take
    edit: str | None
    fingerprint: Fingerprint
    seconds: float
    hash_cpu_s: float


def printed(take: Take, edit: str | None) -> Printed:
    """The fingerprint that curate's decode gives, without its other measures."""
    reader = open_frames(take.path, LONG_SIDE)
    times = reader.info.times_s
    wanted = np.unique(np.searchsorted(times, np.arange(times[0], times[-1], STEP_S)))
    decoded = reader.read(wanted.tolist())
    frames = ((f.time_s, cv2.cvtColor(f.image, cv2.COLOR_RGB2GRAY)) for f in decoded)
    return recorded(take, edit, frames)


def recorded(take: Take, edit: str | None, frames: Iterable[Timed]) -> Printed:
    """The fingerprint of these pictures."""
    recorder = Recorder()
    spent, times = 0.0, [0.0]
    for time_s, grey in frames:
        times.append(time_s)
        bars = _bars(grey)
        started = time.process_time()
        recorder.add(time_s, grey, bars)
        spent += time.process_time() - started
    return Printed(take, edit, recorder.fingerprint(), times[-1] - times[1 % len(times)], spent)


def edited_films(takes: Sequence[Take]) -> list[Printed]:
    """Real films and their copies, edited frame by frame."""
    found = []
    for take in takes:
        frames = frames_of(take)
        found.append(recorded(take, None, frames[::2]))
        found += [recorded(take, name, edited) for name, edited in edits_of(frames)]
    return found


def films(takes: Sequence[Take], others: Sequence[Take], folder: Path) -> list[Printed]:
    """Originals, all their copies, and what resembles them only."""
    found = [printed(take, None) for take in (*takes, *others)]
    for number, take in enumerate(takes):
        for place, edit in enumerate(COPIES):
            out = folder / f"copy_{number}_{place}.mp4"
            copy = copied(take, edit, takes[number - 1], out)
            found.append(printed(copy, edit))
            out.unlink()
    return found


def rows_of(found: Sequence[Printed]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A row for each kind of copy, and figures of the whole."""
    links = find_links([one.fingerprint for one in found], CONFIG)
    between = {(link.first, link.second): link for link in links}
    false = [
        f"{found[i].take.path.name} ~ {found[j].take.path.name}"
        for i, j in between
        if not found[i].take.shares_with(found[j].take)
    ]
    rows = []
    for edit in dict.fromkeys(one.edit for one in found if one.edit):
        pairs = [
            (at, number)
            for number, one in enumerate(found)
            if one.edit == edit
            for at, original in enumerate(found)
            if original.edit is None and original.take.origin == one.take.origin
        ]
        met = [between[pair] for pair in pairs if pair in between]
        shares = [_share(found[link.second], link.spans_second) for link in met]
        rows.append(
            {
                "copy": edit,
                "made": len(pairs),
                "linked": len(met),
                "recall": len(met) / len(pairs),
                "median share found": float(np.median(shares)) if shares else None,
                "rejected": sum(share > CONFIG.max_share for share in shares),
                "bits": float(np.mean([link.distance for link in met])) if met else None,
                "mirrored right": sum(link.mirrored == ("mirrored" in edit) for link in met),
            }
        )
    n = len(found)
    facts = {
        "films": n,
        "pairs": n * (n - 1) // 2,
        "false_links": len(false),
        "falsely_linked": false,
        "precision": 1 - len(false) / max(1, len(links)),
        "hash_cpu_s_a_minute": 60
        * sum(f.hash_cpu_s for f in found)
        / sum(f.seconds for f in found),
        "bytes_a_minute": round(
            60 * sum(_bytes(f.fingerprint) for f in found) / sum(f.seconds for f in found)
        ),
    }
    return rows, facts


def _share(film: Printed, spans: Sequence[tuple[float, float]]) -> float:
    times = film.fingerprint.times_s
    return shown_share(Footage("", float(times[0]), float(times[-1]), 1, 1.0), spans)


def _bytes(one: Fingerprint) -> int:
    return one.times_s.nbytes + one.hashes.nbytes + one.view.nbytes + one.crops.nbytes


class MadeUp:
    """Fingerprints of clips of 20 s that nobody filmed; each is made when it is asked for."""

    def __init__(self, count: int, like: Sequence[Fingerprint]) -> None:
        real = np.concatenate([one.hashes for one in like])
        bits = (real[:, None] & _BITS) > 0
        shares = bits.mean(0).clip(0.02, 0.98)
        self._above = np.array([NormalDist().inv_cdf(1 - share) for share in shares])
        varied = bits + 1e-3 * np.random.default_rng(0).standard_normal(bits.shape)
        self._mix = np.linalg.cholesky(0.98 * np.corrcoef(varied.T) + 0.02 * np.eye(64))
        self._count = count
        self.cpu_s = 0.0

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Fingerprint:
        if number >= self._count:
            raise IndexError(number)
        started = time.process_time()
        made = self._made(np.random.default_rng(number))
        self.cpu_s += time.process_time() - started
        return made

    def _made(self, rng: np.random.Generator) -> Fingerprint:
        """A walk in the space of pictures that turns a quarter of the bits in a second."""
        n, keep = 100, 0.92
        steps = np.sqrt(1 - keep * keep) * rng.standard_normal((n, 64))
        for t in range(1, n):
            steps[t] += keep * steps[t - 1]
        looks = steps @ self._mix.T
        view = np.arange(0, n, 5)
        near = np.sqrt(0.08) * (rng.standard_normal((len(view), len(CROPS), 64)) @ self._mix.T)
        crops = self._hashed(np.sqrt(0.92) * looks[view][:, None] + near)
        hashes = self._hashed(looks)
        crops[:, 0] = hashes[view]
        return Fingerprint(True, 0.2 * np.arange(n), hashes, view.astype(np.int32), crops)

    def _hashed(self, looks: np.ndarray) -> np.ndarray:
        return np.bitwise_or.reduce(np.where(looks > self._above, _BITS, np.uint64(0)), -1)


def scale(count: int, like: Sequence[Fingerprint]) -> dict[str, Any]:
    """What comparing so many clips with each other costs, the making of them taken off."""
    made_up = MadeUp(count, like)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    links = find_links(made_up, CONFIG)
    cpu_s = time.process_time() - started - made_up.cpu_s
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "clips": count,
        "clips_cpu_s": cpu_s,
        "cpu_ms_a_clip": 1e3 * cpu_s / count,
        "more_memory_mb": (peak - before) / 1024,
        "links_by_chance": len(links),
        "chance_in_a_billion_pairs": 1e9 * len(links) / (count * (count - 1) / 2),
    }


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--data", type=Path, help="folder of folders of real videos")
    arguments.add_argument("--rooms", type=int, default=6, help="rooms that are filmed")
    arguments.add_argument("--clips", type=int, default=20_000, help="made-up clips; 0 for none")
    given = arguments.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if given.data:
            found = edited_films(real_takes(given.data))
        else:
            found = films(room_takes(folder, given.rooms), other_takes(folder, given.rooms), folder)
    rows, facts = rows_of(found)
    facts["footage"] = "real" if given.data else "rendered rooms"
    if given.clips:
        facts |= scale(given.clips, [one.fingerprint for one in found])
    publish("Duplicates", rows, given.json, **facts)


if __name__ == "__main__":
    main()
