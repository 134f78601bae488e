"""Frame-exact sequential reading, on files that ffmpeg makes for real."""

import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from sage_core.errors import MediaError
from sage_core.types import Reason
from sage_core.video import decoder
from sage_core.video.decoder import digest, find_entries
from sage_core.video.frames import open_frames, read_frames, scaled_size

WIDTH, HEIGHT, COUNT = 192, 108, 60


def _coded(index: int) -> np.ndarray:
    """A picture whose blocks spell its frame number in binary, so that decoding can be checked."""
    image = np.full((HEIGHT, WIDTH, 3), 64, np.uint8)
    for bit in range(8):
        if index >> bit & 1:
            image[:, bit * 24 : (bit + 1) * 24] = 200
    return image


def _number(image: np.ndarray) -> int:
    width = image.shape[1] / 8
    centres = [image[:, int((bit + 0.5) * width)].mean() > 128 for bit in range(8)]
    return sum(1 << bit for bit, on in enumerate(centres) if on)


def _ffmpeg(*arguments: str, frames: list[np.ndarray] | None = None) -> None:
    import imageio_ffmpeg

    data = b"".join(frame.tobytes() for frame in frames) if frames else None
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", *arguments]
    subprocess.run(command, input=data, check=True)


@pytest.fixture(scope="module")
def coded(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("coded") / "coded.mp4"
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{WIDTH}x{HEIGHT}", "-r", "30", "-i", "-"]
    encode = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "25", "-bf", "2", "-crf", "18"]
    faststart = ["-movflags", "+faststart"]
    frames = [_coded(index) for index in range(COUNT)]
    _ffmpeg(*raw, *encode, *faststart, str(path), frames=frames)
    return path


def test_every_frame_comes_once_and_in_order(coded):
    frames = list(open_frames(coded, 96).read())
    assert [frame.index for frame in frames] == list(range(COUNT))
    assert [_number(frame.image) for frame in frames] == list(range(COUNT))
    assert frames[0].image.shape == (54, 96, 3)


def test_chosen_frames_are_the_right_ones_with_their_times(coded):
    wanted = [0, 3, 24, 25, 26, 51, 59]
    frames = list(read_frames(coded, wanted, None))
    assert [_number(frame.image) for frame in frames] == wanted
    np.testing.assert_allclose([f.time_s for f in frames], np.array(wanted) / 30, atol=1e-3)


def test_crop_and_scale_keep_the_picture_where_the_formula_says(coded):
    (frame,) = read_frames(coded, [0b010101], 84, crop=(24, 0, 168, 108))
    assert frame.image.shape == (54, 84, 3)
    lit = frame.image[27, :, 0] > 128
    # Bits 2 and 4 are lit at source columns 48..72 and 96..120, so at (x - 24) / 2 in the crop.
    assert lit[13:23].all()
    assert lit[37:47].all()
    assert not lit[1:11].any()
    assert not lit[49:].any()


def test_unordered_indices_are_a_programming_error(coded):
    with pytest.raises(ValueError, match="increasing"):
        list(open_frames(coded).read([3, 2]))
    with pytest.raises(ValueError, match="leave"):
        list(open_frames(coded).read([COUNT]))


def test_rotation_flag_is_applied(coded, tmp_path):
    _ffmpeg("-display_rotation", "90", "-i", str(coded), "-c", "copy", str(tmp_path / "r.mp4"))
    reader = open_frames(tmp_path / "r.mp4", 96)
    assert (reader.info.width, reader.info.height) == (HEIGHT, WIDTH)
    assert next(iter(reader.read())).image.shape == (96, 54, 3)


def test_variable_rate_keeps_presentation_times(coded, tmp_path):
    slow = "setpts='if(lt(N,30),N,30+(N-30)*3)/30/TB'"
    target = str(tmp_path / "vfr.mp4")
    _ffmpeg("-i", str(coded), "-vf", slow, "-fps_mode", "vfr", "-c:v", "libx264", target)
    times = open_frames(target).info.times_s
    assert len(times) == COUNT
    np.testing.assert_allclose(np.diff(times)[[5, 45]], [1 / 30, 3 / 30], atol=2e-3)


def test_truncated_file_says_so(coded, tmp_path):
    data = coded.read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(MediaError) as caught:
        list(open_frames(cut, 96).read())
    assert caught.value.reason in (Reason.DECODE_ERROR, Reason.TRUNCATED, Reason.UNREADABLE)


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"\0" * 5000])
def test_not_a_video(content, tmp_path):
    path = tmp_path / "x.mp4"
    path.write_bytes(content)
    with pytest.raises(MediaError) as caught:
        open_frames(path)
    assert caught.value.reason is Reason.UNREADABLE


def test_image_folder(tmp_path):
    for index in (2, 0, 1):
        cv2.imwrite(str(tmp_path / f"{index:03d}.png"), _coded(index))
    (tmp_path / "notes.txt").write_text("not an image")
    reader = open_frames(tmp_path, 96)
    assert not reader.info.ordered
    assert [_number(frame.image) for frame in reader.read()] == [0, 1, 2]
    (tmp_path / "001.png").write_bytes(b"broken")
    with pytest.raises(MediaError, match=r"001\.png"):
        list(reader.read())


def test_scaled_size_never_enlarges():
    assert scaled_size(640, 480, 1024) == (640, 480)
    assert scaled_size(1280, 720, 518) == (518, 291)
    assert scaled_size(10_000, 2, 100) == (100, 1)


@pytest.fixture(scope="module")
def open_gop(coded, tmp_path_factory) -> Path:
    """The same pictures; before each key frame are shown some that come after it in the file."""
    path = tmp_path_factory.mktemp("coded") / "open.mp4"
    options = "open-gop=1:keyint=12:min-keyint=12:bframes=3:b-adapt=0:scenecut=0"
    _ffmpeg("-i", str(coded), "-c:v", "libx264", "-crf", "12", "-x264-params", options, str(path))
    return path


@pytest.mark.parametrize("step", [1, 2, 7, 40])
def test_skipping_past_key_frames_keeps_count(open_gop, step):
    wanted = list(range(step // 2, COUNT, step))
    frames = read_frames(open_gop, wanted, None)
    assert [_number(frame.image) for frame in frames] == wanted


@pytest.fixture(scope="module")
def passed(open_gop) -> tuple[np.ndarray, dict[int, int]]:
    """Times and digests of a pass at half size that looks at every second picture."""
    reader = open_frames(open_gop, 96)
    seen = {frame.index: digest(frame.image) for frame in reader.read(range(0, COUNT, 2))}
    return reader.info.times_s, seen


def test_entries_lead_to_the_pictures_of_the_pass(open_gop, passed, monkeypatch):
    monkeypatch.setattr(decoder, "ENTRY_STEP_S", 0.5)
    entries = find_entries(open_gop, (96, 54), *passed)
    assert len(entries) >= 2
    assert any(entry.frame > entry.packet for entry in entries), "no leading pictures: test is void"
    for entry in entries:
        wanted = list(range(entry.frame, COUNT, 5))
        frames = read_frames(open_gop, wanted, None, entry=entry)
        assert [_number(frame.image) for frame in frames] == wanted


def test_an_entry_that_comes_too_late_is_not_used(open_gop, passed, monkeypatch):
    monkeypatch.setattr(decoder, "ENTRY_STEP_S", 0.5)
    entry = find_entries(open_gop, (96, 54), *passed)[0]
    (frame,) = read_frames(open_gop, [entry.frame - 3], None, entry=entry)
    assert _number(frame.image) == entry.frame - 3


def test_where_pictures_differ_from_the_pass_there_is_no_entry(open_gop, passed, monkeypatch):
    monkeypatch.setattr(decoder, "ENTRY_STEP_S", 0.5)
    times, seen = passed
    assert find_entries(open_gop, (96, 54), times, {n: d ^ 1 for n, d in seen.items()}) == []


def test_a_picture_that_stands_still_gives_no_entry(tmp_path, monkeypatch):
    monkeypatch.setattr(decoder, "ENTRY_STEP_S", 0.5)
    path = tmp_path / "still.mp4"
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{WIDTH}x{HEIGHT}", "-r", "30", "-i", "-"]
    _ffmpeg(*raw, "-c:v", "libx264", "-qp", "0", "-g", "20", str(path), frames=[_coded(9)] * COUNT)
    reader = open_frames(path)
    seen = {frame.index: digest(frame.image) for frame in reader.read()}
    assert len(set(seen.values())) == 1
    assert find_entries(path, (-1, -1), reader.info.times_s, seen) == []


def test_a_picture_of_other_channels_is_a_decode_error(coded, monkeypatch):
    """As decord gives of a film whose damaged header names another pixel format: 12 of them, in a row."""

    class Odd:
        def asnumpy(self):
            return np.zeros((320, 8, 12), np.uint8)

    opened = decoder.Decoder(coded)
    monkeypatch.setattr(opened._reader, "next", Odd)
    with pytest.raises(MediaError, match="shape") as caught:
        opened.next()
    assert caught.value.reason is Reason.DECODE_ERROR
