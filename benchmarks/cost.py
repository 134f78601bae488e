"""Cost: CPU seconds that a minute of video takes from the source file to its shard, stage by stage.

python -m benchmarks.cost --data ../shared/data --json cost.json

Each video goes through the stages' own tasks, one after the other, in a scratch workspace of its own:
copied and checked, measured and cut, each clip reconstructed, each assembled. CPU seconds are those of the
child processes and of this one, in which Prefect's engine is left out; the peak is the largest process's
resident memory. `--long MINUTES` adds a film of that length, made of the clinic walk there and back, over
and over: one shot without a cut. Of a video's clips `--clips` many are reconstructed, spread evenly, and
their cost is scaled to all.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.table import parser, publish
from data_catalog import StageEvent, Workspace
from sage_core.acquisition.hosts import HostGate
from sage_core.config import SageConfig, load_config
from tasks._plan import accepted_clips
from tasks.acquire import Contents, fetch_item, find_items, record_item
from tasks.assemble import assemble_shard
from tasks.curate import curate_video
from tasks.reconstruct import reconstruct_clip

STAGES = ("acquire", "curate", "reconstruct", "assemble")
TARGETS = {
    "accepted": "60 CPU s a minute",
    "rejected by its measures": "15",
    "rejected by its header": "1 a video",
    "memory": "1,536 MiB",
}
_WALK = ("videos/clinic_walkthrough.mp4", 0.9, 17.0)
"""The part of a film between its fades, seconds."""
_RUN = "cost"
_UNITS: dict[str, tuple[Any, Callable[[str], Any]]] = {
    "curate": (curate_video, str),
    "reconstruct": (reconstruct_clip, str),
    "assemble": (assemble_shard, lambda clip: [clip]),
}
"""A stage's task, and how it wants to be told of an item."""


@dataclass
class Spent:
    """CPU seconds by stage, and the largest process."""

    cpu_s: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    wall_s: float = 0.0
    peak_mb: float = 0.0

    @contextmanager
    def here(self, stage: str, share: float = 1.0) -> Iterator[None]:
        """Add what this process does inside; scaled up from the share of the work that it is."""
        started, cpu_s = time.perf_counter(), time.process_time()
        yield
        self.cpu_s[stage] += (time.process_time() - cpu_s) / share
        self.wall_s += time.perf_counter() - started

    def children(self, event: StageEvent, share: float = 1.0) -> None:
        """Add what the child processes of this work used."""
        self.cpu_s[event.stage] += event.cpu_seconds / share
        self.peak_mb = max(self.peak_mb, event.details["peak_mb"])


def mined(source: Path, folder: Path, config: SageConfig, most: int) -> dict[str, Any]:
    """One line of the table: a video through all stages, of its clips at most so many after curate."""
    ws, spent = Workspace.open(folder), Spent()
    item = _acquire(ws, source, config, spent)
    video = _event(ws, item, "acquire")
    if video.verdict != "accepted":
        return _line(source, video, [], 0, spent)
    (video,) = _done(ws, spent, "curate", [item], config)
    clips = accepted_clips(ws)
    chosen = _spread(clips, most)
    share = len(chosen) / max(1, len(clips))
    mapped = _done(ws, spent, "reconstruct", chosen, config, share)
    sound = [event.item for event in mapped if event.verdict == "accepted"]
    assembled = _done(ws, spent, "assemble", sound, config, share)
    return _line(source, video, assembled or mapped, len(clips), spent)


def _done(
    ws: Workspace,
    spent: Spent,
    stage: str,
    items: Sequence[str],
    config: SageConfig,
    share: float = 1.0,
) -> list[StageEvent]:
    """The verdicts of a stage on these items, each done by itself."""
    unit, named = _UNITS[stage]
    events = []
    for item in items:
        with spent.here(stage, share):
            unit.fn(str(ws.root), named(item), config, _RUN)
        events.append(_event(ws, item, stage))
        if events[-1].verdict == "failed":
            raise SystemExit(
                f"{stage} of {item} failed, so that it has no cost: {events[-1].message}"
            )
        spent.children(events[-1], share)
    return events


def _acquire(ws: Workspace, source: Path, config: SageConfig, spent: Spent) -> str:
    gate = HostGate(config.acquire.block_after)
    with spent.here("acquire"):
        (item,) = find_items(str(ws.root), [str(source)], config, gate)
        fetched = fetch_item.fn(str(ws.root), item, config, gate)
        record_item(ws, item, fetched, Contents.of(ws), config, _RUN)
    spent.children(_event(ws, item.item, "acquire"))
    return item.item


def _event(ws: Workspace, item: str, stage: str) -> StageEvent:
    event = ws.catalog.find(item, stage)
    assert event is not None, "the stage has just recorded it"
    return event


def _spread(clips: Sequence[str], most: int) -> list[str]:
    if not most or len(clips) <= most:
        return list(clips)
    return [clips[i] for i in np.linspace(0, len(clips) - 1, most).round().astype(int)]


def _line(
    source: Path, video: StageEvent, clips: Sequence[StageEvent], found: int, spent: Spent
) -> dict[str, Any]:
    """Accepted is a video one of whose clips came all the way."""
    last = min(clips, key=lambda event: event.verdict, default=video)
    seconds = float(video.figures["duration_s"]["value"])
    total = sum(spent.cpu_s.values())
    verdict = last.verdict if last.reason is None else f"{last.verdict}: {last.reason}"
    return {
        "video": source.name,
        "seconds": seconds,
        "verdict": verdict,
        "clips": found,
        **{f"{stage}": 60 * spent.cpu_s[stage] / seconds for stage in STAGES},
        "all": 60 * total / seconds,
        "CPU s": total,
        "wall s": spent.wall_s,
        "peak MiB": spent.peak_mb,
    }


def long_film(data: Path, minutes: float, folder: Path) -> Path:
    """A shot of that length: a walk, the way back, the walk, …, without a second encoding of each."""
    import imageio_ffmpeg

    file, start_s, end_s = _WALK
    once, out = folder / "there_and_back.mp4", folder / f"{minutes:g}_minutes.mp4"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", "-threads", "1"]
    cut = ["-ss", str(start_s), "-to", str(end_s), "-i", str(data / file)]
    graph = "[0:v]split[a][b];[b]reverse[c];[a][c]concat=n=2"
    coded = ["-an", "-c:v", "libx264", "-preset", "veryfast", "-crf", "23", "-pix_fmt", "yuv420p"]
    subprocess.run([*command, *cut, "-filter_complex", graph, *coded, str(once)], check=True)
    looped = ["-stream_loop", "-1", "-i", str(once), "-t", str(60 * minutes), "-c", "copy"]
    subprocess.run([*command, *looped, str(out)], check=True)
    once.unlink()
    return out


def videos(data: Path, only: Sequence[str] | None) -> list[Path]:
    """The videos of a folder of folders whose names contain one of these words; all by default."""
    found = sorted(p for p in data.glob("*/*") if p.suffix in {".mp4", ".mov", ".webm", ".mkv"})
    return [p for p in found if not only or any(word in p.name for word in only)]


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("--data", type=Path, required=True, help="folder of folders of videos")
    options.add_argument("--only", nargs="*", help="videos whose names contain one of these; none")
    options.add_argument("--long", type=float, metavar="MINUTES", help="add a film of that length")
    options.add_argument("--clips", type=int, default=0, metavar="N", help="of a video; 0: all")
    options.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings")
    given = options.parse_args(arguments)
    config = load_config(overrides=given.set)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = [] if given.only == [] else videos(given.data, given.only)
        if given.long:
            found.append(long_film(given.data, given.long, folder))
        rows = [
            mined(source, folder / f"ws{number}", config, given.clips)
            for number, source in enumerate(found)
        ]
    publish(
        "Cost, CPU seconds a minute",
        rows,
        given.json,
        limits=", ".join(f"{k}: {v}" for k, v in TARGETS.items()),
    )


if __name__ == "__main__":
    main()
