"""``sage shards inspect``: what is in the shards, as a table, and a frame with its anchors as a picture."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sage_core.shards.read import ShardReader, shard_files
from sage_core.shards.records import FrameRecord

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def clip_facts(reader: ShardReader, name: str) -> dict[str, Any]:
    """A clip in numbers: frames, seconds, size, anchors a frame, points, candidate samples, best score."""
    clip = reader.clip(name)
    # A handful of frames tells the usual number of anchors; reading all would read every picture.
    rows = np.unique(np.linspace(0, clip.n_frames - 1, 5).astype(int)).tolist()
    sample = reader.frames(name, rows)
    return {
        "clip": name,
        "frames": clip.n_frames,
        "seconds": round(float(np.ptp(clip.times_s)), 2) if clip.ordered else None,
        "size": f"{sample[0].width}x{sample[0].height}",
        "anchors": int(np.median([len(frame.anchors) for frame in sample])),
        "points": len(reader.points(name).ids),
        "samples": len(clip.trajectories),
        "best_score": round(max((t.score for t in clip.trajectories), default=0.0), 3),
    }


def inspect(paths: Iterable[str | Path], *, draw: Path | None, console: Console) -> None:
    """Print a table for each shard; draw the middle frame of the first clip with its anchors.

    Shards are shown one by one, so that a clip that was assembled twice is shown twice.

    Raises:
        ShardError: no shards there, or one that cannot be read.
    """
    files = shard_files(paths)
    for path in files:
        reader = ShardReader([path])
        console.print(summary_table(reader, path.stem.removeprefix("frames-")))
    if draw is not None:
        reader = ShardReader(files[:1])
        name = reader.names[0]
        row = reader.n_frames(name) // 2
        draw_frame(reader, name, row, draw)
        console.print(f"frame {reader.clip(name).frames[row]} of clip {name} is drawn in {draw}")


def summary_table(reader: ShardReader, name: str) -> Table:
    """All clips of a shard as a table for the terminal."""
    from rich.table import Table

    facts = [clip_facts(reader, name) for name in reader.names]
    frames = sum(fact["frames"] for fact in facts)
    title = f"shard {name}: {len(facts)} clips, {frames} frames"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in facts[0]:
        # Ids may take two lines on a narrow terminal; half a number is none.
        if column == "clip":
            table.add_column(column, overflow="fold")
        else:
            table.add_column(column.removeprefix("best_"), justify="right", no_wrap=True)
    for fact in facts:
        table.add_row(*("" if value is None else str(value) for value in fact.values()))
    return table


def anchor_picture(frame: FrameRecord) -> NDArray[np.uint8]:
    """The frame with a dot on every anchor, red near to blue far, uint8 [height, width, 3] RGB."""
    from sage_core.report.pictures import with_anchors

    depth = frame.anchors.depth
    near, far = np.percentile(depth, [5, 95]) if len(depth) else (1.0, 1.0)
    return with_anchors(frame.pixels(), frame.anchors.xy, depth, float(near), float(far))


def draw_frame(reader: ShardReader, clip: str, row: int, path: Path) -> None:
    """Write :func:`anchor_picture` of one frame as a JPEG."""
    import cv2

    picture = anchor_picture(reader.frames(clip, [row])[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    done, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
    assert done, "OpenCV encodes any uint8 picture as JPEG"
    path.write_bytes(data.tobytes())
