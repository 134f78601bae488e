"""Small packages ``pi3`` and ``mapanything`` with the call surface of the real ones.

The real ones are on no package index and cannot be installed where these tests run; what is here was written
for the tests, from a description of names, shapes and conventions. It shows that the adapters turn those
conventions rightly. That the real packages still have them, only a run with them can show
(``test_contract.py`` does so where they are importable).
"""

PI3 = '''
import torch
from torch import nn


class Network(nn.Module):
    """Sees all views at once, has no reference view, answers in a world of its own."""

    extra = False

    def __init__(self):
        super().__init__()
        self.encoder = nn.Module()
        self.encoder.blocks = nn.ModuleList([nn.Conv2d(3, 8, 14, 14)])
        self.decoder = nn.ModuleList([nn.Linear(16, 8)])
        self.register_token = nn.Parameter(torch.zeros(1, 1, 1, 8))
        self.point_decoder = nn.Linear(8, 8)
        self.point_head = nn.Linear(8, 3 * 196)
        self.conf_decoder = nn.Linear(8, 8)
        self.conf_head = nn.Linear(8, 196)
        self.camera_decoder = nn.Linear(8, 8)
        self.camera_head = nn.Linear(8, 12)
        self.register_buffer("image_mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("image_std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    def forward(self, imgs):
        B, N, _, H, W = imgs.shape
        x = self.encoder.blocks[0](((imgs - self.image_mean) / self.image_std).flatten(0, 1))
        h, w = x.shape[-2:]
        x = x.flatten(2).transpose(1, 2).reshape(B, N, h * w, 8)
        shared = x.mean((1, 2), keepdim=True).expand_as(x)
        x = torch.tanh(self.decoder[0](torch.cat([x, shared], -1))) + self.register_token

        def pixels(tokens, channels):
            grid = tokens.reshape(B, N, h, w, channels, 14, 14)
            return grid.permute(0, 1, 2, 5, 3, 6, 4).reshape(B, N, H, W, channels)

        offset = 0.1 * pixels(self.point_head(self.point_decoder(x)), 3)
        v, u = torch.meshgrid(torch.arange(H) + 0.5, torch.arange(W) + 0.5, indexing="ij")
        rays = torch.stack([(u - W / 2) / 60, (v - H / 2) / 60], -1)
        z = torch.exp(offset[..., 2:])
        local = torch.cat([(rays + 0.01 * offset[..., :2]) * z, z], -1)
        conf = pixels(self.conf_head(self.conf_decoder(x)), 1)
        raw = self.camera_head(self.camera_decoder(x.mean(2)))
        left, _, right = torch.linalg.svd(raw[..., :9].reshape(B, N, 3, 3) + 2 * torch.eye(3))
        turn = left @ right
        turn = turn * torch.linalg.det(turn)[..., None, None]
        poses = torch.eye(4).repeat(B, N, 1, 1)
        poses[..., :3, :3], poses[..., :3, 3] = turn, raw[..., 9:] + 5
        answer = {"local_points": local, "conf": conf, "camera_poses": poses}
        return self.metric(x, answer) if self.extra else answer
'''

PI3_CLASS = """
from pi3.base import Network


class Pi3(Network):
    pass
"""

PI3X_CLASS = """
import torch
from torch import nn
from pi3.base import Network


class Pi3X(Network):
    extra = True

    def __init__(self, ckpt=None, use_multimodal=True):
        super().__init__()
        self.metric_token = nn.Parameter(torch.randn(1, 1, 8))
        self.metric_decoder = nn.Linear(8, 8)
        self.metric_head = nn.Linear(8, 1)
        if use_multimodal:
            self.depth_encoder = nn.Linear(2, 8)
            self.depth_emb = nn.Parameter(torch.zeros(1, 1, 8))
            self.ray_embed = nn.Linear(2, 8)
            self.pose_inject_blk = nn.ModuleList([nn.Linear(8, 8)])

    def metric(self, x, answer):
        pooled = x.mean((1, 2)) + self.metric_token[:, 0]
        factor = self.metric_head(self.metric_decoder(pooled)).exp().view(-1, 1, 1)
        answer["camera_poses"][..., :3, 3] = answer["camera_poses"][..., :3, 3] * factor
        answer["local_points"] = answer["local_points"] * factor[..., None, None]
        return answer
"""

MAPANYTHING = """
import torch
from torch import nn

NORMS = {"dinov2": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])}


class Encoder(nn.Module):
    def __init__(self, data_norm_type):
        super().__init__()
        self.data_norm_type = data_norm_type
        self.patch = nn.Conv2d(3, 8, 14, 14)

    def forward(self, image):
        return self.patch(image)


class MapAnything(nn.Module):
    def __init__(self, name, encoder_config, info_sharing_config, pred_head_config,
                 geometric_input_config, pretrained_checkpoint_path=None):
        super().__init__()
        encoder_config["seen"] = True  # as upstream, it writes into its arguments
        assert geometric_input_config["overall_prob"] == 0.0
        self.encoder = Encoder(encoder_config["data_norm_type"])
        self.info_sharing = nn.Linear(16, 8)
        self.fusion_norm_layer = nn.LayerNorm(8)
        self.dense_head = nn.Linear(8, 4 * 196)
        self.pose_head = nn.Linear(8, 7)
        self.scale_token = nn.Parameter(torch.zeros(8))
        self.scale_head = nn.Linear(8, 1)
        self.ray_dirs_encoder = nn.Linear(3, 8)
        self.depth_encoder = nn.Linear(1, 8)

    def forward(self, views, memory_efficient_inference=False, minibatch_size=None):
        B, _, H, W = views[0]["img"].shape
        assert all(view["data_norm_type"] == [self.encoder.data_norm_type] for view in views)
        tokens = [self.encoder(view["img"]) for view in views]
        # Looks at values, as upstream does where it draws which of its inputs to use.
        assert min(view["img"].min() for view in views) < 0, "images come normalised"
        h, w = tokens[0].shape[-2:]
        tokens = [self.fusion_norm_layer(t.flatten(2).transpose(1, 2)) for t in tokens]
        shared = torch.stack(tokens).mean((0, 2))[:, None]
        scale = self.scale_head(shared[:, 0] + self.scale_token).exp()
        answers = []
        for number, t in enumerate(tokens):
            x = torch.tanh(self.info_sharing(torch.cat([t, shared.expand_as(t)], -1)))
            x = x + (0.1 if number == 0 else 0.0)
            raw = 0.1 * self.dense_head(x).reshape(B, h, w, 4, 14, 14)
            raw = raw.permute(0, 1, 4, 2, 5, 3).reshape(B, H, W, 4)
            v, u = torch.meshgrid(torch.arange(H) + 0.5, torch.arange(W) + 0.5, indexing="ij")
            plane = torch.stack([(u - W / 2) / 50, (v - H / 2) / 50, torch.ones(H, W)], -1)
            rays = nn.functional.normalize(plane + 0.01 * raw[..., :3], dim=-1)
            depth = raw[..., 3:].exp()
            pose = self.pose_head(x.mean(1))
            quats = pose[:, 3:] + torch.tensor([0.0, 0.0, 0.0, 3.0])
            metric = scale[..., None, None]
            answers.append({
                "pts3d": rays * depth * metric,
                "pts3d_cam": rays * depth * metric,
                "ray_directions": rays,
                "depth_along_ray": depth * metric,
                "cam_trans": pose[:, :3] * scale,
                "cam_quats": quats,
                "metric_scaling_factor": scale,
                "conf": 1 + raw.sum(-1).exp(),
                "non_ambiguous_mask": torch.ones(B, H, W, dtype=torch.bool),
            })
        return answers
"""

MAPANYTHING_ARGUMENTS = {
    "name": "mapanything",
    "encoder_config": {"data_norm_type": "dinov2", "uses_torch_hub": True},
    "info_sharing_config": {"model_type": "alternating_attention"},
    "pred_head_config": {"type": "dpt+pose"},
    "geometric_input_config": {"overall_prob": 0.9, "dropout_prob": 0.05},
}


def write_packages(folder):
    """Lay both packages out under ``folder``."""
    for package, files in {
        "pi3": {"base.py": PI3, "models/pi3.py": PI3_CLASS, "models/pi3x.py": PI3X_CLASS},
        "mapanything": {"models/__init__.py": MAPANYTHING},
    }.items():
        for name, text in files.items():
            path = folder / package / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for inner in ("", "models"):
            (folder / package / inner / "__init__.py").touch()
