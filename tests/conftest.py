"""Property tests draw the same examples each time, and have no clock in them; nothing is told to anyone."""

import os
from collections import Counter

import pytest
from hypothesis import settings

settings.register_profile("sage", derandomize=True, deadline=None)
settings.load_profile("sage")

# Before anything imports Prefect, also when pytest is started by hand.
os.environ.update({"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"})


_SLOW = 20


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The costliest files come first, so that no process is left with one of them at the end."""
    cost: Counter[str] = Counter()
    for item in items:
        cost[str(item.path)] += _SLOW if item.get_closest_marker("slow") else 1
    items.sort(key=lambda item: -cost[str(item.path)])


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    """An S3 server on loopback, and a folder for what its workspaces keep on this machine."""
    from benchmarks.object_store import object_store

    with pytest.MonkeyPatch.context() as patch, object_store() as store:
        patch.setenv("SAGE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield store
