"""What every model behind ``GeometricModel`` must keep to, whoever wrote it.

MV-DUSt3R(+) and VGGT in small; the adapters of Pi3 and MapAnything around the stand-ins of ``stand_ins.py``,
since the real packages cannot be installed here. Where a real one *is* importable, the same contract is held
against it (``SAGE_PI3``, ``SAGE_MAPANYTHING``: paths of its weights).
"""

import importlib
import importlib.util
import os
import sys
from dataclasses import replace

import pytest
import torch
from stand_ins import MAPANYTHING_ARGUMENTS, write_packages

from sage_core.errors import CheckpointError, ConfigError
from sage_core.evaluation.metrics import focal_from_pointmap
from sage_core.geometry import batched
from sage_core.geometry.rays import fit_intrinsics
from sage_core.losses import confident_loss
from sage_core.models import MVDust3rConfig, VGGTConfig, build_model, load_model, save_model
from sage_core.models.adapters import MapAnythingConfig, Pi3Config
from sage_core.world.rooms import SPLITS, room_sample

TINY_MVDUST3R = MVDust3rConfig(32, 8, 32, 2, 2, 32, 2, 2, 2, 4, 8)
CONFIGS = {
    "mvdust3r": TINY_MVDUST3R,
    "mvdust3r_plus": replace(TINY_MVDUST3R, cross_reference=True),
    "vggt": VGGTConfig.tiny(),
    "pi3": Pi3Config("pi3"),
    "pi3x": Pi3Config("pi3x"),
    "mapanything": MapAnythingConfig(MAPANYTHING_ARGUMENTS),
}
FROZEN = {"vggt": ["point_head"], "mvdust3r_plus": ["dec_same_view_blocks.*"]}
"""What has no part here: VGGT's points come from depth, and paths that exchange need two references."""
NOT_FROM_POINTS = {"confidence_head", "gaussian_head", "metric_head"}
"""Groups that a loss on points alone cannot be asked to reach."""
REAL = {"pi3": "SAGE_PI3", "mapanything": "SAGE_MAPANYTHING"}


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """The stand-ins importable, for one test."""
    write_packages(tmp_path / "installed")
    monkeypatch.syspath_prepend(tmp_path / "installed")
    kept = {name: m for name, m in sys.modules.items() if name.split(".")[0] in REAL}
    for name in kept:
        del sys.modules[name]
    importlib.invalidate_caches()
    yield
    for name in [name for name in sys.modules if name.split(".")[0] in REAL]:
        del sys.modules[name]
    sys.modules.update(kept)


@pytest.fixture(params=CONFIGS)
def model(request, packages):
    model = build_model(CONFIGS[request.param], seed=5)
    model.freeze(FROZEN.get(request.param, []))
    return model.eval()


def real_model(name):
    path = os.environ.get(REAL[name], "")
    if not path or importlib.util.find_spec(name) is None:
        pytest.skip(f"needs the package {name} installed, and {REAL[name]}=weights file")
    return load_model(f"{name}:{path}")


def views(model, count=4, seed=0):
    side = 4 * model.patch_size
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, count, 3, side, side + model.patch_size, generator=generator)


def check_output(model):
    """Shapes, types, what the description promises, and view 0 being the frame of all."""
    images = views(model)
    with torch.no_grad():
        out = model(images)
    batch, count, _, height, width = images.shape
    assert out.points.shape == (batch, count, height, width, 3)
    assert out.conf.shape == (batch, count, height, width)
    parts = [out.points, out.conf, out.cam_from_world, out.intrinsics, out.depth]
    assert all(part.dtype == torch.float32 for part in parts if part is not None)
    assert all(part.isfinite().all() for part in parts if part is not None)
    splats = vars(out.gaussians)
    assert all(part.shape[:4] == out.conf.shape for part in splats.values())
    assert all(part.isfinite().all() for part in splats.values())
    described = model.description
    assert (out.conf_kind, out.scale) == (described.conf_kind, described.scale)
    if out.conf_kind == "one_plus_exp":
        assert (out.conf >= 1).all()
    assert described.size_rule.multiple == model.patch_size
    assert described.view_range[0] == model.min_views
    assert all(s % model.patch_size == 0 for s in described.size_rule.size(640, 480))
    if out.cam_from_world is not None:
        check_cameras(out, height, width)


def check_cameras(out, height, width):
    """View 0's points lie before its camera and fall on their pixels; so do the others' in theirs."""
    identity = torch.eye(4)[:3].expand_as(out.cam_from_world[:, 0])
    assert torch.allclose(out.cam_from_world[:, 0], identity, atol=1e-4)
    assert (out.points[:, 0, ..., 2] > 0).all()
    cam = batched.transform(out.cam_from_world, out.points.flatten(2, 3))
    assert torch.allclose(cam[..., 2], out.depth.flatten(2), rtol=1e-3, atol=1e-3)
    pixels, _ = batched.project(out.intrinsics, cam)
    grid = batched.pixel_centres(width, height).reshape(-1, 2)
    assert (pixels - grid).abs().median() < 1.0
    R = out.cam_from_world[..., :3]
    assert torch.allclose(R @ R.transpose(-1, -2), torch.eye(3), atol=1e-4)
    assert torch.allclose(torch.linalg.det(R), torch.ones(R.shape[:2]), atol=1e-4)


def check_permutation(model, tolerance=2e-4):
    """Shuffled sources give shuffled answers."""
    images, order = views(model), [0, 3, 1, 2]
    with torch.no_grad():
        straight, shuffled = model(images), model(images[:, order])
    for name in ("points", "conf", "cam_from_world", "intrinsics", "depth"):
        a, b = getattr(straight, name), getattr(shuffled, name)
        assert (a is None) == (b is None)
        if a is not None:
            assert torch.allclose(a[:, order], b, rtol=tolerance, atol=tolerance), name


def check_file(model, path):
    """What is saved is loaded, to the bit."""
    save_model(model, path)
    loaded = load_model(path)
    images = views(model)
    with torch.no_grad():
        a, b = model(images), loaded(images)
    assert torch.equal(a.points, b.points)
    assert torch.equal(a.conf, b.conf)
    assert type(loaded) is type(model)
    assert loaded.config == model.config


def check_gradients(model):
    """A loss on points reaches all that trains and can be reached by it; the confidence has its own term."""
    model.train()
    model(views(model)).points.square().mean().backward()
    for group, members in model.parameter_groups().items():
        for name, parameter in members:
            if not parameter.requires_grad or group in NOT_FROM_POINTS:
                continue
            assert parameter.grad is not None, f"{name} gets no gradient"
            assert parameter.grad.isfinite().all(), name
    model.zero_grad()
    out = model(views(model))
    confident_loss(out.points.norm(dim=-1), out.conf, 0.2, out.conf_kind).mean().backward()
    heads = model.parameter_groups().get("confidence_head", [])
    assert all(p.grad is not None and p.grad.isfinite().all() for _, p in heads)


def test_output(model):
    check_output(model)


def test_permutation(model):
    check_permutation(model)


def test_save_and_load(model, tmp_path):
    check_file(model, tmp_path / "m.safetensors")


def test_gradients(model):
    check_gradients(model)


def test_groups_cover_all_parameters_by_name(model):
    groups = model.parameter_groups()
    assert "other" not in groups
    assert sum(len(members) for members in groups.values()) == len(list(model.parameters()))


@pytest.mark.parametrize("name", REAL)
def test_the_real_package_keeps_the_contract(name, tmp_path):
    model = real_model(name)
    check_output(model)
    check_permutation(model, 1e-2)
    check_gradients(model)
    model.eval()
    check_file(model, tmp_path / "m.safetensors")


def test_view_0_of_trained_weights_lies_before_its_camera_and_fits_it():
    sample = room_sample(SPLITS["test"][0], 4, 64, "P")
    images = torch.from_numpy(sample.images).permute(0, 3, 1, 2)[None].float() / 255
    model = load_model("mini")
    with torch.no_grad():
        out = model(images)
    points, conf = out.points[0, 0], out.conf[0, 0]
    assert (points[..., 2] > 0).all()
    K = fit_intrinsics(points.double(), conf.double() - 1)
    true = torch.from_numpy(sample.intrinsics[0])
    assert torch.allclose(K.diagonal()[:2], true.diagonal()[:2], rtol=0.15)
    assert torch.allclose(K[:2, 2], true[:2, 2], atol=6.0)
    assert focal_from_pointmap(points, conf) == pytest.approx(float(true[0, 0]), rel=0.15)


# What is special to the adapters


def test_upstream_files_load_by_name_and_export_back(packages, tmp_path):
    from pi3.models.pi3x import Pi3X
    from safetensors.torch import load_file, save_file

    upstream = Pi3X()
    path = tmp_path / "model.safetensors"
    save_file(upstream.state_dict(), path)
    for name in (path, f"pi3:{path}"):
        model = load_model(name)
        assert model.config == Pi3Config("pi3x")
        assert model.licence == "CC BY-NC 4.0"
    assert {"depth_emb", "depth_encoder.weight"} < model.kept_tensors.keys()
    save_model(model, tmp_path / "ours.safetensors")
    Pi3X().load_state_dict(load_file(tmp_path / "ours.safetensors"))
    images = views(model)
    with torch.no_grad():
        native = upstream(images)
        out = model(images)
    world = batched.transform(
        native["camera_poses"][..., :3, :], native["local_points"].flatten(2, 3)
    )
    first = batched.invert(native["camera_poses"][:, :1, :3])
    assert torch.allclose(out.points.flatten(2, 3), batched.transform(first, world), atol=1e-5)


def test_mapanything_needs_its_config_beside_the_weights(packages, tmp_path):
    import json

    from mapanything.models import MapAnything
    from safetensors.torch import save_file

    arguments = json.loads(json.dumps(MAPANYTHING_ARGUMENTS))
    arguments["geometric_input_config"]["overall_prob"] = 0.0
    path = tmp_path / "model.safetensors"
    save_file(MapAnything(**arguments).state_dict(), path)
    with pytest.raises(CheckpointError, match=r"needs the config\.json"):
        load_model(path)
    (tmp_path / "config.json").write_text(json.dumps(MAPANYTHING_ARGUMENTS))
    model = load_model(path)
    assert model.config == MapAnythingConfig(MAPANYTHING_ARGUMENTS)
    frozen = [n for n, p in model.named_parameters() if not p.requires_grad]
    assert {n.split(".")[1] for n in frozen} == {"ray_dirs_encoder", "depth_encoder"}
    model.freeze(["metric_head"])
    assert not model.network.ray_dirs_encoder.weight.requires_grad
    assert not model.network.scale_head.weight.requires_grad


@pytest.mark.parametrize(
    ("name", "licence"), [("pi3", "CC BY-NC 4.0"), ("mapanything", "Apache-2.0")]
)
def test_a_missing_package_says_what_to_install(name, licence, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=r"github\.com") as caught:
        build_model(CONFIGS[name], seed=0)
    assert "install" in str(caught.value)
    assert licence in str(caught.value)


def test_a_mapanything_of_another_version_is_named(packages):
    with pytest.raises(ConfigError, match="different versions"):
        build_model(MapAnythingConfig({"nonsense": 1}), seed=0)
    odd = {**MAPANYTHING_ARGUMENTS, "encoder_config": {"data_norm_type": "radio"}}
    with pytest.raises(ConfigError, match="'radio' images"):
        build_model(MapAnythingConfig(odd), seed=0)
