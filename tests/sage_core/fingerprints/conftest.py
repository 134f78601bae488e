import pytest
from filmed_room import walk


@pytest.fixture(scope="session")
def room():
    return walk(31)


@pytest.fixture(scope="session")
def other_room():
    return walk(32)
