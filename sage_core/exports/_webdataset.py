"""WebDataset: a tar file a shard, a sample a frame; the same bytes each time."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from sage_core.exports._attribution import attribution
from sage_core.exports._scene import Scene, appearing, camera_row
from sage_core.shards import FrameRecord


def write_tar(scenes: Sequence[Scene], file: Path) -> None:
    """Write the frames of these scenes into a tar.

    A sample, keyed ``<clip>-<frame>``: ``jpg``, ``json`` (camera, licence, uploader, URL), ``anchors.npy``
    (float32 [n, 3]: x and y in pixels, centres at +0.5, and depth in SfM units).
    """
    with (
        appearing(file) as partial,
        tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for scene in scenes:
            credit = attribution(scene)
            for frame in scene.frames():
                for suffix, data in _parts(frame, credit):
                    _add(tar, f"{scene.name}-{frame.frame:06d}.{suffix}", data)


def _parts(frame: FrameRecord, credit: dict[str, str]) -> Iterator[tuple[str, bytes]]:
    yield "jpg", frame.image
    told = {name: credit[name] for name in ("title", "uploader", "licence", "url")}
    yield "json", json.dumps({**camera_row(frame), **told}, sort_keys=True).encode()
    anchors = np.column_stack([frame.anchors.xy, frame.anchors.depth]).astype("<f4")
    stream = io.BytesIO()
    np.save(stream, anchors.reshape(-1, 3), allow_pickle=False)
    yield "anchors.npy", stream.getvalue()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)  # time, owner and group are zero, the mode 0644
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))
