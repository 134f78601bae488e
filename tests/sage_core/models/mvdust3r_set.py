"""Writes a set of tensors laid out as the recorded ones, with our own model as the source."""

import json

import numpy as np
import torch
from safetensors.torch import save_file

from sage_core.models import MVDust3r, MVDust3rConfig

VIEWS, BATCH, REFERENCES, SEED = 3, 1, 2, 4
WIDE = {
    "img_h": 16,
    "img_w": 24,
    "patch_size": 8,
    "enc_embed_dim": 32,
    "enc_depth": 1,
    "enc_num_heads": 2,
    "dec_embed_dim": 24,
    "dec_depth": 3,
    "dec_num_heads": 2,
    "mlp_ratio": 2,
    "sh_degree": 1,
    "skip_dim": 4,
    "gs_mlp_dim": 8,
}


def write_set(folder, widths=WIDE, *, off_by=0.0):
    """Weights, inputs, outputs and gradients, no more; ``off_by`` is added to the points, as an error."""
    folder.mkdir(parents=True)
    torch.manual_seed(SEED)
    sizes = {k: v for k, v in widths.items() if not k.startswith("img_")}
    model = MVDust3r(MVDust3rConfig(image_size=widths["img_w"], **sizes)).eval()
    for parameter in model.parameters():
        parameter.data.add_(0.02 * torch.randn(parameter.shape))
    images = torch.rand(BATCH, VIEWS, 3, widths["img_h"], widths["img_w"])
    weight = torch.randn(BATCH, VIEWS, *images.shape[-2:])
    facts = {"name": folder.name, "seed": SEED, "n_views": VIEWS, "batch": BATCH}
    facts |= {"n_ref_plus": REFERENCES, "model": widths}
    (folder / "config.json").write_text(json.dumps(facts))
    save_file(model.state_dict(), folder / "weights.safetensors")
    _save(folder / "inputs.npz", imgs=2 * images - 1, obj_weight=weight)
    out = model(images)
    splats = out.gaussians
    outputs = {
        "pts3d": out.points + off_by,
        "conf": out.conf,
        "rgb": splats.colours,
        "opacity": splats.opacities[..., None],
        "scale": splats.scales,
        "rotation": splats.rotations,
    }
    _save(folder / "outputs.npz", **outputs)
    several = model(images, references=REFERENCES).points
    _save(folder / "outputs_multiref_mvd.npz", pts3d_r1=several[1::REFERENCES])
    terms = {**outputs, "conf": out.conf.log()[..., None]}
    objective = sum((weight[..., None] * term).mean() for term in terms.values())
    objective.backward()
    norms = {
        name: None if p.grad is None else p.grad.norm().item()
        for name, p in model.named_parameters()
    }
    text = json.dumps({"objective": objective.item(), "grad_l2": norms})
    (folder / "grads.json").write_text(text)


def _save(path, **arrays):
    np.savez(path, **{name: t.detach().transpose(0, 1).numpy() for name, t in arrays.items()})
