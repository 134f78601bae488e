"""Reading training samples: JPEG decoding alone, from our shards, and from WebDataset.

    python -m benchmarks.reader --json reader.json

Makes its own shards in a temporary folder: clips of textured frames at the stored size with as many
anchors as real ones, and the same JPEGs as WebDataset tars, a sample of ten frames a record. One worker,
one thread. A clip's samples are read one after the other, ``per visit`` many before the next clip, and
the row groups in memory are dropped between visits, so that "samples per row group" is what the reader
got out of each one that it read. All contestants take turns, round after round; a share is the median of the
rounds' shares of the time that decoding as many of the JPEGs from memory takes: on the clock, and in CPU
seconds, which other programs on the machine change less (the files are in the page cache).
"""

from __future__ import annotations

import io
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.table import parser, publish
from sage_core.config.sampling import SamplingConfig
from sage_core.geometry import intrinsics_matrix
from sage_core.shards import (
    Anchors,
    ClipInfo,
    Covisibility,
    FrameRecord,
    ShardReader,
    ShardWriter,
    draw_trajectory,
)
from sage_core.shards._files import FILES
from sage_core.shards.records import PointCloud

TARGET = 0.9
"""Share of the speed of decoding from memory."""
VISITS = (1, 4, 16, 32)

Sample = tuple[str, list[int]]
"""Clip and rows."""


@dataclass
class Contestant:
    """A way to get the decoded pictures of all samples, and how long its rounds took."""

    name: str
    read: Callable[[], Iterator[NDArray[np.uint8]]]
    frames: int
    per_group: float | None = None
    rounds: list[tuple[float, float]] = field(default_factory=list)
    """Seconds and CPU seconds."""

    def run(self) -> None:
        started, cpu = time.perf_counter(), time.process_time()
        read = sum(1 for _ in self.read())
        self.rounds.append((time.perf_counter() - started, time.process_time() - cpu))
        if read != self.frames:
            raise SystemExit(f"{self.name} gave {read} frames instead of {self.frames}")

    def median(self, column: int) -> float:
        return statistics.median(line[column] for line in self.rounds)

    def share_of(self, other: Contestant, column: int) -> float:
        pairs = zip(other.rounds, self.rounds, strict=True)
        return statistics.median(theirs[column] / ours[column] for theirs, ours in pairs)


def main(argv: list[str] | None = None) -> None:
    options = _options(argv)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        clips = _write_shard(Path(folder), options)
        reader = ShardReader([folder])
        visits = [per for per in VISITS if per <= options.samples]
        plans = {per: _plan(reader, per, options) for per in visits}
        tar = _write_tar(Path(folder), plans[visits[0]], clips)
        contestants = [_decoding(plans[visits[0]], clips)]
        contestants += [_ours(reader, plans[per], per) for per in visits]
        if find_spec("webdataset"):
            contestants.append(_webdataset(tar, contestants[0].frames))
        for one in contestants:
            one.run()
            one.rounds.clear()
        for _ in range(options.rounds):
            for one in contestants:
                one.run()
        _publish(options, contestants, clips)


def _publish(
    options: Any, contestants: list[Contestant], clips: dict[str, list[FrameRecord]]
) -> None:
    memory, views = contestants[0], options.views
    rows = [
        {
            "from": one.name,
            "samples per row group": one.per_group,
            "samples/s": one.frames / views / one.median(0),
            "CPU ms a sample": 1e3 * one.median(1) * views / one.frames,
            "share": one.share_of(memory, 0),
            "share, CPU": one.share_of(memory, 1),
        }
        for one in contestants
    ]
    jpeg = statistics.mean(len(frame.image) for frames in clips.values() for frame in frames)
    publish(
        f"samples of {views} frames of {options.width} x {options.height}, one worker",
        rows,
        options.json,
        kilobytes_a_jpeg=jpeg / 1e3,
        anchors_a_frame=options.anchors,
        frames_in_a_row_group=options.group,
        target_share=TARGET,
        webdataset="measured"
        if find_spec("webdataset")
        else "not installed: pip install webdataset",
    )


def _decoding(plan: list[list[Sample]], clips: dict[str, list[FrameRecord]]) -> Contestant:
    frames = [clips[clip][row] for visit in plan for clip, rows in visit for row in rows]
    return Contestant("memory", lambda: (frame.pixels() for frame in frames), len(frames))


def _ours(reader: ShardReader, plan: list[list[Sample]], per_visit: int) -> Contestant:
    def read() -> Iterator[NDArray[np.uint8]]:
        for visit in plan:
            FILES.forget()
            for clip, rows in visit:
                for frame in reader.frames(clip, rows, measures=False):
                    yield frame.pixels()

    frames = sum(len(rows) for visit in plan for _, rows in visit)
    return Contestant(f"our shards, {per_visit} per visit", read, frames, _per_group(reader, plan))


def _per_group(reader: ShardReader, plan: list[list[Sample]]) -> float:
    """Samples that use a row group, for each row group that is read."""
    used = read = 0
    for visit in plan:
        groups = [{reader.row_group(clip, row) for row in rows} for clip, rows in visit]
        used += sum(map(len, groups))
        read += len(set().union(*groups))
    return used / read


def _webdataset(tar: Path, frames: int) -> Contestant:
    import webdataset

    def read() -> Iterator[NDArray[np.uint8]]:
        stored = webdataset.WebDataset(str(tar), shardshuffle=False)
        for record in stored:
            for name in sorted(record):
                if name.endswith("jpg"):
                    data = np.frombuffer(record[name], np.uint8)
                    yield np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB), np.uint8)

    return Contestant("WebDataset, in order", read, frames)


def _plan(reader: ShardReader, per_visit: int, options: Any) -> list[list[Sample]]:
    """The same number of samples for every ``per_visit``, as training draws them."""
    rng = np.random.default_rng(1)
    sampling = SamplingConfig(n_context=options.views - 2, interval_frames=options.interval)
    visits = []
    for number in range(options.samples // per_visit):
        clip = reader.clip(reader.names[number % len(reader)])
        drawn = [draw_trajectory(clip, sampling, rng).rows for _ in range(per_visit)]
        visits.append([(clip.clip, rows) for rows in drawn])
    return visits


def _write_shard(folder: Path, options: Any) -> dict[str, list[FrameRecord]]:
    pictures = [_frame(number, options) for number in range(options.frames)]
    clips = {}
    with ShardWriter(folder, "benchmark", row_group_frames=options.group) as writer:
        for number in range(options.clips):
            name = f"v{number}_000000_000001"
            turned = pictures[number:] + pictures[:number]
            frames = [  # bytes of their own, as in the shards: no clip warms the cache for another
                replace(
                    frame, clip=name, frame=5 * k, time_s=k / 6, image=bytes(bytearray(frame.image))
                )
                for k, frame in enumerate(turned)
            ]
            writer.add(_clip(name, frames), frames, _no_points())
            clips[name] = frames
    return clips


def _write_tar(folder: Path, plan: list[list[Sample]], clips: dict[str, list[FrameRecord]]) -> Path:
    path = folder / "samples.tar"
    samples = [sample for visit in plan for sample in visit]
    with tarfile.open(path, "w") as tar:
        for number, (clip, rows) in enumerate(samples):
            for view, row in enumerate(rows):
                data = clips[clip][row].image
                member = tarfile.TarInfo(f"{number:06d}.{view:02d}.jpg")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return path


def _frame(number: int, options: Any) -> FrameRecord:
    """Noise at four sizes of grain: a JPEG of 60 to 70 kB at 518 x 388, as an indoor frame has."""
    rng = np.random.default_rng(number)
    size = (options.width, options.height)
    picture = np.full((options.height, options.width, 3), 128, np.float32)
    for grain, strength in ((4, 60), (16, 40), (64, 25), (260, 8)):
        noise = rng.standard_normal((grain, grain, 3)).astype(np.float32)
        picture += strength * cv2.resize(noise, size, interpolation=cv2.INTER_CUBIC)
    pixels = picture.clip(0, 255).astype(np.uint8)
    jpeg = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()
    K = intrinsics_matrix([500.0, 500.0, size[0] / 2, size[1] / 2])
    anchors = _anchors(rng, options)
    return FrameRecord("", 0, 0.0, jpeg, *size, K, np.eye(3, 4), True, 50.0, anchors)


def _anchors(rng: np.random.Generator, options: Any) -> Anchors:
    n = options.anchors
    return Anchors(
        rng.uniform(0, (options.width, options.height), (n, 2)).astype(np.float32),
        rng.uniform(1, 5, n).astype(np.float32),
        rng.integers(0, 5000, n),
        rng.uniform(0, 1, n).astype(np.float32),
        rng.integers(3, 20, n).astype(np.int32),
        rng.uniform(1, 20, n).astype(np.float32),
    )


def _clip(name: str, frames: list[FrameRecord]) -> ClipInfo:
    n = len(frames)
    none = np.zeros(0, np.int32)
    return ClipInfo(
        clip=name,
        video=name.split("_")[0],
        source="benchmark",
        ordered=True,
        frames=np.array([frame.frame for frame in frames], np.int32),
        times_s=np.array([frame.time_s for frame in frames]),
        sharpness=np.full(n, 50, np.float32),
        depth_median=np.full(n, 2, np.float32),
        cam_from_world=np.stack([frame.cam_from_world for frame in frames]),
        covisibility=Covisibility(none, none, none.astype(np.float32)),
    )


def _no_points() -> PointCloud:
    return PointCloud(
        np.zeros(0, np.int64), np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8)
    )


def _options(argv: list[str] | None) -> Any:
    options = parser(__doc__)
    options.add_argument("--width", type=int, default=518)
    options.add_argument("--height", type=int, default=388)
    options.add_argument("--clips", type=int, default=6)
    options.add_argument("--frames", type=int, default=80, help="frames of a clip")
    options.add_argument("--views", type=int, default=10, help="frames of a sample")
    options.add_argument(
        "--interval", type=float, default=20.0, help="frames between context views"
    )
    options.add_argument("--anchors", type=int, default=400, help="anchors of a frame")
    options.add_argument("--group", type=int, default=16, help="frames in a row group")
    options.add_argument("--samples", type=int, default=64, help="samples of a round")
    options.add_argument("--rounds", type=int, default=5)
    return options.parse_args(argv)


if __name__ == "__main__":
    main()
