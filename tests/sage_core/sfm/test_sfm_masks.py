"""What lies under masks stays out of features, poses, anchors: a plug-in masks the right third of a walk."""

from dataclasses import replace
from pathlib import Path

import box_room
import numpy as np
import pytest

from sage_core.config.masks import MaskConfig
from sage_core.config.reconstruct import ReconstructConfig
from sage_core.errors import ConfigError, SageError
from sage_core.geometry import umeyama
from sage_core.geometry.poses import camera_centres
from sage_core.masks import FOLDER, read_mask
from sage_core.sfm import load_clip_model, model_anchors, reconstruct
from sage_core.sfm.attempt import CpuClock, Task
from sage_core.sfm.masking import judged, masks_before, merged, unmasked
from sage_core.types import Judgement, Reason, Verdict

FRAMES = 21
CONFIG = ReconstructConfig(masks=MaskConfig(movers="halves:right_third"))
CLIP = box_room.make_clip(FRAMES, key_step=4, pose_step=2)


@pytest.fixture(scope="module")
def masked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("masked")
    poses = box_room.walk(FRAMES)
    box_room.photograph(folder / "media", poses)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=":")
        result = reconstruct(CLIP, folder / "media", folder / "out", CONFIG, seed=1)
    assert result.judgement.verdict is Verdict.ACCEPTED, result.judgement.message
    return folder, poses, result


def test_nothing_under_a_mask_is_observed(masked):
    folder, _, _ = masked
    model = load_clip_model(folder / "out")
    assert {frame.mapped for frame in model.frames} == {True, False}
    for frame in model.frames:
        assert len(frame.xy) > 50
        assert frame.xy[:, 0].max() < 320.5


def test_the_camera_is_found_from_the_rest(masked):
    folder, poses, _ = masked
    model = load_clip_model(folder / "out")
    truth = camera_centres(poses[[frame.frame for frame in model.frames]])
    found = camera_centres(np.stack([frame.cam_from_world for frame in model.frames]))
    assert np.linalg.norm(umeyama(truth, found).points(found) - truth, axis=1).max() < 0.02


def test_masks_lie_beside_the_model_and_their_share_is_a_figure(masked):
    folder, _, result = masked
    mask = read_mask(folder / "out" / FOLDER, 4)
    assert mask.shape == (240, 320)
    assert mask[:, 214:].all()
    assert not mask[:, :213].any()
    assert result.judgement.figures["masked_share"].value == pytest.approx(1 / 3, abs=0.01)
    assert result.cpu_s["masks"] > 0


def test_masks_that_rule_the_picture_reject_the_clip(masked, tmp_path):
    folder, _, _ = masked
    model = load_clip_model(folder / "out")
    task = Task(CLIP, [], tmp_path, tmp_path, ReconstructConfig(), 0, CpuClock())
    half = {frame.frame: np.ones((24, 32), bool) for frame in model.frames}
    verdict = judged(Judgement.accept(), model, replace(task, masks=half))
    assert verdict.reason is Reason.DYNAMIC_SCENE
    assert "cover 100% of the picture" in verdict.message
    assert judged(Judgement.accept(), model, task).verdict is Verdict.ACCEPTED
    bare = unmasked(model, half)
    assert all(len(anchors) == 0 for anchors in model_anchors(bare).values())


@pytest.mark.parametrize(
    ("plugin", "kind", "words"),
    [
        ("halves:breaks", SageError, "no weights here"),
        ("nowhere:masks", ConfigError, "set reconstruct.masks.movers"),
    ],
)
def test_a_plugins_failure_is_the_clips(masked, tmp_path, plugin, kind, words):
    folder, _, _ = masked
    config = ReconstructConfig(masks=MaskConfig(movers=plugin))
    images = folder / "out" / "images"
    clip = replace(CLIP, key_frames=[0, 4], pose_frames=[0, 2, 4])
    task = Task(clip, [], images, tmp_path, config, 0, CpuClock())
    with pytest.raises(kind, match=words):
        masks_before(task)


def test_masks_join():
    one, other = np.zeros((2, 2), bool), np.zeros((2, 2), bool)
    one[0, 0] = other[1, 1] = True
    both = merged({1: one, 2: one}, {2: other, 3: other})
    assert list(both) == [1, 2, 3]
    assert [int(mask.sum()) for mask in both.values()] == [1, 2, 1]
