"""What a video file is, measured from its packets rather than believed from its header.

No ffprobe is needed: ffmpeg copies the packets of the first video stream and of the sound into its
``framecrc`` listing, which names each packet's time and length, without decoding a picture.
"""

from __future__ import annotations

import re
import tempfile
from array import array
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sage_core.errors import MediaError, SandboxError
from sage_core.sandbox import Limits, run
from sage_core.types import Reason
from sage_core.video.ffmpeg import ffmpeg_reading
from sage_core.video.mp4 import Mp4Header, read_mp4_header

_LEAST_S, _BYTES_A_SECOND = 120, 8 << 20
_LISTING_MB = 192
"""Some four million packets: four hours of 60 frames a second with two tracks of sound take half of it."""
_NO_TIME = -(2**62)
_TICK = re.compile(r"^#tb (\d+): (\d+)/(\d+)$", re.M)
_IRREGULAR_STEP = 0.25
_IRREGULAR_SHARE = 0.005

PacketTable = NDArray[np.int64]
"""One row a packet: stream, decoding time, presentation time, duration, bytes, key (0 or 1)."""


@dataclass(frozen=True)
class Probe:
    """Facts about a video file.

    Attributes:
        container: ffmpeg's name of the container, e.g. ``mov`` or ``matroska``.
        codec: ffmpeg's name of the pictures' codec, e.g. ``h264``.
        width, height: of the upright picture, in pixels, before ``pixel_aspect`` is applied.
        fps: mean rate, frames over duration.
        duration_s: from the first frame's time to the end of the last frame's.
        n_frames: packets of the video stream.
        n_key_frames: those that decode by themselves.
        variable_frame_rate: whether more than 0.5 % of the steps differ from the median by over 25 %.
        rotation_deg: clockwise turn that makes the stored picture upright: 0, 90, 180 or 270.
        has_audio: whether there is a sound stream.
        pixel_aspect: width over height of one pixel.
        media_end_s: when the last stream ends, sound included, counted from the first packet.
        claims_s: durations that the header claims, by who claims it.
        missing_bytes: bytes that the container announces beyond the end of the file, where it tells.
        cut: whether the demuxer met the end of the file inside the data.
    """

    container: str
    codec: str
    width: int
    height: int
    fps: float
    duration_s: float
    n_frames: int
    n_key_frames: int
    variable_frame_rate: bool
    rotation_deg: int
    has_audio: bool
    pixel_aspect: float
    media_end_s: float
    claims_s: dict[str, float]
    missing_bytes: int
    cut: bool

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Probe:
        return cls(**data)


def probe(file: Path, limits: Limits | None = None) -> Probe:
    """Look at the packets of a video file, in a child process with limits that follow from its size.

    Raises:
        MediaError: ``empty_file``, ``unreadable``, ``truncated`` (its index was cut off) or
            ``not_video`` (no moving pictures).
        SandboxError: the demuxer ran out of time or memory, or crashed.
    """
    if file.stat().st_size == 0:
        raise MediaError(f"{file.name} is empty (0 bytes)", reason=Reason.EMPTY_FILE)
    header = read_mp4_header(file)
    with tempfile.TemporaryDirectory(prefix="sage-probe-") as folder:
        listing = Path(folder, "packets")
        log = _demux(file, listing, header, limits or _limits(file))
        head, packets = _packets(listing)
    return _read(file, log, head, packets, header)


def _limits(file: Path) -> Limits:
    seconds = _LEAST_S + file.stat().st_size // _BYTES_A_SECOND
    return Limits(wall_s=seconds, memory_mb=1024, cpu_s=seconds, file_mb=_LISTING_MB)


def _demux(file: Path, listing: Path, header: Mp4Header | None, limits: Limits) -> str:
    maps = ("-map", "0:V:0", "-map", "0:a?", "-map_metadata", "-1", "-c", "copy")
    argv = [*ffmpeg_reading(file), *maps, "-f", "framecrc", str(listing)]
    try:
        return run(argv, limits)
    except SandboxError as error:
        if error.reason is not Reason.CRASHED or " died of " in str(error).split("\n", 1)[0][:80]:
            raise
        raise _refusal(file, str(error), header) from error


def _refusal(file: Path, log: str, header: Mp4Header | None) -> MediaError:
    """What ffmpeg's exit without a listing means."""
    if "Stream map" in log and "matches no streams" in log:
        return MediaError(f"{file.name} holds no moving pictures", reason=Reason.NOT_VIDEO)
    if header is not None and (header.missing_bytes or not header.has_index):
        return MediaError(
            f"{file.name} was cut off: {header.missing_bytes} announced bytes are missing"
            + ("" if header.has_index else ", and with them the index of frames"),
            reason=Reason.TRUNCATED,
        )
    said = [line for line in log.splitlines() if line.strip() and str(file) not in line][-2:]
    return MediaError(f"{file.name} is no video that ffmpeg can read: {' | '.join(said)}")


def _read(file: Path, log: str, head: str, packets: PacketTable, header: Mp4Header | None) -> Probe:
    ticks = {int(s): float(n) / float(d) for s, n, d in _TICK.findall(head)}
    size = re.search(r"^#dimensions 0: (\d+)x(\d+)$", head, re.M)
    codec = re.search(r"^#codec_id 0: (\w+)$", head, re.M)
    video = packets[packets[:, 0] == 0]
    if size is None or codec is None or 0 not in ticks or not len(_times(video)):
        raise MediaError(f"{file.name} holds no frame", reason=_reason_without_frames(header))
    streams = {stream: packets[packets[:, 0] == stream] for stream in ticks}
    spans = {s: _span(rows, ticks[s]) for s, rows in streams.items() if len(_times(rows))}
    start_s, stop_s = spans[0]
    turn = _rotation_deg(log)
    width, height = int(size[1]), int(size[2])
    return Probe(
        container=_container(log),
        codec=codec[1],
        width=height if turn % 180 else width,
        height=width if turn % 180 else height,
        fps=len(video) / (stop_s - start_s) if stop_s > start_s else 0.0,
        duration_s=stop_s - start_s,
        n_frames=len(video),
        n_key_frames=int(video[:, 5].sum()),
        variable_frame_rate=_irregular(_times(video)),
        rotation_deg=turn,
        has_audio="#media_type 1: audio" in head,
        pixel_aspect=_pixel_aspect(head, turn),
        media_end_s=max(e for _, e in spans.values()) - min(b for b, _ in spans.values()),
        claims_s=_claims(log, header),
        missing_bytes=header.missing_bytes if header else 0,
        cut=bool(re.search(r"partial file|ended prematurely|Truncat", log)),
    )


def _reason_without_frames(header: Mp4Header | None) -> Reason:
    return Reason.TRUNCATED if header is not None and header.missing_bytes else Reason.UNREADABLE


def _packets(listing: Path) -> tuple[str, PacketTable]:
    """The listing's head and its packets; read line by line, since a long video has a million."""
    head, numbers = [], array("q")
    with listing.open() as lines:
        for line in lines:
            if line.startswith("#"):
                head.append(line)
                continue
            fields = line.split(",")
            numbers.extend(int(field) for field in fields[:5])
            flags = next((f.strip() for f in fields[6:] if f.strip().startswith("F=")), "F=0x1")
            numbers.append(int(flags[2:], 16) & 1)
    return "".join(head), np.asarray(numbers, np.int64).reshape(-1, 6)


def _times(packets: PacketTable) -> PacketTable:
    """Presentation times in ticks, sorted; decoding times where a container keeps no others."""
    shown = np.where(packets[:, 2] > _NO_TIME, packets[:, 2], packets[:, 1])
    return np.sort(shown[shown > _NO_TIME])


def _span(packets: PacketTable, tick_s: float) -> tuple[float, float]:
    """When a stream begins and when its last packet ends, in seconds."""
    times = _times(packets)
    last = int(packets[np.argmax(packets[:, 2]), 3])
    if last <= 0 and len(times) > 1:
        last = int(np.median(np.diff(times)))
    return float(times[0] * tick_s), float((times[-1] + max(last, 0)) * tick_s)


def _irregular(times: PacketTable) -> bool:
    steps = np.diff(times)
    if len(steps) < 2:
        return False
    usual = float(np.median(steps))
    return bool((np.abs(steps - usual) > _IRREGULAR_STEP * usual).mean() > _IRREGULAR_SHARE)


def _container(log: str) -> str:
    """The first of the names that ffmpeg gives the demuxer (``mov,mp4,m4a,…``)."""
    found = re.search(r"^Input #0, (\w+)", log, re.M)
    return found[1] if found else ""


def _claims(log: str, header: Mp4Header | None) -> dict[str, float]:
    claims = dict(header.claims_s) if header else {}
    if found := re.search(r"^  Duration: (\d+):(\d\d):(\d\d\.\d+)", log, re.M):
        claims["container"] = int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3])
    return claims


def _rotation_deg(log: str) -> int:
    """From the counter-clockwise angle that ffmpeg prints of the display matrix, where there is one."""
    found = re.search(r"^ +[Dd]isplay ?[Mm]atrix: rotation of (-?\d+\.?\d*) degrees", log, re.M)
    return round(-float(found[1]) / 90) * 90 % 360 if found else 0


def _pixel_aspect(head: str, turn: int) -> float:
    found = re.search(r"^#sar 0: (\d+)/(\d+)$", head, re.M)
    if not found or not int(found[1]) or not int(found[2]):
        return 1.0
    aspect = int(found[1]) / int(found[2])
    return 1 / aspect if turn % 180 else aspect
