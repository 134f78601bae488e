"""Train/test hygiene: a shard against evaluation sets of every kind that hold pictures of it, or do not."""

import json

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from flows.cli import app
from sage_core.errors import MediaError
from sage_core.shards import ShardReader
from sage_core.shards.overlap import find_overlap, likeness
from sage_core.world.clips import RoomClip, write_room_shard


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """A shard of two walks of 16 frames."""
    folder = tmp_path_factory.mktemp("shards")
    write_room_shard(
        folder, [RoomClip(seed, 16, 60, fps=3, width=160, height=120) for seed in (3, 4)]
    )
    return folder


@pytest.fixture(scope="module")
def pictures(shards):
    """Clip -> its frames, RGB."""
    reader = ShardReader([shards])
    return {
        clip: [frame.pixels() for frame in reader.frames(clip, range(reader.n_frames(clip)))]
        for clip in reader.names
    }


@pytest.fixture(scope="module")
def unseen():
    """Pictures of another room."""
    return list(RoomClip(9, 12, 10, fps=3, width=160, height=120).rendered()[0])


def write(folder, images, name="{:03d}.jpg", quality=80):
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        path = folder / name.format(number)
        assert cv2.imwrite(str(path), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return folder


def cropped(image):
    height, width = image.shape[:2]
    return image[int(0.1 * height) : int(0.93 * height), int(0.12 * width) : int(0.97 * width)]


@pytest.mark.parametrize(
    ("edit", "mirrored"),
    [
        (lambda image: image, False),
        (lambda image: cv2.resize(cropped(image), (320, 240)), False),
        (lambda image: cropped(image[:, ::-1]), True),
    ],
    ids=["recoded", "cropped", "mirrored"],
)
def test_photos_of_a_clip_are_found_and_named(shards, pictures, unseen, tmp_path, edit, mirrored):
    clip, images = next(iter(pictures.items()))
    taken = [edit(images[i]) for i in (2, 7, 12)]
    folder = write(tmp_path / "photos", [*unseen[:3], *taken], quality=50)
    found = find_overlap([shards], [folder])
    frames = ShardReader([shards]).clip(clip).frames
    most: dict[str, int] = {}
    for overlap in sorted(found, key=lambda o: o.correlation):
        most[overlap.picture] = overlap.frame
    # Neighbours in the film may be found, too, but are less alike.
    assert most == {f"{3 + k:03d}.jpg": int(frames[i]) for k, i in enumerate((2, 7, 12))}
    assert {o.clip for o in found} == {clip}
    assert {o.mirrored for o in found} == {mirrored}
    assert all(o.source == str(folder) and o.correlation >= 0.5 for o in found)


def test_the_other_way_round_a_frame_may_be_the_crop(shards, pictures, tmp_path):
    clip, images = next(iter(pictures.items()))
    wide = cv2.copyMakeBorder(images[5], 13, 10, 15, 20, cv2.BORDER_REFLECT)
    found = find_overlap([shards], [write(tmp_path / "wide", [wide])])
    frames = ShardReader([shards]).clip(clip).frames
    assert int(frames[5]) in {o.frame for o in found}


def test_other_rooms_overlap_with_nothing(shards, unseen, tmp_path):
    assert find_overlap([shards], [write(tmp_path / "other", unseen)]) == []


def test_depth_maps_are_no_pictures_and_videos_and_shards_are(shards, pictures, tmp_path):
    images = next(iter(pictures.values()))
    folder = write(tmp_path / "scene" / "seq-01", images[:2], "frame-{:06d}.color.png")
    depth = np.full((120, 160), 1500, np.uint16)
    assert cv2.imwrite(str(folder / "frame-000000.depth.png"), depth)
    film = cv2.VideoWriter(
        str(tmp_path / "scene" / "film.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 2, (160, 120)
    )
    for image in images[4:9]:
        film.write(np.ascontiguousarray(image[..., ::-1]))
    film.release()
    names = [o.picture for o in find_overlap([shards], [tmp_path / "scene"])]
    assert {"seq-01/frame-000000.color.png", "seq-01/frame-000001.color.png"} <= set(names)
    assert any(name.startswith("film.avi at ") for name in names)
    assert not any("depth" in name for name in names)
    itself = find_overlap([shards], [shards])
    assert {o.picture for o in itself} == {f"{o.clip}, frame {o.frame}" for o in itself}
    assert len(itself) == 32


def test_what_is_no_evaluation_set_is_named(shards, tmp_path):
    with pytest.raises(MediaError, match="there is no evaluation set"):
        find_overlap([shards], [tmp_path / "absent"])
    with pytest.raises(MediaError, match="holds no image and no video"):
        find_overlap([shards], [tmp_path])
    (tmp_path / "bad.png").write_bytes(b"words")
    with pytest.raises(MediaError, match=r"bad\.png cannot be decoded"):
        find_overlap([shards], [tmp_path])


def test_likeness_is_of_details_not_of_light(pictures, unseen):
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (*unseen[:2],)]
    one = grey[0]
    assert likeness(one, np.clip(0.7 * one + 40, 0, 255).astype(np.uint8)) > 0.97
    assert likeness(one, np.roll(one, 3, axis=1)) > 0.8
    assert likeness(one, cv2.GaussianBlur(one, (0, 0), 9)) < 0.5
    assert likeness(one, np.zeros_like(one)) == 0


def test_the_command_tells_by_table_json_and_exit_status(shards, pictures, unseen, tmp_path):
    clip, images = next(iter(pictures.items()))
    seen, other = write(tmp_path / "seen", images[3:4]), write(tmp_path / "other", unseen[:1])
    run = CliRunner().invoke
    command = ["shards", "overlap", str(shards), "--against"]
    done = run(app, [*command, str(seen)])
    assert done.exit_code == 1
    assert "are in evaluation sets" in done.output
    told = run(app, [*command, str(seen), "--against", str(other), "--json"])
    assert told.exit_code == 1
    found = json.loads(told.stdout)
    assert {(o["clip"], o["picture"], o["source"]) for o in found} == {(clip, "000.jpg", str(seen))}
    clean = run(app, [*command, str(other), "--json"])
    assert (clean.exit_code, json.loads(clean.stdout)) == (0, [])
