"""One process: what goes into the log comes out, and the latest wins."""

from __future__ import annotations

import copy
import json
import pickle
import re
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from unittest.mock import patch

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from catalog_workers import event
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import data_catalog
from data_catalog import CatalogError, Workspace, _log
from data_catalog._catalog import Catalog
from sage_core.types import Artifact

REPOSITORY = Path(__file__).parents[2]

FULL = event(
    "v0_000010_000200",
    verdict="rejected",
    parent="v0",
    source="https://example.org/?a=ü\n",
    reason="blurred",
    message="too blurred",
    figures={"sharpness": {"value": 1.5, "threshold": 2, "rule": ">="}},
    retryable=False,
    config_hash="c",
    input_hash="i",
    code_version="1",
    attempt=3,
    artifacts={"contact": Artifact("clips/v0/contact.jpg", "ab", 7)},
    details={"clip": {"crop": [1, 2, 3, 4], "crowd": None}},
    seconds=1.25,
    cpu_seconds=2.5,
    host="h",
    time="2026-01-01T00:00:00+00:00",
    run="r",
)


def test_an_event_comes_back_as_it_was_put_in(ws: Workspace) -> None:
    (written,) = ws.catalog.append([FULL])
    assert written.sequence == 1
    for catalog in (ws.catalog, Catalog(ws.store)):
        assert catalog.find(FULL.item, "curate") == written
        assert catalog.latest(parent="v0", verdict="rejected") == [written]
        assert catalog.latest(item="v0") == catalog.latest("acquire") == []
        assert catalog.next_attempt(FULL.item, "curate") == 4
        assert catalog.next_attempt(FULL.item, "acquire") == 1


def test_what_was_read_can_be_used_as_any_event(ws: Workspace) -> None:
    ws.catalog.append([FULL])
    read = Catalog(ws.store).find(FULL.item, "curate")
    assert read is not None
    for other in (pickle.loads(pickle.dumps(read)), copy.deepcopy(read)):
        assert (other, other.details) == (read, FULL.details)
    assert "sharpness" in repr(read)
    again = replace(read, verdict="accepted", reason=None, attempt=4)
    assert (again.figures, again.artifacts, again.details) == (
        *(FULL.figures, FULL.artifacts, FULL.details),
    )
    assert ws.catalog.append([again]) == [replace(again, sequence=2)]
    assert asdict(read) == asdict(replace(FULL, sequence=1))
    with pytest.raises(AttributeError, match="no attribute 'detail'"):
        read.detail  # type: ignore[attr-defined]  # noqa: B018


def test_nobody_spoils_what_is_kept(ws: Workspace) -> None:
    ws.catalog.append([FULL])
    read = Catalog(ws.store).find(FULL.item, "curate")
    assert read is not None
    read.details["clip"]["crop"].clear()
    assert read.details == FULL.details


def test_numbers_that_json_does_not_know_are_kept_as_words(ws: Workspace) -> None:
    figures = {"psnr": {"value": float("inf")}, "n": {"value": np.float32("nan")}}
    ws.catalog.append([event("a", figures=figures, details={"k": np.arange(3), "n": np.int64(4)})])
    found = Catalog(ws.store).find("a", "curate")
    assert found is not None
    assert found.figures == {"psnr": {"value": "inf"}, "n": {"value": "nan"}}
    assert found.details == {"k": [0, 1, 2], "n": 4}


@pytest.mark.parametrize(
    "bad",
    [
        {"stage": "cook"},
        {"verdict": "maybe"},
        {"verdict": "failed"},
        {"verdict": "failed", "reason": "bad luck"},
        {"attempt": 0},
        {"item": ""},
    ],
)
def test_what_no_reader_would_understand_is_refused_whole(
    ws: Workspace, bad: dict[str, object]
) -> None:
    with pytest.raises(ValueError):
        ws.catalog.append([event("good"), event(**({"item": "a"} | bad))])  # type: ignore[arg-type]
    assert ws.catalog.latest() == []


def test_sorted_by_stage_in_order_then_item(ws: Workspace) -> None:
    ws.catalog.append([event(i, stage=s) for s in ("evaluate", "curate", "acquire") for i in "ba"])
    found = [(e.stage, e.item) for e in ws.catalog.latest()]
    assert found == [(s, i) for s in ("acquire", "curate", "evaluate") for i in "ab"]


STEP = st.one_of(
    st.lists(
        st.tuples(
            st.sampled_from("abc"), st.sampled_from(["acquire", "curate"]), st.integers(1, 4)
        ),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from(["compact", "merge", "reopen"]),
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=st.lists(STEP, max_size=12))
def test_latest_wins_by_attempt_then_order_of_appending(
    tmp_path_factory: pytest.TempPathFactory, steps: list[object]
) -> None:
    store = Workspace.open(tmp_path_factory.mktemp("ws")).store
    writer, reader = Catalog(store), Catalog(store)
    expected: dict[tuple[str, str], tuple[int, int]] = {}
    counts: dict[tuple[str, str], int] = {}
    for step in steps:
        if isinstance(step, list):
            writer.append([event(i, stage=s, attempt=a) for i, s, a in step])
            for item, stage, attempt in step:
                key = (item, stage)
                counts[key] = counts.get(key, 0) + 1
                expected[key] = max(expected.get(key, (0, 0)), (attempt, counts[key]))
        elif step == "reopen":
            writer = Catalog(store)
        else:
            for log in writer._logs.values():
                log.compact(whole=step == "compact")
        assert {(e.item, e.stage): e.order for e in reader.latest()} == expected
    assert {(e.item, e.stage): e.order for e in Catalog(store).latest()} == expected
    assert len(reader.frame(all=True)) == sum(counts.values())
    assert len(reader.frame()) == len(expected)


def test_many_small_files_are_merged_on_the_way(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_log, "_LOOSE_LIMIT", 8)
    for number in range(100):
        ws.catalog.append([event(f"v{number % 7}")])
    files = list((ws.root / "catalog/events/stage=curate").iterdir())
    assert len(files) < 20
    assert sorted(e.sequence for e in Catalog(ws.store).latest()) == [14, 14, 14, 14, 14, 15, 15]
    assert len(ws.catalog.frame(all=True)) == 100


def test_a_listing_overtaken_by_a_compaction_misses_nothing(ws: Workspace) -> None:
    """A folder's listing may hold the old generation but not what went or came while it was made."""
    ws.catalog.append([event("a")])
    ws.catalog.append([event("b")])
    folder, writer = ws.root / "catalog/events/stage=curate", ws.catalog._logs["curate"]
    before = sorted(file.name for file in folder.iterdir())
    remove, looks = writer._remove, 0

    def slow_listing() -> list[str]:
        return [n for n in before if n.startswith("_generation-") or (folder / n).exists()]

    def remove_and_look(names: Iterable[str]) -> None:
        nonlocal looks
        for name in names:
            remove([name])
            reader = Catalog(ws.store)._logs["curate"]
            with patch.object(reader, "_names", side_effect=[slow_listing(), reader._names()]):
                reader.refresh()
            assert set(reader.latest) == {"a", "b"}
            looks += 1

    writer._remove = remove_and_look  # type: ignore[method-assign]
    ws.catalog.compact()
    assert looks == 3


def test_pandas_and_the_queries_of_the_documentation(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    sharp = {"sharpness": {"value": 7.5, "threshold": 2, "rule": ">="}}
    ws.catalog.append([event("a", verdict="failed", reason="crashed"), event("b", figures=sharp)])
    ws.catalog.compact()
    ws.catalog.append([event("a", figures=sharp, attempt=2), event("a", stage="assemble")])
    ws.catalog.append([event("a", verdict="failed", reason="crashed")])  # a straggler of attempt 1
    monkeypatch.chdir(ws.root.parent)
    text = (REPOSITORY / "docs/catalog.md").read_text()
    view, counts, sharpness = re.findall(r"```sql\n(.*?)```", text, re.DOTALL)
    with duckdb.connect() as database:
        database.execute(view)
        assert database.execute(counts).fetchall() == [
            ("assemble", "accepted", None, 1),
            ("curate", "accepted", None, 2),
        ]
        assert database.execute(sharpness).fetchall() == [("a", 7.5), ("b", 7.5)]
        columns = {row[0] for row in database.execute("DESCRIBE latest").fetchall()}
    raw = pd.read_parquet("ws/catalog/events")
    assert len(raw) == 5
    assert set(raw.columns) == columns == set(ws.catalog.frame().columns)
    assert json.loads(raw[raw["item"] == "b"]["figures"].iloc[0]) == sharp


def test_who_plans_sees_the_catalog_as_it_was(ws: Workspace) -> None:
    other = Catalog(ws.store)
    with ws.still():
        other.append([event("a")])
        assert ws.catalog.find("a", "curate") is None
        assert ws.catalog.latest("curate") == []
        ws.catalog.append([event("b")])
        assert [e.item for e in ws.catalog.latest("curate")] == ["a", "b"]
    other.append([event("c")])
    assert ws.catalog.find("c", "curate") is not None


def test_no_clock_moves_the_latest(ws: Workspace) -> None:
    ws.catalog.append([event("a", time="2030-01-01T00:00:00+00:00", message="first")])
    ws.catalog.append([event("a", time="1999-01-01T00:00:00+00:00", message="second")])
    found = ws.catalog.find("a", "curate")
    assert found is not None
    assert found.message == "second"


def test_a_damaged_file_is_named(ws: Workspace) -> None:
    ws.catalog.append([event("a")])
    (file,) = (ws.root / "catalog/events/stage=curate").glob("event-*.parquet")
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(CatalogError, match=re.escape(file.name)):
        Catalog(ws.store).latest()


def test_a_newer_version_is_refused(ws: Workspace) -> None:
    ws.catalog.append([event("a")])
    (file,) = (ws.root / "catalog/events/stage=curate").glob("event-*.parquet")
    table = pq.read_table(file)
    pq.write_table(table.replace_schema_metadata({b"sage.catalog.version": b"2"}), file)
    with pytest.raises(CatalogError, match="catalog version 2"):
        Catalog(ws.store).latest()


def test_files_removed_by_hand_are_an_error_not_an_empty_catalog(ws: Workspace) -> None:
    ws.catalog.append([event("a")])
    ws.catalog.compact()
    (part,) = (ws.root / "catalog/events/stage=curate").glob("part-*.parquet")
    part.unlink()
    with pytest.raises(CatalogError, match="removed by hand"):
        Catalog(ws.store).latest()


def test_the_same_workspace_is_the_same_object_and_a_new_one_is_not(tmp_path: Path) -> None:
    first = Workspace.open(tmp_path / "ws")
    assert Workspace.open(str(tmp_path / "x" / ".." / "ws")) is first
    first.catalog.append([event("a")])
    (tmp_path / "ws").rename(tmp_path / "old")
    assert Workspace.open(tmp_path / "ws").catalog.latest() == []
    with pytest.raises(CatalogError, match="no workspace"):
        Workspace.open(tmp_path / "typo", create=False)
    assert not (tmp_path / "typo").exists()


def test_a_workspace_of_a_newer_sage_is_refused(tmp_path: Path) -> None:
    (tmp_path / "workspace.json").write_text('{"version": 3, "id": "x"}')
    with pytest.raises(CatalogError, match="newer SAGE"):
        Workspace.open(tmp_path)


def test_snapshots_are_named_by_what_they_hold(ws: Workspace) -> None:
    shards = [ws.store.write_bytes(f"shards/{n}.parquet", n.encode()) for n in "ab"]
    first = ws.catalog.snapshot(shards, {"videos": ["v"]}, None)
    assert ws.catalog.snapshot(shards[::-1], {"videos": ["v"]}, None) == first
    second = ws.catalog.snapshot(shards[:1], {"videos": ["v"]}, first.id)
    assert second.id != first.id
    assert ws.catalog.load_snapshot(second.id) == second
    file = ws.root / "catalog/snapshots" / f"{first.id}.json"
    assert json.loads(file.read_text())["shards"][0]["sha256"] == shards[0].sha256
    file.write_text(file.read_text().replace("a.parquet", "c.parquet"))
    with pytest.raises(CatalogError, match="changed after it was frozen"):
        ws.catalog.load_snapshot(first.id)
    with pytest.raises(CatalogError, match="no snapshot"):
        ws.catalog.load_snapshot("../../workspace")
    ws.store.remove("shards/a.parquet")
    with pytest.raises(CatalogError, match="missing"):
        ws.catalog.snapshot(shards, {}, None)


def test_exports_are_what_they_say() -> None:
    constants_first = sorted(data_catalog.__all__, key=lambda name: (not name.isupper(), name))
    assert constants_first == data_catalog.__all__
    assert all(hasattr(data_catalog, name) for name in data_catalog.__all__)
