"""Losses and Gaussian scene against numbers recorded from the published code."""

import json

import numpy as np
import pytest
import torch
from golden_sets import file_of, golden_sets, needs_golden

from sage_core.geometry import batched
from sage_core.losses import (
    by_reference,
    confident_loss,
    gaussian_scene,
    mean_distance,
    normalised_errors,
    photometric_loss,
    points_by_reference,
    scale_bounds,
    scaled_cameras,
    supervised_loss,
)
from sage_core.losses._supervised import sum_of_view_means
from sage_core.models import Gaussians
from sage_core.splatting import RasterConstants

PUBLISHED_BOUNDS = (1e-4, 4e-3)

pytestmark = needs_golden("mvdust3r")


class Recorded:
    """The arrays with the batch first, and truth in the camera frame of view 0."""

    def __init__(self, folder):
        with np.load(file_of(folder, "losses.npz")) as data:
            self.raw = {k: torch.from_numpy(data[k]) for k in data.files}
        self.said = json.loads(file_of(folder, "losses.json").read_text())
        self.cam_from_world = torch.linalg.inv(self.first("camera_pose_c2w"))[..., :3, :]
        self.truth = self.in_reference(self.first("gt_pts_world"), self.cam_from_world)
        self.valid = self.first("valid_mask")
        self.points = self.first("pred_pts_ref")
        self.conf = self.first("conf")
        self.inputs = self.points.shape[1]

    def first(self, name):
        return self.raw[name].transpose(0, 1)

    @staticmethod
    def in_reference(world, cam_from_world):
        return batched.transform(cam_from_world[:, :1, None], world)

    @property
    def labels(self):
        return self.truth[:, : self.inputs], self.valid[:, : self.inputs]


@pytest.fixture(scope="module", params=golden_sets("mvdust3r"), ids=lambda folder: folder.name)
def recorded(request):
    return Recorded(request.param)


def close(value, expected):
    torch.testing.assert_close(
        torch.as_tensor(value), torch.as_tensor(expected), atol=1e-4, rtol=1e-4
    )


def test_golden_scales(recorded):
    truth, valid = recorded.labels
    close(mean_distance(recorded.points, valid), recorded.said["norm_factor_pred_inputs_only"])
    close(mean_distance(truth, valid), recorded.said["norm_factor_gt_inputs_only"])
    close(mean_distance(recorded.truth, recorded.valid), recorded.said["norm_factor_gt_all_views"])


def test_golden_regression(recorded):
    truth, valid = recorded.labels
    errors = normalised_errors(recorded.points, truth, valid)
    close(sum_of_view_means(errors, valid), recorded.said["regr3d_sum_of_view_means"])


def test_golden_supervised_loss_and_its_gradients(recorded):
    truth, valid = recorded.labels
    points, conf = recorded.points.clone().requires_grad_(), recorded.conf.clone().requires_grad_()
    loss = supervised_loss(points, conf, truth, valid, alpha=0.2)
    close(loss, recorded.said["conf_loss_alpha0.2"])
    per_pixel = confident_loss(normalised_errors(points, truth, valid), conf, 0.2)
    reference = sum_of_view_means(per_pixel[:, :1], valid[:, :1])
    close(reference, recorded.said["conf_loss_ref"])
    close(loss - reference, recorded.said["conf_loss_src_sum"])
    loss.backward()
    for grad, name in ((points.grad, "pts"), (conf.grad, "conf")):
        expected = recorded.first(f"grad_conf_loss_{name}")
        assert (grad - expected).abs().max() <= 1e-3 * expected.abs().max()


def test_golden_supervised_loss_of_several_references(recorded):
    references = recorded.said["mref_n_ref"]

    n = recorded.inputs
    from_reference = batched.relative(recorded.cam_from_world, recorded.cam_from_world[:, :1])
    truth, valid = recorded.labels
    truth = points_by_reference(truth, from_reference[:, :n], references)
    loss = supervised_loss(
        recorded.first("mref_pred_pts"),
        recorded.first("mref_conf"),
        truth,
        by_reference(valid, references),
    )
    close(loss, recorded.said["mref_conf_loss_alpha0.2"])


def scene_and_cameras(recorded):
    _, valid = recorded.labels
    gaussians = Gaussians(
        recorded.first("gs_opacity")[..., 0],
        recorded.first("gs_scale"),
        recorded.first("gs_rotation"),
        recorded.first("gs_rgb"),
    )
    images = (recorded.first("imgs") + 1) / 2
    scene = gaussian_scene(
        recorded.points,
        gaussians,
        images[:, : recorded.inputs],
        mean_distance(recorded.points, valid),
        bounds=PUBLISHED_BOUNDS,
    )
    from_reference = batched.relative(recorded.cam_from_world, recorded.cam_from_world[:, :1])
    cameras = scaled_cameras(from_reference, mean_distance(recorded.truth, recorded.valid))
    return scene, cameras


def test_golden_gaussian_scene(recorded):
    scene, cameras = scene_and_cameras(recorded)
    for item in range(len(scene.means)):
        said = {k: recorded.raw[f"gs_call{item}_{k}"] for k in ("means", "quats", "scales")}
        close(scene.means[item], said["means"])
        close(scene.quats[item], said["quats"])
        close(scene.scales[item], said["scales"])
        close(scene.opacities[item], recorded.raw[f"gs_call{item}_opacities"])
        close(2 * scene.colours[item] - 1, recorded.raw[f"gs_call{item}_colors"])
        close(cameras[item], recorded.raw[f"gs_call{item}_viewmats"][:, :3])
        # The published code hands over its cameras' intrinsics as they are, half a pixel off.
        close(recorded.raw[f"gs_call{item}_Ks"], recorded.first("camera_intrinsics")[item])


def test_golden_rendering_loss(recorded):
    scene, _ = scene_and_cameras(recorded)
    rendered = (recorded.first("rendered").movedim(-1, 2) + 1) / 2
    rgb = photometric_loss(rendered, (recorded.first("imgs") + 1) / 2, recorded.valid).mean()
    close(rgb, recorded.said["gs_loss_rgb"])
    assert scene.scale_penalty.mean().item() == pytest.approx(
        recorded.said["gs_loss_scale"], rel=1e-4
    )
    total = rgb + scene.scale_penalty.mean()
    close(total, recorded.said["gs_loss_rgb_plus_scale_lpips0"])


def test_golden_bounds_are_those_of_224_px(recorded):
    assert scale_bounds(224) == PUBLISHED_BOUNDS


def test_golden_constants_of_the_rasteriser(recorded):
    said, ours = recorded.said["gs_call_scalars"], RasterConstants()
    height, width = recorded.points.shape[2:4]
    assert (said["width"], said["height"], said["sh_degree"]) == (width, height, None)
    assert (said["near_plane"], said["far_plane"]) == (ours.near, ours.far)
    assert said["eps2d"] == ours.eps2d
    for item in range(len(recorded.points)):
        background = recorded.raw[f"gs_call{item}_backgrounds"]
        close(background, torch.full_like(background, 2 * ours.background - 1))
