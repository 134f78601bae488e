"""Models on a protocol: figures, resuming, comparing, and what is refused."""

import csv
import json
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
import layouts

from sage_core.errors import ConfigError, SageError
from sage_core.evaluation import benchmark
from sage_core.evaluation.benchmark import Benchmark, run_benchmark
from sage_core.evaluation.datasets import data_set
from sage_core.evaluation.measures import measured
from sage_core.evaluation.protocols import protocol_named
from sage_core.models import GeometryOutput, MVDust3rConfig, build_model, save_model
from sage_core.world import pinhole, room_sample

TINY = MVDust3rConfig(
    image_size=32, patch_size=8, enc_embed_dim=32, enc_depth=1, enc_num_heads=2,
    dec_embed_dim=32, dec_depth=1, dec_num_heads=2, skip_dim=4, gs_mlp_dim=16,
)  # fmt: skip
SAGE_4 = protocol_named("sage-4")
FEW = replace(SAGE_4, frames=replace(SAGE_4.frames, views=3, targets=0, count=3))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    for seed in (1, 2):
        save_model(build_model(TINY, seed), folder / f"{seed}.safetensors")
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    layouts.scannet(folder, layouts.rendered(10, pinhole(60, 48, 64), 48, 64))
    return folder


@pytest.fixture
def job(weights, root, tmp_path):
    models = {"base": str(weights / "1.safetensors"), "adapted": str(weights / "2.safetensors")}
    out = tmp_path / "out"
    return Benchmark(models, FEW, data_set("scannet"), root, out, pictures=1, threads=1)


def test_everything_is_measured_and_written_beside_its_protocol(job):
    report = run_benchmark(job)
    assert report["tuples"] == 3
    assert report["protocol"].startswith("sage-4/scannet#")
    rows = [json.loads(p.read_text()) for p in sorted(job.out.glob("rows/base-*/*.json"))]
    cds = [row["figures"]["cd"] for row in rows]
    assert report["total"]["base"]["cd"] == pytest.approx(np.mean(cds))
    assert report["scenes"]["scene0000_00"]["base"] == report["total"]["base"]
    better = np.mean([
        b["figures"]["cd"] < a["figures"]["cd"]
        for a, b in zip(report["rows"]["base"], report["rows"]["adapted"], strict=True)
    ])  # fmt: skip
    assert report["better"]["adapted"]["cd"] == better
    with (job.out / "metrics.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert {line["protocol"] for line in lines} == {report["protocol"]}
    assert sum(line["metric"] == "cd" for line in lines) == 2 * (3 + 1)
    page = (job.out / "index.html").read_text()
    assert page.count("data:image/jpeg;base64,") == len(report["pictures"]) == 4
    assert report["protocol"] in page
    assert "http" not in page


def test_a_killed_run_goes_on_where_it_was(job, monkeypatch):
    whole = run_benchmark(replace(job, out=job.out.with_name("whole")))
    real, seen = benchmark.measured, []

    def counted(*arguments):
        if len(seen) == 4:
            raise KeyboardInterrupt
        seen.append(arguments[1].name)
        return real(*arguments)

    monkeypatch.setattr(benchmark, "measured", counted)
    with pytest.raises(KeyboardInterrupt):
        run_benchmark(job)
    assert len(list(job.out.glob("rows/*/*.json"))) == 4
    monkeypatch.setattr(benchmark, "measured", lambda *a: (seen.append(a[1].name), real(*a))[1])
    again = run_benchmark(job)
    assert len(seen) == 6
    assert again == whole
    run_benchmark(job)
    assert len(seen) == 6


def test_two_runs_do_not_write_to_one_result(job):
    """The holder is a process of its own; nothing of what it has is touched."""
    job.out.mkdir()
    holder = """
        import sys
        from pathlib import Path
        from sage_core.training.lock import run_lock
        with run_lock(Path(sys.argv[1])):
            print("held", flush=True)
            sys.stdin.read()
    """
    command = [sys.executable, "-c", textwrap.dedent(holder), str(job.out)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout.readline() == "held\n"
        with pytest.raises(SageError, match=rf"is being written to by process {child.pid}.*--out"):
            run_benchmark(job)
        child.stdin.close()
    assert [p.name for p in job.out.iterdir()] == ["lock"]
    assert run_benchmark(job)["tuples"] == 3


def test_a_folder_of_other_results_is_left_alone(job):
    run_benchmark(job)
    before = {p: p.read_bytes() for p in job.out.rglob("*.json")}
    other = replace(job, protocol=replace(FEW, frames=replace(FEW.frames, seed=5)))
    with pytest.raises(ConfigError, match="holds results of sage-4/scannet"):
        run_benchmark(other)
    assert before == {p: p.read_bytes() for p in job.out.rglob("*.json")}


def test_data_that_disagrees_with_itself_is_not_measured(job, tmp_path):
    room = layouts.rendered(10, pinhole(60, 48, 64), 48, 64)
    layouts.scannet(tmp_path / "wrong", replace(room, depth=3 * room.depth))
    wrong = replace(job, root=tmp_path / "wrong")
    with pytest.raises(
        SageError, match=r"depth is 3 × too large.*Nothing was measured.*--unchecked"
    ):
        run_benchmark(wrong)
    assert not (job.out / "rows").exists()
    assert run_benchmark(replace(wrong, unchecked=True))["tuples"] == 3


def test_a_frame_that_went_missing_is_named_and_costs_nothing(job, tmp_path):
    root = tmp_path / "data"
    folder = layouts.scannet(root, layouts.rendered(10, pinhole(60, 48, 64), 48, 64))
    here = replace(job, root=root)
    run_benchmark(here)
    rows = sorted(job.out.glob("rows/*/*.json"))
    number = json.loads((job.out / "frames.json").read_text())["list"]["tuples"][0]["inputs"][0]
    kept = [p.read_bytes() for p in rows[1:]]
    rows[0].unlink()
    for path in folder.glob(f"*/{number}.*"):
        path.unlink()
    with pytest.raises(SageError, match=f"lacks frame {number}"):
        run_benchmark(here)
    assert [p.read_bytes() for p in rows[1:]] == kept


class Oracle(torch.nn.Module):
    """Answers with the truth, in a unit of its own."""

    device, image_size = torch.device("cpu"), 32

    def __init__(self, points, cameras=None):
        super().__init__()
        self.points = torch.as_tensor(points, dtype=torch.float32)
        self.cameras = cameras

    def forward(self, images):
        points = 0.31 * self.points[None, : images.shape[1]]
        return GeometryOutput(
            points, torch.ones(points.shape[:-1]), "one_plus_exp", "relative",
            cam_from_world=self.cameras,
        )  # fmt: skip


@pytest.mark.parametrize("name", ["cut3r", "pi3-dense", "relpose-10", "sage-4"])
def test_the_truth_scores_perfectly_under_every_protocol(name):
    views = room_sample(11, 4, 32, "P")
    figures, _ = measured(
        Oracle(views.reference_points()), views, 3, protocol_named(name), workers=1
    )
    if name == "sage-4":
        assert figures["cd"] == pytest.approx(0, abs=1e-5)
        assert (figures["rre15"], figures["dac@0.1"]) == (0, 1)
    elif name == "relpose-10":
        assert (figures["rra@5"], figures["rta@15"]) == (1, 1)
        assert figures["auc@30"] > 0.9
    else:
        assert figures["accuracy"] == pytest.approx(0, abs=1e-5)
        assert figures["completeness_before_icp"] == pytest.approx(0, abs=1e-5)
        assert figures["nc_knn30"] == pytest.approx(1, abs=1e-3)


def test_novel_views_are_rendered_from_the_targets_cameras(weights):
    from sage_core.models import load_model

    views = room_sample(11, 4, 32, "P")
    figures, prediction = measured(
        load_model(str(weights / "1.safetensors")).eval(), views, 3, SAGE_4, workers=1
    )
    assert len(prediction.points) == 3
    assert np.isfinite(figures["novel_psnr"])
    assert -1 <= figures["novel_ssim"] <= 1
