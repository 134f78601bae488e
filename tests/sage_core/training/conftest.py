import pytest
from room_shards import write_room_shard


@pytest.fixture(scope="session")
def room_shard(tmp_path_factory):
    """Path of a frames file with two clips."""
    path, _ = write_room_shard(tmp_path_factory.mktemp("shards"))
    return path
