"""Outputs in place of heavy work: downloads, decoding, COLMAP and pictures, replaced at sage_core's doors.

Everything else of a run stays what it is: flows, tasks, plans, catalog, artifacts on disk, Prefect. What is
replaced: the download and the look into its file (``sage_core.acquisition.obtain``), the child processes of
curate, reconstruct and assemble (``sage_core.sandbox.call``), and the comparison of clips with each other,
which ``benchmarks.duplicates`` measures.
"""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import cv2
import numpy as np

from sage_core.acquisition.fetch import Download
from sage_core.fingerprints import Fingerprint
from sage_core.geometry.poses import intrinsics_matrix
from sage_core.mining import CONTACT_FILE, CURATION_FILE, FINGERPRINT_FILE, THUMBNAILS_FILE
from sage_core.shards import Anchors, ClipInfo, Covisibility, FrameRecord, ShardWriter
from sage_core.shards.records import PointCloud, Trajectory
from sage_core.types import Clip, Figure, Judgement, Reason
from sage_core.video.probe import Probe

FPS, SECONDS, POSE_STEP, KEY_STEP = 30.0, 12.0, 5, 10
FRAMES = int(FPS * SECONDS)
WIDTH, HEIGHT = 1280, 720
FILM_BYTES = 256
REJECTED_OF, FAILED_OF = 10, 97
"""Of so many videos curate rejects one; of so many clips reconstruct fails at one."""


class Clock:
    """CPU seconds that stand-ins took, of all threads: no cost of the flows."""

    def __init__(self) -> None:
        self.cpu_s = 0.0
        self._lock = threading.Lock()

    def timed(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            started = time.thread_time()
            try:
                return work(*args, **kwargs)
            finally:
                with self._lock:
                    self.cpu_s += time.thread_time() - started

        return run


@contextmanager
def in_place() -> Iterator[Clock]:
    """The stand-ins, while the block runs."""
    clock = Clock()
    replaced = {
        "sage_core.acquisition.obtain.fetch_url": download,
        "sage_core.acquisition.obtain.check_video": checked,
        "sage_core.sandbox.call": called,
        "tasks.duplicates.find_links": lambda _clips, _config: [],
    }
    with ExitStack() as stack:
        for name, work in replaced.items():
            stack.enter_context(patch(name, clock.timed(work)))
        yield clock


def download(url: str, folder: Path, *_: object, **__: object) -> Download:
    """A file whose content is the URL's own, and what a site says of it."""
    file = folder / "film.mp4"
    file.write_bytes(film(url))
    return Download(file, site_of(url))


def film(url: str) -> bytes:
    """The content of a file that stands for a film."""
    return url.encode().ljust(FILM_BYTES, b"\0")


def site_of(url: str) -> dict[str, Any]:
    """What a site says of a video."""
    name = Path(urlsplit(url).path).stem
    return {
        "title": f"Walk {name}",
        "uploader": "somebody",
        "license": "CC-BY",
        "duration": SECONDS,
    }


def checked(*_: object, **__: object) -> tuple[Judgement, Probe]:
    """The verdict on a good file, and facts of it."""
    return Judgement.accept(file_figures()), PROBE


PROBE = Probe(
    container="mov", codec="h264", width=WIDTH, height=HEIGHT, fps=FPS, duration_s=SECONDS,
    n_frames=FRAMES, n_key_frames=3, variable_frame_rate=False, rotation_deg=0, has_audio=True,
    pixel_aspect=1.0, media_end_s=SECONDS, claims_s={}, missing_bytes=0, cut=False,
)  # fmt: skip


def file_figures() -> dict[str, Figure]:
    """What acquire measures of a file."""
    return {
        "duration_s": Figure(SECONDS, 3600, "<="),
        "width": Figure(WIDTH),
        "height": Figure(HEIGHT),
        "fps": Figure(FPS),
        "n_frames": Figure(FRAMES),
        "bytes": Figure(FILM_BYTES),
    }


def called(function: str, arguments: Mapping[str, Any], _limits: object, **_: object) -> Any:
    """What the child process of a stage would answer, its files included."""
    return _CHILDREN[function](**arguments)


def number_of(item: str) -> int:
    """A number that follows from an item's id, evenly spread."""
    return int(item[1:9], 16)


def clip_of(video: str) -> Clip:
    """The one clip of a video."""
    posed = list(range(0, FRAMES, POSE_STEP))
    return Clip(
        item=f"{video}_000000_{FRAMES:06d}", video=video, start_frame=0, end_frame=FRAMES, start_s=0.0,
        end_s=SECONDS, fps=FPS, width=WIDTH, height=HEIGHT, key_frames=posed[:: KEY_STEP // POSE_STEP],
        pose_frames=posed, times_s=[round(k / FPS, 6) for k in posed],
    )  # fmt: skip


def curation_of(video: str) -> tuple[Judgement, list[tuple[Clip, Judgement]]]:
    """Curate's verdicts on a video and its clip."""
    names = (
        "sharpness",
        "rigid_share",
        "moving_share",
        "travel_per_10s",
        "luma",
        "seam",
        "survival",
    )
    figures = {name: Figure(0.5, 0.1, ">=") for name in names}
    if number_of(video) % REJECTED_OF == 0:
        rejected = Judgement.reject(Reason.STATIC_CAMERA, "the camera stands still", figures)
        return rejected, []
    accepted = Judgement.accept(figures)
    return accepted, [(clip_of(video), accepted)]


CURATED = (CURATION_FILE, THUMBNAILS_FILE, FINGERPRINT_FILE, CONTACT_FILE)


def curated_files() -> dict[str, bytes]:
    """What curate leaves of a video; the same of each."""
    return {
        CURATION_FILE: b"{}",
        THUMBNAILS_FILE: b"no thumbnails",
        FINGERPRINT_FILE: _fingerprint(),
        CONTACT_FILE: _jpeg(320, 180),
    }


def _curate(path: str, kind: str, config: object, out_dir: str, item: str) -> dict[str, Any]:
    judgement, clips = curation_of(item)
    for name, content in curated_files().items():
        (Path(out_dir) / name).write_bytes(content)
    return {
        "judgement": judgement.to_json(),
        "clips": [{"clip": c.to_json(), "judgement": j.to_json()} for c, j in clips],
        "shots": [{"start_s": 0.0, "end_s": SECONDS}],
        "files": list(CURATED),
    }


def model_judgement(clip: str) -> Judgement:
    """The gate's verdict on a clip."""
    if number_of(clip) % FAILED_OF == 0:
        return Judgement.fail(Reason.TIME_LIMIT, "ran past its time limit", retryable=False)
    names = (
        "registered_share",
        "reprojection_px",
        "median_track",
        "triangulation_deg",
        "planar_share",
    )
    return Judgement.accept({name: Figure(0.8, 0.7, ">=") for name in names})


MODEL_FILES = ("cameras.bin", "images.bin", "points3D.bin")


def _reconstruct(
    clip: dict[str, Any],
    media: str,
    out: str,
    config: object,
    seed: int,
    provenance: dict[str, str],
) -> dict[str, Any]:
    judgement, folder = model_judgement(clip["item"]), Path(out)
    (folder / "sparse/0").mkdir(parents=True)
    for name in MODEL_FILES:
        (folder / "sparse/0" / name).write_bytes(clip["item"].encode())
    gate = {
        "clip": clip["item"],
        "part": clip,
        "further": [],
        **judgement.to_json(),
        "recipe": {"name": "sift"},
        "attempts": [],
        **provenance,
    }
    (folder / "gate.json").write_text(json.dumps(gate))
    answer = {"recipe": "sift", "attempts": [], "cpu_s": {"mapping": 1.0}, "parts": [clip]}
    return {"judgement": judgement.to_json(), **answer}


def shard_judgement() -> Judgement:
    """Assemble's verdict on a clip."""
    return Judgement.accept(
        {"frames": Figure(FRAMES // POSE_STEP, 5, ">="), "anchors_median": Figure(300.0, 50, ">=")}
    )


def _assemble(
    clip: dict[str, Any], source: str, provenance: dict[str, Any], folder: str, **_: object
) -> dict[str, Any]:
    """A shard of the clip with three tiny frames."""
    frames = [_frame(clip["item"], k) for k in clip["pose_frames"][:3]]
    info = ClipInfo(
        clip=clip["item"], video=clip["video"], source=source, ordered=True,
        frames=np.array([f.frame for f in frames], np.int32),
        times_s=np.array([f.time_s for f in frames]),
        sharpness=np.ones(3, np.float32), depth_median=np.ones(3, np.float32),
        cam_from_world=np.stack([f.cam_from_world for f in frames]),
        covisibility=Covisibility(
            np.array([0], np.int32), np.array([1], np.int32), np.ones(1, np.float32)
        ),
        trajectories=[Trajectory([0, 1], [2], "window")], provenance=provenance,
    )  # fmt: skip
    points = PointCloud(np.arange(4), np.zeros((4, 3), np.float32), np.zeros((4, 3), np.uint8))
    with ShardWriter(Path(folder), "part") as writer:
        writer.add(info, frames, points)
    return shard_judgement().to_json()


def _frame(clip: str, frame: int) -> FrameRecord:
    few = np.ones(4, np.float32)
    anchors = Anchors(
        np.full((4, 2), 8, np.float32), few, np.arange(4), few, np.full(4, 4, np.int32), few
    )
    pose = np.eye(3, 4)
    pose[0, 3] = frame
    return FrameRecord(
        clip=clip, frame=frame, time_s=frame / FPS, image=_jpeg(32, 18), width=32, height=18,
        intrinsics=intrinsics_matrix(np.array([30.0, 30.0, 16.0, 9.0])), cam_from_world=pose, key=True,
        sharpness=1.0, anchors=anchors,
    )  # fmt: skip


@cache
def _jpeg(width: int, height: int) -> bytes:
    done, data = cv2.imencode(".jpg", np.full((height, width, 3), 90, np.uint8))
    assert done
    return bytes(data.tobytes())


@cache
def _fingerprint() -> bytes:
    """Of a picture a second; what is in it nobody looks at here."""
    n = int(SECONDS)
    hashes = np.arange(n, dtype=np.uint64)
    made = Fingerprint(
        True, np.arange(n, dtype=np.float64), hashes, np.arange(n, dtype=np.int32),
        np.zeros((n, 81), np.uint64),
    )  # fmt: skip
    buffer = io.BytesIO()
    np.savez(buffer, version=1, **asdict(made))
    return buffer.getvalue()


_CHILDREN: dict[str, Callable[..., Any]] = {
    "sage_core.mining:curate_file": _curate,
    "sage_core.sfm._child:reconstruct": _reconstruct,
    "sage_core.assembly._child:assemble_clip": _assemble,
}
