import pytest
from room_shards import write_room_shard
from training_runs import TINY

from sage_core.config.adapt import AdaptConfig
from sage_core.models import build_model, save_model
from sage_core.training import DataSet, ShardPart, TrainSettings


@pytest.fixture(scope="session")
def room_shard(tmp_path_factory):
    """Path of a frames file with two clips."""
    path, _ = write_room_shard(tmp_path_factory.mktemp("shards"))
    return path


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """Weights of a tiny model, fresh."""
    path = tmp_path_factory.mktemp("base") / "tiny.safetensors"
    save_model(build_model(TINY, seed=1), path)
    return path


@pytest.fixture
def settings(room_shard, base, tmp_path):
    """Makes the settings of a run of ``steps``, with changes to the adapt section."""

    def made(name="run", **changes):
        adapt = {
            "base": str(base),
            "steps": 4,
            "sampling": {"n_context": 3, "n_targets": 1},
            "loss": {"perceptual": "none", **changes.pop("loss", {})},
            "regularisation": {"source": "rooms", "ratio": 2, "pool": 3},
            "optimizer": {"batch": 2, "lr": 1e-3, **changes.pop("optimizer", {})},
            "device": "cpu",
            "threads": 1,
        }
        return TrainSettings(
            adapt=AdaptConfig.model_validate({**adapt, **changes}),
            datasets=(DataSet(parts=(ShardPart(path=str(room_shard)),)),),
            out=str(tmp_path / name),
            seed=11,
        )

    return made
