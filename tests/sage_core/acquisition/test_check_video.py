"""The look into a fetched file, on real good and bad files."""

import shutil

import pytest

from sage_core.acquisition.check import check_images, check_video
from sage_core.config.acquire import AcquireConfig
from sage_core.types import Reason, Verdict

CONFIG = AcquireConfig()


@pytest.mark.parametrize(
    "name", ["ok.mp4", "front.mp4", "one.mp4", "turned.mp4", "ok.webm", "segment.ts"]
)
def test_good_files_are_accepted(media, name):
    judgement, facts = check_video(media / name, CONFIG)
    assert judgement.verdict is Verdict.ACCEPTED, judgement.message
    assert facts.n_frames == (1 if name == "one.mp4" else 30)
    assert judgement.figures["n_frames"].value == facts.n_frames


@pytest.mark.parametrize(
    ("name", "verdict", "reason", "word"),
    [
        ("cut_tail.mp4", Verdict.FAILED, Reason.TRUNCATED, "announced bytes are missing"),
        ("cut_index.mp4", Verdict.FAILED, Reason.TRUNCATED, "index of frames"),
        ("cut.webm", Verdict.FAILED, Reason.TRUNCATED, ""),
        ("liar.mp4", Verdict.FAILED, Reason.DURATION_MISMATCH, "100.00 s"),
        ("modest.mp4", Verdict.FAILED, Reason.DURATION_MISMATCH, "0.50 s"),
        ("empty.mp4", Verdict.FAILED, Reason.EMPTY_FILE, "0 bytes"),
        ("noise.mp4", Verdict.FAILED, Reason.UNREADABLE, "ffmpeg"),
        ("page.mp4", Verdict.REJECTED, Reason.NOT_VIDEO, "HTML"),
        ("sound.m4a", Verdict.REJECTED, Reason.NOT_VIDEO, "moving pictures"),
    ],
)
def test_bad_files_get_their_reason(media, name, verdict, reason, word):
    judgement, _ = check_video(media / name, CONFIG)
    assert (judgement.verdict, judgement.reason) == (verdict, reason)
    assert word in judgement.message


def test_a_playlist_in_disguise_makes_ffmpeg_open_nothing(media, tmp_path):
    disguised = tmp_path / "playlist.mp4"
    segment = (media / "segment.ts").as_uri()
    disguised.write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{segment}\n#EXT-X-ENDLIST\n"
    )
    judgement, facts = check_video(disguised, CONFIG)
    assert judgement.reason is Reason.NOT_VIDEO
    assert facts is None


def test_a_promise_of_the_site_must_hold(media):
    assert check_video(media / "ok.mp4", CONFIG, 3.4)[0].verdict is Verdict.ACCEPTED
    judgement, _ = check_video(media / "ok.mp4", CONFIG, 60.0)
    assert judgement.reason is Reason.TRUNCATED
    assert "site" in judgement.message


def test_pictures_that_do_not_decode_are_a_failure(media, tmp_path):
    broken = bytearray((media / "front.mp4").read_bytes())
    at = broken.index(b"mdat") + 4
    while at < len(broken):  # the units' lengths and types stay, what they hold goes
        end = at + 4 + int.from_bytes(broken[at : at + 4], "big")
        broken[at + 5 : end] = bytes(value ^ 0xA5 for value in broken[at + 5 : end])
        at = end
    (tmp_path / "broken.mp4").write_bytes(broken)
    judgement, _ = check_video(tmp_path / "broken.mp4", CONFIG)
    assert judgement.reason is Reason.DECODE_ERROR


def test_limits_of_size_and_length(media):
    long = CONFIG.model_copy(update={"max_duration_s": 2.0})
    assert check_video(media / "ok.mp4", long)[0].reason is Reason.TOO_LARGE


def test_a_photo_set_needs_readable_images(tmp_path):
    import cv2
    import numpy as np

    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.jpg"), np.full((48, 64, 3), 40 * number, np.uint8))
    files = sorted(tmp_path.iterdir())
    judgement = check_images(files, CONFIG)
    assert judgement.verdict is Verdict.ACCEPTED
    assert judgement.figures["width"].value == 64
    assert check_images(files[:2], CONFIG).reason is Reason.UNREADABLE
    shutil.copy(__file__, tmp_path / "3.jpg")
    judgement = check_images(sorted(tmp_path.iterdir()), CONFIG)
    assert judgement.reason is Reason.UNREADABLE
    assert "3.jpg" in judgement.message
