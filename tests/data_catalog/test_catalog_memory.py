"""What a catalog holds of many events: all that was written, in little memory; what is made of it, once."""

from __future__ import annotations

import gc
import pickle
import tracemalloc
from dataclasses import fields, replace
from pathlib import Path

import pytest
from catalog_workers import event

from data_catalog import StageEvent, StoreError, Workspace
from data_catalog._catalog import Catalog
from sage_core.types import Artifact


def judged(number: int) -> StageEvent:
    """An event in which no two have the same of anything."""
    return event(
        f"v{number:016x}",
        source=f"https://example.org/{number}",
        message=f"number {number}",
        verdict="rejected",
        reason="blurred",
        figures={"sharpness": {"value": number, "threshold": 2, "rule": ">="}},
        artifacts={"contact": Artifact(f"clips/{number}/contact.jpg", f"{number:064x}", number)},
        details={"clip": {"pose_frames": list(range(number, number + 70))}},
        input_hash=f"{number:016x}",
        seconds=number / 8,
        cpu_seconds=number / 4,
        time=f"2026-01-01T00:00:{number % 60:02d}+00:00",
    )


@pytest.mark.parametrize("together", [1, 100, 400])
def test_every_field_of_every_event_is_found_again(ws: Workspace, together: int) -> None:
    """Fewer than a block holds, more than one holds; appended by this catalog, and read by another."""
    given = [judged(number) for number in range(400)]
    written = []
    for start in range(0, 400, together) if together > 1 else (0,):
        written += ws.catalog.append(given[start : start + together])
    for catalog in (ws.catalog, Catalog(ws.store)):
        found = catalog.latest("curate")
        assert found == written
        assert [catalog.find(e.item, "curate") for e in reversed(written)] == written[::-1]
        for one, other in zip(found, written, strict=True):
            for field in fields(StageEvent):
                assert getattr(one, field.name) == getattr(other, field.name)


def test_a_stored_event_can_be_changed_into_another_and_sent_elsewhere(ws: Workspace) -> None:
    ws.catalog.append([judged(number) for number in range(200)])
    found = Catalog(ws.store).find(judged(150).item, "curate")
    assert found is not None
    assert replace(found, attempt=2, sequence=0) == replace(judged(150), attempt=2)
    assert pickle.loads(pickle.dumps(found)) == found
    with pytest.raises(AttributeError, match="has no attribute 'colour'"):
        _ = found.colour  # type: ignore[attr-defined]


def test_an_event_is_held_in_some_hundred_bytes(ws: Workspace) -> None:
    ws.catalog.append([judged(number) for number in range(4096)])
    catalog = Catalog(ws.store)
    catalog.latest("acquire")
    gc.collect()
    tracemalloc.start()
    try:
        assert len(catalog.latest("curate")) == 4096
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] / 4096 < 300
    finally:
        tracemalloc.stop()


def test_sequences_rise_also_after_an_event_that_is_not_the_latest(ws: Workspace) -> None:
    ws.catalog.append([event("a", attempt=2)])
    (late,) = ws.catalog.append([event("a", attempt=1)])
    (third,) = Catalog(ws.store).append([event("a", attempt=3)])
    assert (late.sequence, third.sequence) == (2, 3)
    found = ws.catalog.find("a", "curate")
    assert found is not None
    assert found.order == (3, 3)


def test_what_was_made_of_the_events_is_made_again_when_there_are_others(ws: Workspace) -> None:
    made = 0

    def count() -> int:
        nonlocal made
        made += 1
        return len(ws.catalog.latest("curate"))

    def asked() -> int:
        return ws.catalog.remembered("count", ["curate"], count)

    ws.catalog.append([event("a")])
    assert [asked(), asked(), made] == [1, 1, 1]
    ws.catalog.append([replace(event("a"), stage="acquire")])
    assert [asked(), made] == [1, 1]
    Catalog(ws.store).append([event("b")])
    with ws.catalog.still():
        assert asked() == 2
        Catalog(ws.store).append([event("c")])
        assert asked() == 2
    assert [asked(), made] == [3, 3]
    ws.catalog.expunge(["c"])
    assert [asked(), made] == [2, 4]


def test_in_a_plan_links_are_met_as_they_are_elsewhere(ws: Workspace, tmp_path: Path) -> None:
    """Whole, missing, a link to a file inside, a folder that is a link inside, one that leads out."""
    whole = ws.store.write_bytes("videos/v1/source.mp4", b"film")
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    (outside / "source.mp4").write_bytes(b"film")
    (ws.root / "videos/v2").mkdir()
    (ws.root / "videos/v2/source.mp4").symlink_to(ws.root / whole.path)
    (ws.root / "videos/v3").symlink_to(ws.root / "videos/v1")
    (ws.root / "videos/v4").symlink_to(outside)

    def found() -> list[bool | str]:
        answers: list[bool | str] = []
        for name in ("v1", "v0", "v2", "v3", "v4"):
            try:
                answers.append(ws.store.verify(replace(whole, path=f"videos/{name}/source.mp4")))
            except StoreError as error:
                answers.append(str(error))
        return answers

    elsewhere = found()
    assert elsewhere[:4] == [True, False, False, True]
    assert "out of the workspace" in str(elsewhere[4])
    with ws.still():
        assert found() == elsewhere
        assert found() == elsewhere
