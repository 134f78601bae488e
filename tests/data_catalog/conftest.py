from __future__ import annotations

from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from catalog_workers import CONTEXT

from data_catalog import Workspace


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return Workspace.open(tmp_path / "ws")


@pytest.fixture
def spawn() -> Iterator[Callable[..., BaseProcess]]:
    """Starts real processes, and ends those that a test leaves running."""
    started: list[BaseProcess] = []

    def start(target: Callable[..., Any], *arguments: Any) -> BaseProcess:
        process = CONTEXT.Process(target=target, args=arguments)
        process.start()
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.join()
