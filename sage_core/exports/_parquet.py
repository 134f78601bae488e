"""Parquet as Hugging Face's ``datasets`` reads it: a row a frame, pictures as its Image feature."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sage_core.exports._attribution import attribution
from sage_core.exports._scene import Scene, appearing, camera_row, picture_name
from sage_core.shards import FrameRecord

_ROWS_AT_ONCE = 64
_CREDITS = ("title", "uploader", "licence", "url")
_SCALARS = {
    "clip": "string",
    "frame": "int32",
    "time_s": "float64",
    "width": "int32",
    "height": "int32",
    "mapped": "bool",
    **dict.fromkeys(_CREDITS, "string"),
}
_LISTS = {
    "intrinsics": "float64",
    "cam_from_world": "float64",
    "anchor_xy": "float32",
    "anchor_depth": "float32",
}
_ARROW = {
    "string": pa.string(),
    "int32": pa.int32(),
    "bool": pa.bool_(),
    "float32": pa.float32(),
    "float64": pa.float64(),
}
_PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def features() -> dict[str, Any]:
    """The columns in the words of ``datasets.Features``."""
    return {
        "image": {"_type": "Image"},
        **{name: {"dtype": kind, "_type": "Value"} for name, kind in _SCALARS.items()},
        **{
            name: {"feature": {"dtype": kind, "_type": "Value"}, "_type": "Sequence"}
            for name, kind in _LISTS.items()
        },
    }


def schema() -> pa.Schema:
    """The columns in Arrow's words; ``features`` are in the metadata, where ``datasets`` looks for them."""
    columns = [("image", _PICTURE), *((name, _ARROW[kind]) for name, kind in _SCALARS.items())]
    columns += [(name, pa.list_(_ARROW[kind])) for name, kind in _LISTS.items()]
    told = json.dumps({"info": {"features": features()}})
    return pa.schema(columns, metadata={"huggingface": told})


def write_parquet(scenes: Sequence[Scene], file: Path) -> None:
    """Write the frames of these scenes into one Parquet file, 64 rows a row group."""
    columns = schema()
    with appearing(file) as partial, pq.ParquetWriter(partial, columns, compression="none") as rows:
        for scene in scenes:
            credit = attribution(scene)
            batch: list[dict[str, Any]] = []
            for frame in scene.frames():
                batch.append(_row(frame, credit))
                if len(batch) == _ROWS_AT_ONCE:
                    rows.write_table(pa.Table.from_pylist(batch, columns))
                    batch = []
            if batch:
                rows.write_table(pa.Table.from_pylist(batch, columns))


def _row(frame: FrameRecord, credit: dict[str, str]) -> dict[str, Any]:
    return {
        "image": {"bytes": frame.image, "path": f"{frame.clip}-{picture_name(frame)}"},
        **camera_row(frame),
        "anchor_xy": frame.anchors.xy.reshape(-1),
        "anchor_depth": frame.anchors.depth,
        **{name: credit[name] for name in _CREDITS},
    }


def card(clips: int, frames: int) -> str:
    """The data set's README, with what the Hub reads of it above."""
    lines = ["---", "configs:", "- config_name: default", "  data_files:", "  - split: train"]
    lines += ["    path: data/*.parquet", "dataset_info:", "  features:"]
    lines += ["  - name: image", "    dtype: image"]
    for name, kind in _SCALARS.items():
        lines += [f"  - name: {name}", f"    dtype: {kind}"]
    for name, kind in _LISTS.items():
        lines += [f"  - name: {name}", f"    sequence: {kind}"]
    lines += ["  splits:", "  - name: train", f"    num_examples: {frames}", "---", ""]
    return "\n".join([*lines, _WORDS.format(clips=clips, frames=frames)])


_WORDS = """# Posed frames

{frames} frames of {clips} clips, mined from video by SAGE: undistorted pictures, their cameras, sparse depth.

- `intrinsics`: fx, fy, cx, cy in pixels; pixel centres are at +0.5.
- `cam_from_world`: 3x4, row by row, OpenCV axes (x right, y down, z forward); each clip has its own world and
  scale.
- `anchor_xy`, `anchor_depth`: points that the frame sees: x and y in pixels one after the other, z in this
  camera.
- `mapped`: whether the frame is one that the reconstruction was made of (else posed against it).

Every clip's author, licence and address are in `ATTRIBUTION.csv` and in each row: they bind who uses this.
"""
