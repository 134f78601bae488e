import shutil
from dataclasses import replace

import cv2
import glide
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_core.assembly import ClipInputs, assemble_clip, join_clips, shard_name
from sage_core.assembly.covisibility import covisibility
from sage_core.assembly.pictures import sharpness
from sage_core.config.assemble import AssembleConfig
from sage_core.config.sampling import SamplingConfig
from sage_core.errors import SageError
from sage_core.geometry import camera_centres, pixel_centres
from sage_core.masks import FOLDER, write_masks
from sage_core.sfm.model import frame_name
from sage_core.shards import ShardReader, draw_trajectory
from sage_core.shards.validate import validate
from sage_core.types import Reason, Verdict
from sage_core.video.frames import read_frames

SAMPLING = SamplingConfig(interval_frames=6, jitter_frames=2, tolerance_frames=1)
CONFIG = AssembleConfig(
    long_side_px=360, sampling=SAMPLING, candidates=16, anchors={"min_angle_deg": 2}
)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    xyz = glide.dots(0)
    glide.film(folder / "video.mp4", xyz)
    glide.reconstruct(folder / "model", xyz, 0)
    return ClipInputs(
        glide.make_clip(),
        folder / "video.mp4",
        folder / "model",
        "http://example.org/v",
        figures={"reprojection_px": {"value": 0.3, "threshold": 0.9, "rule": "<="}},
        provenance={"license": "CC-BY"},
    )


@pytest.fixture(scope="module")
def part(inputs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("part")
    judgement = assemble_clip(inputs, folder, CONFIG, seed=7)
    assert judgement.verdict is Verdict.ACCEPTED, judgement
    return folder


def dot_near(image, xy, radius=5):
    """Centre of brightness around a pixel."""
    grid = pixel_centres(image.shape[1], image.shape[0])
    weight = np.maximum(image[..., 0].astype(float) - 100, 0)
    weight *= np.linalg.norm(grid - xy, axis=-1) < radius
    return (weight[..., None] * grid).sum((0, 1)) / max(weight.sum(), 1e-9)


def test_anchors_lie_in_the_middle_of_what_was_filmed(part):
    reader = ShardReader([part])
    frames = reader.frames(reader.names[0], [0, 20, 45, 69])
    for frame in frames:
        image = frame.pixels()
        assert image.shape == (240, 360, 3)
        xy = frame.anchors.xy
        inner = ((xy > 8) & (xy < (352, 232))).all(1)
        assert inner.sum() > 40
        off = np.array([dot_near(image, at) - at for at in xy[inner]])
        # No shift, and no scale error towards the corners; a few dots touch and pull at each other.
        assert np.abs(off.mean(0)).max() < 0.1
        assert np.percentile(np.linalg.norm(off, axis=1), 90) < 0.15


@pytest.mark.parametrize("long_side_px", [200, 100])
def test_pictures_of_the_model_spare_the_video(inputs, tmp_path, long_side_px):
    """Reduced and straightened in one step, or averaged first: dots stay where their anchors are."""
    model = tmp_path / "model"
    shutil.copytree(inputs.model, model)
    (model / "images").mkdir()
    for frame in read_frames(inputs.media, range(glide.FRAMES), 240, glide.CROP):
        cv2.imwrite(str(model / "images" / frame_name(frame.index)), frame.image)
    spared = replace(inputs, model=model, media=tmp_path / "never-opened.mp4")
    config = CONFIG.model_copy(update={"long_side_px": long_side_px})
    judgement = assemble_clip(spared, tmp_path, config, seed=7)
    assert judgement.verdict is Verdict.ACCEPTED, judgement
    reader = ShardReader([tmp_path])
    assert reader.clip(reader.names[0]).times_s == pytest.approx(
        np.arange(glide.FRAMES) / glide.FPS, abs=1e-6
    )
    for frame in reader.frames(reader.names[0], [0, 35, 69]):
        image = frame.pixels()
        assert max(image.shape) == long_side_px
        xy = frame.anchors.xy
        margin = 8 * long_side_px / 360
        inner = ((xy > margin) & (xy < np.array(image.shape[1::-1]) - margin)).all(1)
        off = [dot_near(image, at, 5 * long_side_px / 360) - at for at in xy[inner]]
        assert np.abs(np.median(off, 0)).max() < 0.1


def test_the_shard_keeps_every_promise_and_the_gates_figures(part, inputs):
    assert validate([part]) == []
    clip = ShardReader([part]).clip(inputs.clip.item)
    assert clip.frames.tolist() == list(range(glide.FRAMES))
    np.testing.assert_allclose(clip.times_s, np.arange(glide.FRAMES) / glide.FPS, atol=1e-6)
    np.testing.assert_allclose(
        camera_centres(clip.cam_from_world)[:, 0], 2.8 * np.arange(70) / 70, atol=1e-6
    )
    assert clip.depth_median == pytest.approx(4.0, abs=0.2)
    assert clip.figures["reprojection_px"] == inputs.figures["reprojection_px"]
    assert clip.figures["anchors_median"]["value"] >= 40
    assert clip.provenance == {"license": "CC-BY"}
    assert {t.mode for t in clip.trajectories} >= {"perturbed"}
    assert draw_trajectory(clip, SAMPLING, np.random.default_rng(0)).mode == "perturbed"


def test_the_same_inputs_give_the_same_bytes(part, inputs, tmp_path):
    again = tmp_path / "again"
    again.mkdir()
    assemble_clip(inputs, again, CONFIG, seed=7)
    for file in part.iterdir():
        assert (again / file.name).read_bytes() == file.read_bytes()


def test_covisibility_of_the_clip_falls_with_distance(part, inputs):
    clip = ShardReader([part]).clip(inputs.clip.item)
    share = clip.covisibility.matrix(clip.n_frames)
    assert share[0, 1] > 0.95
    assert share[0, 1] > share[0, 20] > share[0, 40] > 0


def test_a_clip_with_too_few_anchors_is_rejected_before_it_is_decoded(inputs, tmp_path):
    config = CONFIG.model_copy(
        update={"anchors": CONFIG.anchors.model_copy(update={"min_median": 5000})}
    )
    missing = replace(inputs, media=tmp_path / "never-opened.mp4")
    judgement = assemble_clip(missing, tmp_path, config, seed=7)
    assert judgement.reason is Reason.TOO_FEW_ANCHORS
    assert judgement.figures["anchors_median"].threshold == 5000
    assert list(tmp_path.iterdir()) == []


def test_a_clip_without_any_trajectory_is_rejected(inputs, tmp_path):
    never = SamplingConfig(interval_frames=20, covisibility_min=0.99, covisibility_max=1.0)
    judgement = assemble_clip(
        inputs, tmp_path, CONFIG.model_copy(update={"sampling": never}), seed=7
    )
    assert judgement.reason is Reason.NO_TRAJECTORY
    assert judgement.figures["trajectories"].value == 0
    assert list(tmp_path.iterdir()) == []


def test_a_truncated_video_fails_with_its_own_reason(inputs, tmp_path):
    data = inputs.media.read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(data[: len(data) // 2])
    with pytest.raises(SageError) as caught:
        assemble_clip(replace(inputs, media=cut), tmp_path, CONFIG, seed=7)
    assert caught.value.reason in (Reason.UNREADABLE, Reason.TRUNCATED, Reason.DECODE_ERROR)
    assert not list(tmp_path.glob("*.parquet"))


def test_a_video_that_was_swapped_for_another_shape_is_noticed(inputs, tmp_path):
    clip = replace(inputs.clip, crop=(0, 0, 300, 360))
    with pytest.raises(SageError, match="another shape") as caught:
        assemble_clip(replace(inputs, clip=clip), tmp_path, CONFIG, seed=7)
    assert caught.value.reason is Reason.MISSING_INPUT


def test_parts_join_under_a_name_that_follows_from_inputs_and_settings(part, tmp_path):
    assert shard_name({"b": "2", "a": "1"}, "c") == shard_name({"a": "1", "b": "2"}, "c")
    assert shard_name({"a": "1"}, "c") != shard_name({"a": "2"}, "c")
    assert shard_name({"a": "1"}, "c") != shard_name({"a": "1"}, "d")
    frames, clips = join_clips([part], tmp_path, "xyz")
    assert (frames.name, clips.name) == ("frames-xyz.parquet", "clips-xyz.parquet")
    assert validate([tmp_path]) == []


@given(st.lists(st.sets(st.integers(0, 30)), min_size=2, max_size=6))
def test_covisibility_counts_shared_points(sets):
    seen = [np.array(sorted(points), np.int64) for points in sets]
    found = covisibility(seen, 31, 0.1).matrix(len(sets))
    for i, a in enumerate(sets):
        for j, b in enumerate(sets):
            share = len(a & b) / max(1, min(len(a), len(b)))
            expected = 1 if i == j else share if share >= 0.1 else 0
            assert found[i, j] == pytest.approx(expected)


def test_sharpness_falls_with_blur():
    image = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    assert sharpness(image) > 5 * sharpness(cv2.GaussianBlur(image, (7, 7), 0)) > 0


def test_masks_move_with_the_picture_and_take_their_anchors_along(inputs, tmp_path):
    """The dots in a corner of the SfM image are masked, through crop, scale and distortion."""
    model = tmp_path / "model"
    shutil.copytree(inputs.model, model)
    mask = np.zeros((80, 120), bool)
    mask[:30, :40] = True
    write_masks(model / FOLDER, dict.fromkeys(range(0, glide.FRAMES, 2), mask))
    judgement = assemble_clip(replace(inputs, model=model), tmp_path, CONFIG, seed=7)
    assert judgement.verdict is Verdict.ACCEPTED, judgement
    assert validate([tmp_path]) == []
    reader = ShardReader([tmp_path])
    with_mask, without = reader.frames(reader.names[0], [20, 21])
    assert without.masked() is None
    masked = with_mask.masked()
    assert masked.shape == (with_mask.height, with_mask.width)
    # The source pixel at the mask's corner, and where it lies after undistortion to 360 x 240.
    corner = glide.CAMERA.undistort_points(np.array([[80.0, 60.0]]))[0] * 1.5
    column, row = np.round(corner).astype(int)
    assert masked[: row - 1, : column - 1].all()
    assert not masked[row + 2 :].any()
    assert not masked[:, column + 2 :].any()
    x, y = np.floor(with_mask.anchors.xy).astype(int).T
    assert not masked[y, x].any()
    x, y = np.floor(without.anchors.xy).astype(int).T
    assert masked[y, x].any()
