"""Changed samples are still true: what an anchor shows, and where it is, move together."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sage_core.config import SageConfig
from sage_core.config._base import _result_fields
from sage_core.config.sampling import AugmentConfig, SamplingConfig
from sage_core.geometry.batched import project, transform
from sage_core.training.augmentation import Change, augmented, drawn_change, mirrored
from sage_core.training.drawing import SampleRules, VideoSamples
from sage_core.training.order import Kind, SampleId
from sage_core.training.settings import DataSet, ShardPart

SIZE = 48
SAMPLING = SamplingConfig(n_context=3, n_targets=2)


def drawn(shard, index=1, **augment):
    data = DataSet(parts=(ShardPart(path=str(shard)),))
    rules = SampleRules(augment=AugmentConfig(**augment))
    source = VideoSamples([data], SAMPLING, size=SIZE, seed=4, shuffle_views=True, rules=rules)
    return source(SampleId(Kind.VIDEO, 0, index))


def errors_px(sample):
    """Where the anchors of all context views project, against where they are said to be."""
    errors = []
    for view in range(sample.context):
        real = sample.anchors.weight[0, view] > 0
        points = transform(sample.cam_from_reference[view], sample.anchors.points[0, view, real])
        seen, depth = project(sample.intrinsics[view], points)
        assert (depth > 0).all()
        errors.append((seen - sample.anchors.xy[0, view, real]).norm(dim=-1))
    assert sum(map(len, errors)) > 60
    return torch.cat(errors)


def colours(sample):
    """The pixels that the anchors of view 1 fall in."""
    real = sample.anchors.weight[0, 1] > 0
    column, row = sample.anchors.xy[0, 1, real].floor().long().T
    return sample.images[1][:, row, column]


def test_the_mirror_keeps_anchors_on_what_they_show(room_shard):
    plain = drawn(room_shard)
    turned = mirrored(plain)
    assert errors_px(turned).max() < 5e-3
    assert torch.equal(colours(turned), colours(plain))
    R = turned.cam_from_reference[..., :3]
    assert torch.allclose(R @ R.mT, torch.eye(3).expand_as(R), atol=1e-5)
    assert torch.allclose(torch.linalg.det(R), torch.ones(len(R)), atol=1e-5)
    assert not torch.equal(turned.images, plain.images)


def test_two_mirrors_are_none(room_shard):
    plain = drawn(room_shard)
    valid = torch.rand(5, SIZE, SIZE) > 0.5
    back = mirrored(mirrored(replace(plain, valid=valid)))
    for name in ("images", "intrinsics", "cam_from_reference"):
        assert torch.allclose(getattr(back, name), getattr(plain, name), atol=1e-5)
    assert torch.equal(back.valid, valid)
    assert torch.allclose(back.anchors.xy, plain.anchors.xy, atol=1e-4)
    assert torch.equal(back.anchors.points, plain.anchors.points)


def test_an_anchor_on_the_left_edge_stays_in_the_picture(room_shard):
    plain = drawn(room_shard)
    plain.anchors.xy[0, 0, 0, 0] = 0.0
    assert mirrored(plain).anchors.xy[0, 0, 0, 0].floor() == SIZE - 1


def test_the_zoom_moves_intrinsics_and_anchors_along(room_shard):
    plain, near = drawn(room_shard), drawn(room_shard, zoom=1.8)
    by = near.intrinsics[0, 0, 0] / plain.intrinsics[0, 0, 0]
    assert 1.02 < by < 1.8
    assert errors_px(near).max() < 5e-3
    assert near.images.shape == plain.images.shape
    assert near.anchors.weight.sum() < plain.anchors.weight.sum()


def test_all_views_take_the_same_colours(room_shard):
    images = torch.full((3, 3, 4, 4), 0.4)
    images[:, 0] = 0.5
    sample = replace(drawn(room_shard), images=images)
    changed = augmented(sample, Change(brightness=1.2, contrast=0.8, saturation=0.5)).images
    assert torch.allclose(changed[0], changed[2])
    spread = changed[0, 0, 0, 0] - changed[0, 1, 0, 0]
    assert spread == pytest.approx(0.1 * 1.2 * 0.8 * 0.5, abs=1e-5)
    bright = augmented(sample, Change(brightness=9.0)).images
    assert bright.max() == 1


def test_nothing_is_drawn_for_what_is_off(room_shard):
    rng = np.random.default_rng(3)
    assert drawn_change(AugmentConfig(), rng) == Change()
    assert rng.random() == np.random.default_rng(3).random()
    assert torch.equal(drawn(room_shard).images, drawn(room_shard, zoom=1.0, colour=0.0).images)


def test_about_half_are_mirrored_and_colours_stay_within_bounds():
    config = AugmentConfig(mirror=True, colour=0.3)
    changes = [drawn_change(config, np.random.default_rng(i)) for i in range(200)]
    assert 60 < sum(change.mirrored for change in changes) < 140
    for name in ("brightness", "contrast", "saturation"):
        factors = [getattr(change, name) for change in changes]
        assert 0.7 <= min(factors) < 0.75 < 1.25 < max(factors) <= 1.3


def test_at_its_defaults_the_section_leaves_the_hash_as_it_was():
    """What was trained before there were such changes is not trained again."""
    plain = SageConfig().adapt
    assert (
        plain.result_hash() == plain.model_copy(update={"augment": AugmentConfig()}).result_hash()
    )
    changed = plain.model_copy(update={"augment": AugmentConfig(mirror=True)})
    assert changed.result_hash() != plain.result_hash()
    assert "augment" not in _result_fields(plain, plain.model_dump(mode="json"))
