"""Notes: what was found in the log holds, in any process, until the log or the question is another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from catalog_workers import event

from data_catalog import Note, StoreError, Workspace
from data_catalog._catalog import Catalog


def asked(ws: Workspace, given: object = None, stages: tuple[str, ...] = ("curate",)) -> Note:
    """As a new process asks: its catalog has read nothing."""
    return Catalog(ws.store).note("clips", stages, given)


def test_a_note_holds_until_there_is_news_of_its_stages(ws: Workspace) -> None:
    ws.catalog.append([event("a")])
    assert asked(ws).value is None
    asked(ws).keep({"clips": ["a"], "share": float("nan")})
    assert asked(ws).value == {"clips": ["a"], "share": "nan"}
    ws.catalog.append([replace(event("a"), stage="acquire")])
    assert asked(ws).value is not None, "another stage's news"
    ws.catalog.append([event("b")])
    assert asked(ws).value is None


def test_it_holds_for_the_question_that_it_answers(ws: Workspace) -> None:
    asked(ws, ["settings", 1]).keep(7)
    assert asked(ws, ["settings", 1]).value == 7
    assert asked(ws, ["settings", 2]).value is None
    assert asked(ws, ["settings", 1], ("acquire", "curate")).value is None
    assert Catalog(ws.store).note("shards", ["curate"], ["settings", 1]).value is None


def test_no_event_is_read_for_it(ws: Workspace) -> None:
    ws.catalog.append([event(f"v{number}") for number in range(10)])
    asked(ws).keep(10)
    catalog = Catalog(ws.store)
    assert catalog.note("clips", ["curate"]).value == 10
    assert not catalog._logs["curate"].latest
    assert len(catalog.latest("curate")) == 10, "and who reads then finds all"


def test_what_came_while_it_was_found_makes_it_old(ws: Workspace) -> None:
    note = asked(ws)
    ws.catalog.append([event("late")])
    note.keep(["late"])
    assert asked(ws).value is None


def test_who_looks_at_an_older_state_keeps_nothing(ws: Workspace) -> None:
    with ws.catalog.still():
        Catalog(ws.store).append([event("unseen")])
        ws.catalog.note("clips", ["curate"]).keep(0)
    assert asked(ws).value is None


def test_merging_the_files_and_forgetting_make_it_old(ws: Workspace) -> None:
    for name in "abc":
        ws.catalog.append([event(name)])
    asked(ws).keep(3)
    ws.catalog.compact()
    assert asked(ws).value is None
    asked(ws).keep(3)
    ws.catalog.expunge(["c"])
    assert asked(ws).value is None
    assert not list((ws.root / "catalog" / "notes").iterdir()), "they may have named it"


@pytest.mark.parametrize("damage", [b"", b"x" * 20, b"x" * 100, None])
def test_a_damaged_note_is_none(ws: Workspace, damage: bytes | None) -> None:
    asked(ws).keep(list(range(1000)))
    (file,) = (ws.root / "catalog" / "notes").iterdir()
    data = file.read_bytes()
    file.write_bytes(data[:-8] if damage is None else data[: len(data) - len(damage)] + damage)
    if damage == b"":
        file.unlink()
    assert asked(ws).value is None
    asked(ws).keep(1)
    assert asked(ws).value == 1


def test_where_nothing_can_be_written_nothing_is_kept(ws: Workspace) -> None:
    folder = ws.root / "catalog" / "notes"
    folder.rmdir()
    folder.touch()
    ws.catalog.note("clips", ["curate"]).keep(1)
    assert ws.catalog.note("clips", ["curate"]).value is None


def test_a_folder_is_looked_into_unless_much_is_asked_at_once(
    ws: Workspace, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "points.bin").write_bytes(bytes(100))
    model = ws.store.publish(tmp_path / "model", "sfm/c1")
    (ws.root / "sfm/c1/points.bin").write_bytes(b"")
    assert not ws.store.verify(model)
    with ws.store.still():
        assert ws.store.verify(model)
        assert not ws.store.verify(model, deep=True)
        assert not ws.store.verify(replace(model, path="sfm/c2"))
        with pytest.raises(StoreError):
            ws.store.path("../elsewhere")
