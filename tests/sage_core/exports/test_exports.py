"""Every form is read back by whoever it is for, and says what the shard says."""

import csv
import json
import signal
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).parents[1] / "shards"))
from shard_scene import make_clip

from sage_core.acquisition.lists import is_camera_file, read_list
from sage_core.errors import SageError
from sage_core.exports import ATTRIBUTION, FORMS, export
from sage_core.exports._colmap import _quaternion
from sage_core.exports._nerfstudio import opengl_world_from_camera
from sage_core.geometry import project, transform
from sage_core.sfm.model import _matrix
from sage_core.shards import ShardReader, ShardWriter

URL = "https://www.youtube.com/watch?v=abcdefghijk"
WALK, PHOTOS, LOCAL = (f"v{n}_000000_000100" for n in range(3))
TOLD = {"title": "A walk, \"slow\"", "uploader": "Ann", "uploader_id": "@ann", "webpage_url": URL,
        "license": "Creative Commons Attribution license (reuse allowed)"}  # fmt: skip


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Two shards: a walk and a photo set; a local film."""
    folder = tmp_path_factory.mktemp("shards")
    for shard, members in {"aa": [(WALK, True), (PHOTOS, False)], "bb": [(LOCAL, True)]}.items():
        with ShardWriter(folder, shard) as writer:
            for seed, (name, ordered) in enumerate(members):
                info, *rest = make_clip(name, n=20, seed=seed, ordered=ordered)
                told = TOLD if name == WALK else {}
                writer.add(replace(info, provenance=told), *rest)
    return {
        folder / "frames-aa.parquet": [PHOTOS, WALK],
        folder / "frames-bb.parquet": [LOCAL],
    }


@pytest.fixture(scope="module")
def reader(shards):
    return ShardReader(shards)


@pytest.fixture(scope="module")
def exported(shards, tmp_path_factory):
    """Every form, written once."""
    base = tmp_path_factory.mktemp("out")
    done = {form: export(shards, form, base / form) for form in FORMS}
    return base, done


def frames(reader, clip):
    return reader.frames(clip, range(reader.n_frames(clip)))


def test_camera_files_are_read_by_our_own_reader_of_realestate10k(exported, reader):
    base, done = exported
    folder = base / "re10k"
    assert sorted(p.name for p in folder.iterdir()) == [ATTRIBUTION, f"{WALK}.txt"]
    assert set(done["re10k"].left_out) == {PHOTOS, LOCAL}
    assert is_camera_file(folder / f"{WALK}.txt")
    (listed,) = read_list(folder / f"{WALK}.txt")
    info = reader.clip(WALK)
    assert listed.source == URL
    assert listed.section == pytest.approx((info.times_s[0], info.times_s[-1]), abs=1e-6)
    rows = np.loadtxt(folder / f"{WALK}.txt", skiprows=1)
    assert rows.shape == (20, 19)
    first = frames(reader, WALK)[0]
    focal = first.intrinsics[0, 0] / first.width, first.intrinsics[1, 1] / first.height
    np.testing.assert_array_equal(rows[0, 1:7], [*focal, 0.5, 0.5, 0, 0])
    np.testing.assert_array_equal(rows[:, 7:].reshape(-1, 3, 4), info.cam_from_world)


def test_colmap_reads_back_what_the_shard_holds(exported, reader):
    pycolmap = pytest.importorskip("pycolmap")
    base, _ = exported
    model = pycolmap.Reconstruction(base / "colmap" / WALK / "sparse" / "0")
    points = reader.points(WALK)
    assert sorted(model.points3D) == points.ids.tolist()
    for key, xyz, rgb in zip(points.ids.tolist(), points.xyz, points.rgb, strict=True):
        np.testing.assert_allclose(model.points3D[key].xyz, xyz)
        assert model.points3D[key].color.tolist() == rgb.tolist()
    assert model.num_images() == 20
    assert model.num_cameras() == 1
    for image, frame in zip(
        sorted(model.images.values(), key=lambda i: i.name), frames(reader, WALK), strict=True
    ):
        np.testing.assert_allclose(
            image.cam_from_world().matrix(), frame.cam_from_world, atol=1e-12
        )
        assert image.camera.params.tolist() == [80.0, 80.0, 48.0, 32.0]
        assert (image.camera.model.name, image.camera.width) == ("PINHOLE", 96)
        np.testing.assert_allclose([p.xy for p in image.points2D], frame.anchors.xy)
        assert [p.point3D_id for p in image.points2D] == frame.anchors.point.tolist()
        assert (base / "colmap" / WALK / "images" / image.name).read_bytes() == frame.image
    observed = sum(point.track.length() for point in model.points3D.values())
    assert observed == sum(len(f.anchors) for f in frames(reader, WALK))
    model.update_point_3d_errors()  # by COLMAP's own projection of what was read
    assert model.compute_mean_reprojection_error() < 1e-4


@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1))
def test_quaternions_stand_for_the_same_rotation(q):
    R = _matrix([*q, 0, 0, 0])[:, :3]
    found = _quaternion(R)
    assert found[0] >= 0
    np.testing.assert_allclose(_matrix([*found, 0, 0, 0])[:, :3], R, atol=1e-9)


def test_nerfstudio_looks_along_minus_z_with_y_up(exported, reader):
    base, _ = exported
    folder = base / "nerfstudio" / WALK
    told = json.loads((folder / "transforms.json").read_text())
    assert len(told["frames"]) == 20
    points = reader.points(WALK)
    for entry, frame in zip(told["frames"], frames(reader, WALK), strict=True):
        world_from_gl = np.array(entry["transform_matrix"])
        gl = transform(np.linalg.inv(world_from_gl)[:3], points.xyz.astype(float))
        depth = -gl[:, 2]
        x = entry["fl_x"] * gl[:, 0] / depth + entry["cx"]
        y = entry["cy"] - entry["fl_y"] * gl[:, 1] / depth
        xy, z = project(frame.intrinsics, transform(frame.cam_from_world, points.xyz))
        np.testing.assert_allclose(depth, z, rtol=1e-9)
        np.testing.assert_allclose(np.stack([x, y], -1)[z > 0.1], xy[z > 0.1], rtol=1e-6, atol=1e-6)
        assert (folder / entry["file_path"]).read_bytes() == frame.image
    assert np.linalg.det(opengl_world_from_camera(frame.cam_from_world)[:3, :3]) == pytest.approx(1)
    ply = (folder / told["ply_file_path"]).read_bytes()
    head, body = ply.split(b"end_header\n", 1)
    assert b"element vertex 600" in head
    assert struct.unpack_from("<fff3B", body) == (*points.xyz[0].tolist(), *points.rgb[0].tolist())


def test_webdataset_gives_samples(exported, reader):
    wds = pytest.importorskip("webdataset")
    base, _ = exported
    files = sorted(str(p) for p in (base / "webdataset").glob("*.tar"))
    assert len(files) == 2
    samples = list(wds.WebDataset(files, shardshuffle=False, empty_check=False).decode("rgb8"))
    assert len(samples) == 60
    by_key = {sample["__key__"]: sample for sample in samples}
    for frame in frames(reader, WALK):
        sample = by_key[f"{WALK}-{frame.frame:06d}"]
        assert sample["jpg"].shape == (frame.height, frame.width, 3)
        assert np.abs(sample["jpg"].astype(int) - frame.pixels()).mean() < 2  # another JPEG decoder
        assert sample["json"]["licence"] == "cc-by"
        np.testing.assert_array_equal(
            sample["json"]["cam_from_world"], frame.cam_from_world.ravel()
        )
        wanted = np.column_stack([frame.anchors.xy, frame.anchors.depth])
        np.testing.assert_array_equal(sample["anchors.npy"], wanted)


def test_parquet_is_what_hugging_face_reads(exported, reader):
    base, _ = exported
    files = sorted((base / "huggingface" / "data").glob("*.parquet"))
    assert [f.name for f in files] == [
        "train-00000-of-00002.parquet",
        "train-00001-of-00002.parquet",
    ]
    table = pq.read_table(files[0])
    rows = [row for row in table.to_pylist() if row["clip"] == WALK]
    for row, frame in zip(rows, frames(reader, WALK), strict=True):
        assert row["image"] == {"bytes": frame.image, "path": f"{WALK}-{frame.frame:06d}.jpg"}
        assert row["licence"] == "cc-by"
        assert row["intrinsics"] == [80.0, 80.0, 48.0, 32.0]
        assert row["anchor_depth"] == frame.anchors.depth.tolist()
    told = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert list(told) == table.column_names
    assert told["image"] == {"_type": "Image"}
    card = (base / "huggingface" / "README.md").read_text()
    assert "num_examples: 60" in card


def test_datasets_loads_the_folder_with_pictures(exported, reader, tmp_path):
    datasets = pytest.importorskip("datasets", reason="needs Hugging Face's datasets")
    base, _ = exported
    loaded = datasets.load_dataset(
        str(base / "huggingface"), split="train", cache_dir=str(tmp_path)
    )
    assert loaded.num_rows == 60
    row = next(row for row in loaded if row["clip"] == WALK)
    frame = frames(reader, WALK)[0]
    assert np.abs(np.asarray(row["image"]).astype(int) - frame.pixels()).mean() < 2
    assert row["cam_from_world"] == frame.cam_from_world.ravel().tolist()


@pytest.mark.parametrize("form", FORMS)
def test_who_made_it_goes_with_every_form(exported, form):
    base, done = exported
    with (base / form / ATTRIBUTION).open(newline="") as file:
        rows = {row["clip"]: row for row in csv.DictReader(file)}
    assert set(rows) == {WALK, PHOTOS, LOCAL} - set(done[form].left_out)
    walk = rows[WALK]
    assert (walk["title"], walk["uploader"], walk["uploader_id"]) == (
        'A walk, "slow"',
        "Ann",
        "@ann",
    )
    assert (walk["licence"], walk["url"]) == ("cc-by", URL)
    if LOCAL in rows:
        assert rows[LOCAL]["licence"] == "unknown"


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_same_clips_give_the_same_bytes(exported, shards, tmp_path):
    base, _ = exported
    for form in FORMS:
        export(shards, form, tmp_path / form)
        assert contents(tmp_path / form) == contents(base / form), form
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_a_killed_export_goes_on_and_ends_the_same(exported, shards, tmp_path):
    base, _ = exported
    script = f"""
import os, signal
from pathlib import Path
from sage_core.exports import export
shards = {{Path(p): clips for p, clips in {[(str(p), c) for p, c in shards.items()]}}}
export(shards, "colmap", Path({str(tmp_path / "out")!r}),
       lambda done, _all: os.kill(os.getpid(), signal.SIGKILL) if done == 2 else None)
"""
    killed = subprocess.run([sys.executable, "-c", script], cwd=Path.cwd())
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    begun = tmp_path / ".out.partial"
    first = {p: p.stat().st_ino for p in begun.rglob("*.bin")}
    assert first
    export(shards, "colmap", tmp_path / "out")
    assert contents(tmp_path / "out") == contents(base / "colmap")
    inodes = {p.stat().st_ino for p in (tmp_path / "out").rglob("*.bin")}
    assert set(first.values()) <= inodes  # not written twice


def test_what_was_begun_for_something_else_is_begun_anew(shards, tmp_path):
    begun = tmp_path / ".out.partial"
    begun.mkdir()
    (begun / ".export.json").write_text('{"key": "other"}')
    (begun / "left.txt").write_text("of another export")
    export(shards, "nerfstudio", tmp_path / "out")
    assert not (tmp_path / "out" / "left.txt").exists()


def test_what_cannot_be_exported_is_said(shards, tmp_path):
    (tmp_path / "there").mkdir()
    files = list(shards)
    for form, out, chosen, words in [
        ("colmap", "there", shards, "is there already"),
        ("mesh", "new", shards, "no form 'mesh'"),
        ("colmap", "new", {}, "no clip to export"),
        ("re10k", "new", {files[1]: [LOCAL]}, "no clip can be exported as re10k: it has no URL"),
    ]:
        with pytest.raises(SageError, match=words):
            export(chosen, form, tmp_path / out)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["there"]


def test_pictures_are_those_of_the_shard(exported, reader):
    base, _ = exported
    name = f"{frames(reader, WALK)[3].frame:06d}.jpg"
    image = cv2.imread(str(base / "nerfstudio" / WALK / "images" / name))
    assert image.shape == (64, 96, 3)
