"""Verdicts on films whose scene is known, through the real decoder."""

import json

import numpy as np
import pytest

from sage_core.errors import MediaError
from sage_core.mining import (
    Passage,
    curate_file,
    decide,
    decide_again,
    find_transitions,
    measure,
    read_curation,
)
from sage_core.mining._glance import decide_glance, glance
from sage_core.mining._measure import ContentScorer
from sage_core.types import Reason, Verdict
from sage_core.video.frames import open_frames


def curate(path, config, folder):
    data = curate_file(str(path), "video", config.model_dump(mode="json"), str(folder), "v0")
    return read_curation(json.loads(json.dumps(data)))


@pytest.fixture
def judged(film, config, tmp_path):
    return lambda name, **changed: curate(film(name), config.model_copy(update=changed), tmp_path)


def test_a_travelling_camera_is_wanted(judged, tmp_path):
    curation = judged("travelling")
    assert curation.judgement.verdict is Verdict.ACCEPTED
    (verdict,) = curation.clips
    assert verdict.clip.item == "v0_000000_000120"
    assert verdict.clip.crop is None
    assert verdict.judgement.figures["parallax_share"].value == 1.0
    assert (tmp_path / "contact.jpg").stat().st_size > 5_000


@pytest.mark.parametrize(
    ("name", "reasons"),
    [
        ("still", {Reason.STATIC_CAMERA}),
        ("panning", {Reason.ROTATION_ONLY}),
        ("swarming", {Reason.DYNAMIC_SCENE}),
        ("cards", {Reason.NOT_FOOTAGE}),
    ],
)
def test_what_is_not_wanted_and_why(judged, name, reasons):
    judgement = judged(name).judgement
    assert judgement.verdict is Verdict.REJECTED
    assert judgement.reason in reasons, judgement.message


@pytest.mark.parametrize(
    ("name", "camera"),
    [
        ("still", "static"),
        ("panning", "rotation"),
        ("approached", "zoom"),
        ("travelling", "travelling"),
    ],
)
def test_what_the_camera_does_is_among_the_figures(judged, name, camera):
    (verdict,) = judged(name).clips
    assert verdict.judgement.figures["camera"].value == camera
    assert (verdict.judgement.verdict is Verdict.ACCEPTED) == (name == "travelling")


def test_slides_are_not_footage_however_short_their_shots(judged):
    assert judged("slides").judgement.reason is Reason.NOT_FOOTAGE


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("slides", "slideshow"),
        ("zoomed", "slideshow"),
        ("melted", "slideshow"),
        ("lettered", "text_card"),
        ("cards", "text_card"),
        ("desktop", "screen_capture"),
        ("cartoon", "cartoon"),
        ("split", "split_screen"),
        ("quartered", "split_screen"),
    ],
)
def test_what_is_no_footage_is_named(judged, name, kind):
    judgement = judged(name).judgement
    assert judgement.reason is Reason.NOT_FOOTAGE, judgement.message
    assert judgement.figures["kind"].value == kind


@pytest.mark.parametrize("name", ["travelling", "two_shots", "dissolved", "panning", "swarming"])
def test_footage_is_called_footage(judged, name):
    curation = judged(name)
    pictures = [curation.judgement, *(clip.judgement for clip in curation.clips)]
    assert {judgement.figures["kind"].value for judgement in pictures} == {"footage"}


def test_a_cut_makes_two_shots(judged):
    curation = judged("two_shots")
    assert curation.judgement.verdict is Verdict.ACCEPTED
    first, second = (c.clip for c in curation.clips)
    assert (first.start_frame, second.end_frame) == (0, 150)
    assert 70 <= first.end_frame <= 75 <= second.start_frame <= 80


def test_shots_shorter_than_a_clip_name_the_reason(judged):
    curation = judged("two_shots", min_clip_s=3.0)
    assert curation.judgement.reason is Reason.SHOT_TOO_SHORT
    assert [shot["long_enough"] for shot in curation.shots] == [False, False]
    assert not curation.clips


def test_a_fade_is_cut_away(judged):
    (verdict,) = judged("faded").clips
    assert 32 <= verdict.clip.start_frame <= 40
    assert verdict.clip.end_frame == 154


def test_black_around_a_shot_is_cut_away(judged):
    (verdict,) = judged("led_in").clips
    assert 40 <= verdict.clip.start_frame <= 44
    assert 126 <= verdict.clip.end_frame <= 130
    assert verdict.judgement.verdict is Verdict.ACCEPTED


def test_a_cut_is_found_at_a_variable_rate(judged):
    first, second = (c.clip for c in judged("varied_cut").clips)
    # Of the 75 frames of the first shot, 15 of every 30 are kept and a third of the others.
    cut = sum(n % 30 < 15 or n % 3 == 0 for n in range(75))
    assert cut - 4 <= first.end_frame <= cut <= second.start_frame <= cut + 4


@pytest.mark.parametrize("name", ["flashed", "strobed"])
def test_a_flash_is_no_cut(judged, name):
    curation = judged(name)
    assert len(curation.shots) == 1
    assert curation.judgement.verdict is Verdict.ACCEPTED


@pytest.mark.parametrize("name", ["dissolved", "wiped"])
def test_what_is_neither_shot_is_cut_away(film, config, judged, name):
    (found,) = find_transitions(measure(film(name))[0], config)
    assert found.kind == {"dissolved": Passage.DISSOLVE, "wiped": Passage.WIPE}[name]
    assert found.start == pytest.approx(80, abs=4)
    assert found.end == pytest.approx(100, abs=4)
    first, second = (c.clip for c in judged(name).clips)
    assert (first.end_frame, second.start_frame) == (found.start, found.end)


@pytest.mark.parametrize(
    "name", ["whipped", "travelling", "swarming", "panning", "flashed", "struck", "strobed"]
)
def test_motion_is_no_transition(film, config, name):
    assert find_transitions(measure(film(name))[0], config) == []


def test_letterbox_is_cropped(judged, config):
    (verdict,) = judged("boxed").clips
    left, top, width, height = verdict.clip.crop
    assert (left, width) == (0, 320)
    assert 30 <= top <= 33
    assert top + height <= 210
    # The picture inside is what has to be large enough.
    assert judged("boxed", min_short_side_px=200).judgement.reason is Reason.RESOLUTION


def test_variable_rate_counts_seconds_not_frames(judged):
    (verdict,) = judged("varied").clips
    clip = verdict.clip
    assert clip.end_s - clip.start_s == pytest.approx(6.0, abs=0.1)
    gaps = np.diff(clip.times_s)
    assert gaps.max() < 5 / 30 * 1.06
    late = [frame for frame in clip.pose_frames if frame >= 60]
    assert np.diff(late).max() <= 2


def test_one_frame_and_too_small_are_rejected_without_a_full_decode(judged, tmp_path):
    assert judged("single").judgement.reason is Reason.DURATION
    curation = judged("travelling", min_short_side_px=480)
    assert curation.judgement.reason is Reason.RESOLUTION
    assert not (tmp_path / "contact.jpg").exists()
    record = json.loads((tmp_path / "curation.json").read_text())
    assert record["scores"] is None


def test_stored_scores_give_other_verdicts_under_other_thresholds(film, config, tmp_path):
    before = curate(film("travelling"), config, tmp_path)
    record = json.loads((tmp_path / "curation.json").read_text())
    assert decide_again(record, config) == before
    stricter = config.model_copy(update={"min_travel": 10.0})
    assert decide_again(record, stricter).judgement.reason is Reason.STATIC_CAMERA


def test_measuring_twice_gives_the_same(film, config):
    first, second = (measure(film("panning"))[0] for _ in range(2))
    assert first.to_json() == second.to_json()
    assert decide(first, config, "v0") == decide(second, config, "v0")


def test_a_damaged_file_fails_with_its_reason(film, config, tmp_path):
    data = bytearray(film("travelling").read_bytes())
    data[len(data) // 3 : len(data) // 3 + 40_000] = b"\xa5" * 40_000
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(bytes(data))
    with pytest.raises(MediaError) as caught:
        curate(broken, config, tmp_path)
    assert caught.value.reason in (Reason.DECODE_ERROR, Reason.TRUNCATED, Reason.UNREADABLE)


@pytest.fixture
def glanced(long_film, config, tmp_path):
    """Verdict and record of a film with many key frames."""

    def make(name: str, **changed):
        changed = {"min_clip_s": 4.5, **changed}
        curation = curate(long_film(name), config.model_copy(update=changed), tmp_path)
        return curation.judgement, json.loads((tmp_path / "curation.json").read_text())

    return make


@pytest.mark.parametrize(
    ("name", "reason", "kind"),
    [
        ("still", Reason.STATIC_CAMERA, None),
        ("cards", Reason.NOT_FOOTAGE, "text_card"),
        ("dark", Reason.NOT_FOOTAGE, None),
    ],
)
def test_plain_offenders_fall_at_their_key_frames(glanced, config, tmp_path, name, reason, kind):
    judgement, record = glanced(name)
    assert judgement.reason is reason, judgement.message
    assert record["scores"] is None
    assert len(record["glances"]["index"]) == 4
    assert (tmp_path / "contact.jpg").stat().st_size > 1_000
    if kind:
        assert judgement.figures["kind"].value == kind
    assert (
        decide_again(record, config.model_copy(update={"min_clip_s": 4.5})).judgement == judgement
    )


@pytest.mark.parametrize(
    ("name", "min_clip_s"),
    [
        ("swaying", 4.5),
        ("still", 3.0),  # a clip could hide between two key frames
    ],
)
def test_where_key_frames_are_not_enough_all_is_measured(long_film, config, name, min_clip_s):
    glances, _ = glance(long_film(name), open_frames(long_film(name)).info)
    assert len(glances) == 4
    settings = config.model_copy(update={"min_clip_s": min_clip_s})
    assert decide_glance(glances, 16.0, settings) is None


def test_what_key_frames_rejected_has_no_scores_for_looser_settings(glanced, config):
    record = glanced("still")[1]
    with pytest.raises(MediaError, match="its key frames rejected it"):
        decide_again(record, config.model_copy(update={"min_clip_s": 4.5, "min_travel": 0.0}))


def test_content_is_the_score_that_cut_thresholds_are_given_in(film):
    """PySceneDetect's, whose thresholds people know."""
    detectors = pytest.importorskip("scenedetect.detectors")
    theirs, ours = detectors.ContentDetector(), ContentScorer()
    frames = list(open_frames(film("two_shots"), 320).read())
    found = [ours(frame.image) for frame in frames]
    wanted = [theirs._calculate_frame_score(None, f.image[..., ::-1]) for f in frames]
    assert found == pytest.approx(wanted, abs=1e-9)
    assert max(found) > 15
