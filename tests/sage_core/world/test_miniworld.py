"""Domains that share no scene, films that follow from their seed, cameras with a real shutter."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from sage_core.config import SageConfig
from sage_core.errors import ConfigError
from sage_core.evaluation.labelled import test_sets as labelled_sets
from sage_core.geometry import camera_centres
from sage_core.training.labelled import labelled_source
from sage_core.training.order import Kind, SampleId, SampleOrder
from sage_core.world import FAMILIES, build_scene, camera_path, pinhole, render_views
from sage_core.world.domains import DOMAINS, TEST_DOMAINS, domain_batch, domain_named, domain_sample
from sage_core.world.encoding import Effects
from sage_core.world.exposure import exposed_frames, pose_at
from sage_core.world.films import film_plan, write_planned

torch.set_num_threads(1)


def test_no_scene_serves_two_purposes():
    scenes = {name: set() for name in DOMAINS}
    for name, domain in DOMAINS.items():
        scenes[name] = {(domain.family_of(seed), seed) for seed in domain.seeds(500)}
    names = list(scenes)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            assert not scenes[a] & scenes[b], (a, b)
    trained = {f for name in ("labelled", "filmed") for f in DOMAINS[name].families}
    looks = {FAMILIES[name].look.bank for name in trained}
    kinds = {FAMILIES[name].kind for name in trained}
    far = FAMILIES[DOMAINS["far"].families[0]]
    assert far.look.bank not in looks
    assert far.kind not in kinds
    assert not {f for name in TEST_DOMAINS[1:] for f in DOMAINS[name].families} & trained


def test_more_scenes_than_there_are_and_unknown_domains_are_named():
    with pytest.raises(ValueError, match="has 100000000 scenes"):
        DOMAINS["filmed"].seeds(10**8 + 1)
    with pytest.raises(ValueError, match="'Q': choose one of labelled"):
        domain_named("Q")


@pytest.mark.parametrize(
    "family", ["corridor-plain", "office-rich", "table-worn", "court-rich", "hall-graphic"]
)
def test_every_kind_has_space_for_cameras_and_more_than_its_walls_to_see(family):
    scene = build_scene(3, family)
    path = camera_path(scene, "walkthrough", 60, 10.0, 0)
    assert not scene.blocked(camera_centres(path), 0.2).any()
    _, depth = render_views(scene, path[::30], np.repeat(pinhole(60, 24, 32)[None], 2, 0), 24, 32)
    assert (depth > 0.1).all()
    bare = (scene.size[0] + scene.size[2]) * 1.1
    assert np.isfinite(depth).all()
    assert depth.max() < bare
    assert len(scene.shape) > 15


def test_families_of_a_domain_are_rendered_together_as_alone():
    domain = DOMAINS["labelled"]
    batch = domain_batch(domain, [4, 5], 2, 24)
    for row, seed in enumerate((4, 5)):
        alone = domain_sample(domain, seed, 2, 24)
        np.testing.assert_allclose(batch.depth[row], alone.depth, rtol=1e-6)
        assert alone.name == f"rooms-{domain.family_of(seed)}-{seed}"


def test_poses_between_frames():
    path = camera_path(build_scene(0, "V"), "walkthrough", 10, 10.0, 0)
    np.testing.assert_allclose(pose_at(path, 3), path[3], atol=1e-12)
    np.testing.assert_allclose(pose_at(path, 99), path[9], atol=1e-12)
    half = pose_at(path, 3.5)
    np.testing.assert_allclose(half[:, :3] @ half[:, :3].T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(camera_centres(half[None])[0], camera_centres(path[3:5]).mean(0))


def test_a_rolling_shutter_exposes_the_middle_row_at_the_pose_and_others_before_and_after():
    scene = build_scene(0, "V")
    path = camera_path(scene, "walkthrough", 3, 2.0, 0)
    K, size = pinhole(60, 48, 64), (64, 48)
    views, _ = render_views(scene, path, np.repeat(K[None], 3, 0), 48, 64)

    def frame(**effects):
        return next(
            iter(list(exposed_frames(scene, path, K, size, 2.0, None, Effects(**effects)))[1:])
        )

    np.testing.assert_array_equal(frame(), views[1])
    late = {row: pose_at(path, 1 + 0.8 * ((row + 3) / 48 - 0.5)) for row in (0, 42)}
    rolled = frame(readout=0.8)
    for row, pose in late.items():
        seen, _ = render_views(scene, pose[None], K[None], 48, 64)
        off = np.abs(rolled[row : row + 6].astype(int) - seen[0, row : row + 6]).mean()
        assert off < 2 < np.abs(rolled[row : row + 6].astype(int) - views[1][row : row + 6]).mean()
    blurred = frame(shutter=1.0).astype(int)
    assert (
        np.abs(np.diff(blurred, axis=1)).mean()
        < np.abs(np.diff(views[1].astype(int), axis=1)).mean()
    )


def test_a_film_follows_from_its_seed(tmp_path):
    seed = DOMAINS["filmed"].seeds(3)[2]
    assert film_plan(seed) == film_plan(seed)
    made = write_planned(seed, tmp_path, seconds=0.3)
    again = write_planned(seed, tmp_path / "..", seconds=0.3)
    assert made.read_bytes() == again.read_bytes()
    again.unlink()


def test_labelled_samples_of_a_domain_and_labelled_samples_alone():
    config = SageConfig().adapt.model_copy(
        update={"regularisation": SageConfig().adapt.regularisation.model_copy(
            update={"source": "world:labelled", "pool": 3}
        )}
    )  # fmt: skip
    source = labelled_source(config, 16, 0)
    names = {source(SampleId(Kind.LABELLED, 0, i)).name for i in range(9)}
    assert len(names) <= 3
    wrong = config.regularisation.model_copy(update={"source": "world:nowhere"})
    with pytest.raises(ConfigError, match="world:nowhere: no domain 'nowhere'"):
        labelled_source(config.model_copy(update={"regularisation": wrong}), 16, 0)
    alone = SampleOrder(per_epoch=5, ratio=0, batch=2)
    assert [str(alone.at(n)) for n in (0, 4, 5)] == ["labelled:0:0", "labelled:0:4", "labelled:1:0"]
    assert alone.counts(4) == {Kind.VIDEO: 0, Kind.LABELLED: 8}


def test_domains_are_test_sets():
    config = SageConfig().evaluate.model_copy(
        update={"world": ("near", "far"), "world_tuples": 2, "views": 2}
    )
    sets = labelled_sets(config, 16, 0, None)
    assert [s.name for s in sets] == ["world-near", "world-far"]
    assert sets[1].tuples[1]().name.startswith("rooms-hall-graphic-")


_TWO_RANKS = """
import json, sys
from pathlib import Path
import torch
from sage_core.training.ending import leave
from sage_core.training.ranks import joined
from sage_core.world.pretrain import Phase, Pretraining
with joined("cpu", 1) as ranks:
    run = Pretraining(Path(sys.argv[1]) / str(ranks.rank), 1.0, ranks)
    run._step(Phase("two", 1.0, 2, 1, 1e-3), 0.3)
    if ranks.first:
        total = float(sum(p.double().abs().sum() for p in run.model.parameters()))
        print(json.dumps([run.progress.samples, total]))
leave(0)
"""


@pytest.mark.slow
def test_two_processes_take_the_step_of_one_with_twice_the_samples(tmp_path):
    (tmp_path / "two.py").write_text(_TWO_RANKS)
    launched = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
    ]
    done = subprocess.run(
        [*launched, str(tmp_path / "two.py"), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    samples, total = json.loads(done.stdout.strip().splitlines()[-1])
    from sage_core.world.pretrain import Phase, Pretraining

    alone = Pretraining(tmp_path / "alone", 1.0)
    alone._step(Phase("two", 1.0, 2, 2, 1e-3), 0.3)
    assert samples == alone.progress.samples == 2
    parameters = float(sum(p.double().abs().sum() for p in alone.model.parameters()))
    assert total == pytest.approx(
        parameters, rel=1e-4
    )  # but for the jitter, drawn for both at once
