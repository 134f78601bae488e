"""One room, adapted on until it is known by heart: by anchors alone, by rendering alone, by both.

The room becomes a true shard, the trainer draws from it as from any other, and the error is taken against the
room's exact geometry. A curve for each run: the error of all pixels' points (each side at mean distance 1),
and the PSNR of views that it was not given, rendered from its points through the true cameras.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numba
import numpy as np
import torch

from benchmarks.table import parser, publish
from sage_core.config.adapt import AdaptConfig
from sage_core.geometry import PixelMap, pixel_centres, relative, transform, unproject
from sage_core.losses import RenderedViews, anchor_loss, mean_distance, rendering_loss
from sage_core.shards import ShardReader, draw_trajectory
from sage_core.training import DataSet, ShardPart, TrainSettings
from sage_core.training.engine import Trainer
from sage_core.training.ranks import Ranks
from sage_core.training.run import build
from sage_core.training.samples import video_sample
from sage_core.world.clips import RoomClip, write_room_shard

RENDERING = {"anchor_weight": 0.0, "rendering_weight": 1.0}
RUNS = {
    "anchors": {"anchor_weight": 1.0, "rendering_weight": 0.0},
    "rendering": RENDERING,
    "rendering, rate / 10": RENDERING,
    "both": {"anchor_weight": 1.0, "rendering_weight": 1.0},
    "both + reprojection": {
        "anchor_weight": 1.0,
        "rendering_weight": 1.0,
        "reprojection_weight": 1.0,
    },
}
VIEWS, TARGETS, TUPLES = 4, 2, 4
MEASURED = ("error", "anchor", "psnr")


class Truth:
    """Fixed tuples of the room, and its exact points at the model's size."""

    def __init__(self, room, shard, size, sampling):
        reader = ShardReader([shard])
        clip = reader.clip(room.name)
        _, depths, poses, K = room.rendered()
        self.samples, self.points = [], []
        for seed in range(TUPLES):
            rows = draw_trajectory(clip, sampling, np.random.default_rng([seed, 1])).rows
            self.samples.append(video_sample(reader.frames(clip, rows), VIEWS, size))
            context = rows[:VIEWS]
            self.points.append(_points(depths[context], poses[context], K[context], size))

    @torch.no_grad()
    def measure(self, model):
        """Means over the tuples of pointmap error, anchor error, and PSNR of the targets."""
        model.eval()
        found = [self._one(model, *pair) for pair in zip(self.samples, self.points, strict=True)]
        model.train()
        return {name: float(np.mean([f[name] for f in found])) for name in MEASURED}

    def _one(self, model, sample, truth):
        output = model(sample.images[None, :VIEWS])
        valid = torch.ones(truth.shape[:-1], dtype=torch.bool)
        z, true_z = mean_distance(output.points, valid), mean_distance(truth, valid)
        error = (output.points / z - truth / true_z).norm(dim=-1).mean()
        anchor = anchor_loss(
            output.points, torch.ones_like(output.conf), sample.anchors, alpha=0, reduction="mean"
        )
        views = RenderedViews(
            sample.images[None, VIEWS:],
            sample.cam_from_reference[None, VIEWS:],
            sample.intrinsics[None, VIEWS:],
            true_z,
        )
        context = sample.images[None, :VIEWS]
        rendered = rendering_loss(output.points, output.gaussians, context, z, views).rendered
        difference = (rendered.clamp(0, 1) - views.images).square().mean((0, 2, 3, 4))
        psnr = -10 * difference.log10().mean()
        return {"error": float(error), "anchor": float(anchor), "psnr": float(psnr)}


def _points(depths, poses, K, size):
    """The true pointmaps [1, V, size, size, 3]: the nearest pixel's depth along each new pixel's ray."""
    to_model = PixelMap.cover(depths.shape[:0:-1], (size, size))
    grid = pixel_centres(size, size)
    old = (grid - (to_model.offset_x, to_model.offset_y)) / (to_model.scale_x, to_model.scale_y)
    column, row = np.floor(old).astype(int).reshape(-1, 2).T
    maps = []
    for depth, pose, k in zip(depths, poses, K, strict=True):
        camera = unproject(to_model.intrinsics(k), grid.reshape(-1, 2), depth[row, column])
        maps.append(transform(relative(poses[0], pose), camera).reshape(size, size, 3))
    return torch.from_numpy(np.stack(maps)[None].astype(np.float32))


def curves(name, loss, shard, room, folder, steps, every, lr) -> Iterator[dict]:
    """Train one run with the real trainer, stopping now and then to measure."""
    adapt = AdaptConfig.model_validate(
        {
            "base": "mini",
            "steps": steps,
            "sampling": {"n_context": VIEWS, "n_targets": TARGETS},
            "loss": {"perceptual": "none", "rendered_context": 1, **loss},
            "regularisation": {"enabled": False},
            "optimizer": {"batch": 1, "lr": lr},
            "checkpoint": {"minutes": 0, "keep": 1},
            "device": "cpu",
            "loader_threads": 1,
        }
    )
    settings = TrainSettings(
        adapt=adapt,
        datasets=(DataSet(parts=(ShardPart(path=str(shard)),)),),
        out=str(folder / name.replace(" / ", "_")),
    )
    settings.folder.mkdir(parents=True)
    ranks = Ranks(0, 1, 0, torch.device("cpu"))
    built = build(settings, ranks)
    truth = Truth(room, shard, built.prepared.image_px, adapt.sampling)
    trainer = Trainer(built.parts, built.routine, settings.folder, ranks)
    model = built.prepared.model
    yield {"run": name, "step": 0, **truth.measure(model)}
    for step in range(every, steps + 1, every):
        trainer.run(until=step)
        if trainer.state.step < step:  # the trainer takes signals for itself, to save first
            raise KeyboardInterrupt
        yield {"run": name, "step": step, **truth.measure(model)}


def summary(lines):
    """A row a run: where it began, its best and its last values."""
    rows = []
    for name in dict.fromkeys(line["run"] for line in lines):
        own = [line for line in lines if line["run"] == name]
        first, last = own[0], own[-1]
        rows.append(
            {
                "run": name,
                "error before": first["error"],
                "error after": last["error"],
                "ratio": last["error"] / first["error"],
                "lowest": min(line["error"] for line in own),
                "anchor before": first["anchor"],
                "anchor after": last["anchor"],
                "PSNR before": first["psnr"],
                "PSNR after": last["psnr"],
            }
        )
    return rows


def plot(lines, path):
    """Error and PSNR against steps, a line a run."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    mpl.rcParams["svg.hashsalt"] = "sage"
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    kinds = {"error": "error of the points, mean distances", "psnr": "PSNR of views not given, dB"}
    for axis, (kind, text) in zip(axes, kinds.items(), strict=True):
        for name in dict.fromkeys(line["run"] for line in lines):
            own = [line for line in lines if line["run"] == name]
            axis.plot([o["step"] for o in own], [o[kind] for o in own], label=name)
        axis.set(xlabel="step", ylabel=text)
        axis.grid(alpha=0.3)
    axes[0].legend(frameon=False, fontsize="small")
    axes[0].set_ylim(bottom=0)
    figure.savefig(path, metadata={"Date": None})


def main(argv=None):
    options = parser(__doc__)
    options.add_argument("--steps", type=int, default=200, help="of each run (200)")
    options.add_argument("--every", type=int, default=20, help="steps between measurements (20)")
    options.add_argument("--lr", type=float, default=3e-4, help="peak learning rate (3e-4)")
    options.add_argument("--seed", type=int, default=7, help="of the room (7)")
    options.add_argument("--plot", type=Path, metavar="FILE", help="also draw the curves here")
    options.add_argument("--runs", nargs="*", choices=list(RUNS), default=list(RUNS))
    arguments = options.parse_args(argv)
    # Pictures this small: more threads would only wait for each other.
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        room = RoomClip(arguments.seed)
        shard, _ = write_room_shard(Path(folder), [room])
        for name in arguments.runs:
            for line in curves(
                name,
                RUNS[name],
                shard,
                room,
                Path(folder),
                arguments.steps,
                arguments.every,
                arguments.lr / 10 if name.endswith("/ 10") else arguments.lr,
            ):
                lines.append(line)
                print(
                    json.dumps(
                        {k: round(v, 4) if isinstance(v, float) else v for k, v in line.items()}
                    )
                )
    facts = {"steps": arguments.steps, "lr": arguments.lr, "room": arguments.seed}
    publish("One room by heart", summary(lines), arguments.json, measurements=len(lines), **facts)
    if arguments.json:
        record = json.loads(arguments.json.read_text())
        arguments.json.write_text(json.dumps({**record, "curves": lines}, indent=1) + "\n")
    if arguments.plot:
        plot(lines, arguments.plot)


if __name__ == "__main__":
    main()
