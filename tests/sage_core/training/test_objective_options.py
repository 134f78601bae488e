"""The options of the losses, on samples of rooms: off they change nothing, on they do what they say."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from room_shards import HEIGHT, WIDTH, room_clip
from torch import nn

from sage_core.config.adapt import AdaptConfig
from sage_core.geometry import batched
from sage_core.losses import AnchorQuality, mean_distance
from sage_core.models import Gaussians, GeometryOutput, MVDust3rConfig, build_model
from sage_core.shards import encode_mask
from sage_core.training.objective import Objective
from sage_core.training.samples import labelled_sample, video_sample
from sage_core.world import room_sample

SIZE, VIEWS = 32, 3
CPU = torch.device("cpu")
ROWS = [2, 5, 8, 4, 6]


@pytest.fixture(scope="module")
def frames():
    return [room_clip(3, 10, 200)[1][row] for row in ROWS]


@pytest.fixture(scope="module")
def sample(frames):
    return video_sample(frames, VIEWS, SIZE)


class Answer(nn.Module):
    """A model whose points are a parameter, one row for each reference."""

    def __init__(self, points):
        super().__init__()
        self.points = nn.Parameter(points)

    def forward(self, images, references=1):
        shape = self.points.shape[:-1]
        turn = torch.zeros(*shape, 4)
        turn[..., 0] = 1
        splats = Gaussians(
            torch.full(shape, 0.9), torch.full((*shape, 3), 0.1), turn, torch.zeros(*shape, 3)
        )
        return GeometryOutput(
            self.points, torch.full(shape, 1.5), "one_plus_exp", "relative", splats
        )


def guess(sample):
    """Right at the anchors, their mean elsewhere."""
    a = sample.anchors
    points = a.points[a.weight > 0].mean(0).expand(1, VIEWS, SIZE, SIZE, 3).clone()
    for view in range(VIEWS):
        real = a.weight[0, view] > 0
        column, row = a.xy[0, view, real].floor().long().T
        points[0, view, row, column] = a.points[0, view, real]
    return points


def objective(**loss):
    adapt = {"loss": {"perceptual": "none", "alpha": 0.0, **loss}, "sampling": {"n_context": VIEWS}}
    return Objective(AdaptConfig.model_validate(adapt), CPU)


def terms(sample, points, **loss):
    return objective(**loss)(Answer(points), [sample])[1][0]


def test_all_options_are_off():
    loss = AdaptConfig().loss
    assert (loss.robust, loss.anchor_weights, loss.exposure) == ("none", "equal", "none")
    assert (loss.masks, loss.labelled_rendering, loss.references) == (False, False, 1)
    assert (loss.reprojection_weight, loss.camera_scale) == (0.0, "context")
    adapt = AdaptConfig()
    assert (adapt.curriculum.share, adapt.mixing.sources, adapt.mixing.difficulty) == (0, {}, None)


def test_reprojection_takes_part_with_its_weight(sample):
    wrong = guess(sample) + torch.tensor([0.3, 0.0, 0.0])
    found = terms(sample, wrong, reprojection_weight=2.0, rendering_weight=0.0, anchor_weight=0.0)
    assert found.keys() == {"reprojection", "total"}
    assert found["total"] == pytest.approx(2 * found["reprojection"])
    # An anchor's pixel is at most half a pixel off its centre, where the guess is exactly right.
    right = terms(sample, guess(sample), reprojection_weight=1.0)
    assert right["reprojection"] < 0.01 * found["reprojection"]


def test_robust_residuals_take_part(sample):
    wrong = guess(sample) + torch.tensor([0.3, 0.0, 0.0])
    plain, kept = (terms(sample, wrong, robust=kernel) for kernel in ("none", "geman_mcclure"))
    assert 0 < kept["anchor"] < plain["anchor"]
    assert kept["photometric"] == plain["photometric"]


def test_anchors_weigh_by_quality(frames):
    bad = replace(frames[0].anchors, error_px=np.full(len(frames[0].anchors), 5.0, np.float32))
    mixed = [replace(frames[0], anchors=bad), *frames[1:]]
    sample = video_sample(mixed, VIEWS, SIZE, quality=AnchorQuality(0.5, 8, 12))
    weight = sample.anchors.weight[0]
    good = 1 / (1 + (0.3 / 0.5) ** 2)
    assert weight[0][weight[0] > 0].unique().tolist() == pytest.approx([1 / 101])
    assert weight[1][weight[1] > 0].unique().tolist() == pytest.approx([good])


def masked(frames, left_out):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[:, left_out] = True
    return [replace(f, mask=encode_mask(mask)) for f in frames]


def test_masks_keep_pixels_and_anchors_out(frames, sample):
    half = slice(0, WIDTH // 2)
    seen = video_sample(masked(frames, half), VIEWS, SIZE, masks=True)
    assert seen.valid.shape == (len(ROWS), SIZE, SIZE)
    # The middle square is kept, so half of it is masked.
    assert not seen.valid[:, :, : SIZE // 2].any()
    assert seen.valid[:, :, SIZE // 2 + 1 :].all()
    left = seen.anchors.xy[seen.anchors.weight > 0][:, 0]
    assert left.min() >= SIZE // 2
    assert 0 < len(left) < (sample.anchors.weight > 0).sum()
    ignored = video_sample(masked(frames, half), VIEWS, SIZE)
    assert ignored.valid is None
    assert torch.equal(ignored.anchors.points, sample.anchors.points)


def test_what_is_under_a_mask_changes_no_loss(frames):
    seen = video_sample(masked(frames, slice(0, WIDTH // 2)), VIEWS, SIZE, masks=True)
    painted = seen.images.clone()
    painted[VIEWS:, :, :, : SIZE // 2] = 1.0
    points = guess(seen)
    a, b = (terms(s, points, rendered_context=0) for s in (seen, replace(seen, images=painted)))
    assert a == b
    assert a != terms(replace(seen, valid=None, images=painted), points, rendered_context=0)


def test_masked_frames_without_a_mask_are_all_scene(frames):
    seen = video_sample([masked(frames, slice(0, 48))[0], *frames[1:]], VIEWS, SIZE, masks=True)
    assert seen.valid[1:].all()
    assert not seen.valid[0].all()


def test_exposure_is_matched_only_where_asked(sample):
    dimmed = sample.images.clone()
    dimmed[VIEWS:] *= 0.75
    dim = replace(sample, images=dimmed)
    points = guess(sample)
    plain, matched = (
        terms(dim, points, exposure=kind, rendered_context=0)["photometric"]
        for kind in ("none", "gain_bias")
    )
    assert matched < plain


def test_cameras_may_take_their_scale_from_all_views(sample):
    targets = sample.target_anchors
    assert targets.xy.shape[1] == len(ROWS) - VIEWS
    some = objective(camera_scale="all_views")
    far = replace(sample, target_anchors=replace(targets, points=4 * targets.points))
    points = guess(sample)
    same = some(Answer(points), [sample])[1][0]["photometric"]
    other = some(Answer(points), [far])[1][0]["photometric"]
    assert same != other
    assert terms(far, points)["photometric"] == terms(sample, points)["photometric"]


def test_another_reference_is_the_same_sample_in_another_frame(sample):
    for view in range(VIEWS):
        other = sample.seen_from(view)
        assert torch.allclose(other.cam_from_reference[0], torch.eye(3, 4), atol=1e-6)
        assert torch.equal(other.images[0], sample.images[view])
        for v in range(VIEWS):
            real = other.anchors.weight[0, v] > 0
            camera = batched.transform(
                other.cam_from_reference[v], other.anchors.points[0, v, real]
            )
            xy, _ = batched.project(other.intrinsics[v], camera)
            assert torch.allclose(xy, other.anchors.xy[0, v, real], atol=5e-3)
        again = other.seen_from(view)
        assert torch.allclose(again.anchors.points, sample.anchors.points, atol=1e-5)
        assert again.render_order == sample.render_order
    assert sample.seen_from(0) is sample


def test_the_loss_over_several_references_is_the_mean_of_each_ones(sample):
    rows = torch.cat([guess(sample.seen_from(r)) for r in range(2)]) * 1.1 + 0.1
    both = terms(sample, rows, references=2)
    single = [terms(sample.seen_from(r), rows[r : r + 1]) for r in range(2)]
    for name in ("anchor", "photometric", "scale_penalty"):
        assert both[name] == pytest.approx(np.mean([s[name] for s in single]), rel=1e-4)


def labelled():
    return labelled_sample(room_sample(11, VIEWS, (40, 40)), SIZE)


def test_labelled_views_are_rendered_where_asked():
    sample = labelled()
    points = sample.points[None].where(sample.valid[None, ..., None], 1.0)
    plain, both = (terms(sample, points, labelled_rendering=on) for on in (False, True))
    assert plain.keys() == {"labelled", "total"}
    assert both["labelled_rendering"] > 0
    assert both["total"] == pytest.approx(both["labelled"] + both["labelled_rendering"], rel=1e-5)
    turned = terms(sample, points * torch.tensor([-1.0, -1.0, 1.0]), labelled_rendering=True)
    assert turned["labelled_rendering"] > 1.5 * both["labelled_rendering"]


def test_labelled_cameras_fit_their_points():
    sample = labelled()
    grid = batched.pixel_centres(SIZE, SIZE)
    for view in range(VIEWS):
        camera = batched.transform(
            sample.cam_from_reference[view], sample.points[view].reshape(-1, 3)
        )
        xy, _ = batched.project(sample.intrinsics[view], camera)
        off = (xy.reshape(SIZE, SIZE, 2) - grid).abs().amax(-1)[sample.valid[view]]
        assert off.max() < 0.5


def test_true_labels_cost_nothing_from_any_reference():
    sample = labelled()
    points = sample.points[None].where(sample.valid[None, ..., None], 1.0)
    from_each = []
    for r in range(2):
        order = [r, *(v if v != r else 0 for v in range(1, VIEWS))]
        moved = batched.transform(sample.cam_from_reference[r], points[0].reshape(-1, 3))
        from_each.append(moved.view_as(points[0])[order])
    found = terms(sample, torch.stack(from_each), references=2)
    assert found["labelled"] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("plus", [False, True])
def test_mvdust3r_trains_with_several_references(sample, plus):
    config = MVDust3rConfig(
        32, 8, 32, 1, 2, 32, 1, 2, skip_dim=4, gs_mlp_dim=16, cross_reference=plus
    )
    model = build_model(config, seed=1)
    loss, found = objective(references=2)(model, [sample])
    loss.backward()
    assert np.isfinite(found[0]["total"])
    same_view = [p for n, p in model.named_parameters() if n.startswith("dec_same_view")]
    assert bool(same_view) is plus
    assert all(p.grad is not None for p in same_view)


def test_scales_of_points_and_cameras_are_over_the_same_anchors(sample):
    inside = sample.anchors.inside(SIZE, SIZE)
    z = mean_distance(sample.anchors.points, inside)
    assert z.item() == pytest.approx(sample.anchors.points[inside].norm(dim=-1).mean().item())
