"""The catalog of a workspace on S3: several writers without a lock, leases, faults of the store."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from catalog_workers import event

from data_catalog import (
    CatalogError,
    LeaseHeld,
    LeaseLost,
    StorageError,
    Workspace,
    _log,
    _numbered_log,
    _objects,
    _remote_lease,
)

OWN_ERROR = b"500 Internal Server Error"
_prefixes = itertools.count()


@pytest.fixture
def url(s3_server: Any) -> str:
    return str(s3_server.url(f"catalog-{next(_prefixes)}"))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_objects, "_FIRST_WAIT_S", 0.001)


def another(url: str) -> Workspace:
    """The workspace as another process would open it."""
    first = Workspace.open(url)
    return Workspace(first.root, first.url)


def shared_rows(ws: Workspace) -> list[dict[str, Any]]:
    frame = ws.catalog.frame(all=True)
    return frame[frame["item"] == "shared"].to_dict("records")


def in_threads(*works: Callable[[], None]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_writers_and_compactions_at_once_lose_and_double_nothing(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_log, "_LOOSE_LIMIT", 5)
    writers = [another(url) for _ in range(3)]

    def write(ws: Workspace, name: str) -> None:
        for number in range(6):
            ws.catalog.append([event("shared", message=f"{name}-{number}"), event(name)])

    in_threads(*(lambda n=n, ws=ws: write(ws, f"own{n}") for n, ws in enumerate(writers)))
    for ws in (*writers, another(url)):
        rows = shared_rows(ws)
        assert sorted(row["sequence"] for row in rows) == list(range(1, 19))
        assert set(Counter(row["message"].split("-")[0] for row in rows).values()) == {6}
        latest = ws.catalog.find("shared", "curate")
        assert latest is not None
        assert latest.sequence == 18
    names = writers[0].catalog._logs["curate"]._folder.names()
    assert 1 <= sum(name.startswith("part-") for name in names) < 6
    assert sum(name.startswith("_generation-") for name in names) == 1


def test_merged_files_stay_while_their_numbers_may_be_wanted(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws, late = another(url), another(url)
    late.catalog.append([event("a")])
    for _ in range(3):
        ws.catalog.append([event("a")])
    ws.catalog.compact()
    assert sum(n.startswith("event-") for n in ws.catalog._logs["curate"]._folder.names()) == 4
    (numbered,) = late.catalog.append([event("a")])  # it knows nothing of what came since its first
    assert numbered.sequence == 5
    monkeypatch.setattr(_numbered_log, "_KEPT_S", -1.0)
    ws.catalog.compact()
    ws.catalog.append([event("a")])
    ws.catalog.compact()
    names = ws.catalog._logs["curate"]._folder.names()
    assert [n for n in names if n.startswith("event-")] == ["event-000000000006.parquet"]
    (numbered,) = another(url).catalog.append([event("a")])
    assert numbered.sequence == 7
    assert len(late.catalog.frame(all=True)) == 7


def test_who_has_not_looked_for_long_looks_before_it_writes(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_numbered_log, "_FRESH_S", -1.0)
    ws, other = another(url), another(url)
    ws.catalog.append([event("a")])
    assert other.catalog.append([event("a")])[0].sequence == 2
    assert ws.catalog.append([event("a")])[0].sequence == 3


def test_what_was_written_too_late_is_not_acknowledged(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws = another(url)
    ws.catalog.append([event("a")])
    monkeypatch.setattr(_numbered_log, "_TOO_LATE_S", -1.0)
    with pytest.raises(CatalogError, match="may not count"):
        ws.catalog.append([event("a")])


def test_one_runner_a_stage(url: str) -> None:
    ws, other = another(url), another(url)
    with ws.catalog.lease("curate", "the first run") as lease:
        with pytest.raises(LeaseHeld, match="the first run"), other.catalog.lease("curate", "x"):
            pass
        with other.catalog.lease("acquire", "another stage"):
            lease.check()
    for _ in range(2):
        with other.catalog.lease("curate", "the next run") as lease:
            lease.check()
    names = ws.catalog._backend._folder("leases/curate").names()  # type: ignore[attr-defined]
    assert names == ["end-000003", "term-000003"]


@pytest.fixture
def out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process can be asked whether it lives, as if all ran on other hosts."""
    monkeypatch.setattr(_remote_lease.Process, "is_dead", lambda _: None)


@pytest.mark.usefixtures("out_of_reach")
def test_a_lease_ends_with_its_heartbeat_by_the_stores_clock(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws, other = another(url), another(url)
    with ws.catalog.lease("curate", "the first run"):
        ws.catalog.append([event("a")])
        with pytest.raises(LeaseHeld), other.catalog.lease("curate", "the second run"):
            pass
        monkeypatch.setattr(_remote_lease, "STALE_S", -1.0)
        with other.catalog.lease("curate", "the second run"):
            other.catalog.append([event("a", message="second")])
            with pytest.raises(LeaseLost, match="the second run"):
                ws.catalog.append([event("a", message="too late")])
    assert [row["message"] for row in another(url).catalog.frame(all=True).to_dict("records")] == [
        "",
        "second",
    ]


@pytest.mark.usefixtures("out_of_reach")
def test_a_lease_lost_between_check_and_write_is_noticed(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_remote_lease, "STALE_S", -1.0)
    ws, other = another(url), another(url)
    with ws.catalog.lease("curate", "the first run") as lease:
        stood_still = False

        def check_then_stand_still() -> None:
            nonlocal stood_still
            type(lease).check(lease)
            if not stood_still:
                stood_still = True
                with other.catalog.lease("curate", "the second run"):
                    pass

        ws.catalog._held["curate"] = _Checked(check_then_stand_still)  # type: ignore[assignment]
        with pytest.raises(LeaseLost):
            ws.catalog.append([event("a")])
    assert len(another(url).catalog.frame(all=True)) == 0


class _Checked:
    def __init__(self, check: Callable[[], None]) -> None:
        self.check = check


def test_a_dead_process_of_this_host_is_succeeded_at_once(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with another(url).catalog.lease("curate", "the dead run"):
        monkeypatch.setattr(_remote_lease.Process, "is_dead", lambda _: True)
        with another(url).catalog.lease("curate", "its successor") as lease:
            lease.check()


def test_a_store_that_ignores_the_condition_is_refused(
    url: str, s3_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_server, "ignore_conditions", True)
    with pytest.raises(CatalogError, match="two writers would race"):
        Workspace.open(url)


@pytest.mark.parametrize("url", ["memory://a/b", "sftp://host/a", "https://host/a"])
def test_protocols_without_put_if_absent_are_refused(url: str, s3_server: Any) -> None:
    with pytest.raises(CatalogError, match="refuses to replace"):
        Workspace.open(url)


def test_a_workspace_that_is_not_there(url: str) -> None:
    with pytest.raises(CatalogError, match="no workspace"):
        Workspace.open(url, create=False)
    ws = Workspace.open(url)
    assert Workspace.open(url, create=False) is ws is Workspace.open(ws.root)
    assert ws.address == url


def test_some_errors_are_borne(url: str, s3_server: Any) -> None:
    ws, count = another(url), itertools.count()
    with s3_server.failing(lambda _: OWN_ERROR if next(count) % 4 == 0 else None):
        with ws.catalog.lease("curate", "me"):
            for number in range(4):
                assert ws.catalog.append([event("a")])[0].sequence == number + 1
        ws.catalog.compact()
    assert len(another(url).catalog.frame(all=True)) == 4


def test_lost_answers_double_nothing(
    url: str, s3_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws, count = another(url), itertools.count()

    def every_second_write(environ: dict[str, Any]) -> bytes | None:
        written = environ["REQUEST_METHOD"] == "PUT"
        return OWN_ERROR if written and next(count) % 2 == 0 else None

    monkeypatch.setattr(s3_server, "lost", every_second_write)
    with ws.catalog.lease("curate", "me"):
        for number in range(4):
            assert ws.catalog.append([event("a")])[0].sequence == number + 1
    monkeypatch.undo()
    assert [e["sequence"] for e in another(url).catalog.frame(all=True).to_dict("records")] == [
        1,
        2,
        3,
        4,
    ]


def test_a_store_that_is_ill_ends_as_a_failure_that_may_be_retried(
    url: str, s3_server: Any
) -> None:
    ws = another(url)
    before = len(s3_server.requests)
    with (
        s3_server.failing(lambda _: OWN_ERROR),
        pytest.raises(StorageError, match="in 5 attempts") as caught,
    ):
        ws.catalog.append([event("a")])
    judgement = caught.value.judgement()
    assert judgement.retryable
    assert judgement.reason == "transient"
    assert len(s3_server.requests) - before <= 3 * _objects._ATTEMPTS
    assert ws.catalog.append([event("a")])[0].sequence == 1


def test_forbidden_is_not_tried_again(url: str, s3_server: Any) -> None:
    ws = another(url)
    before = len(s3_server.requests)
    with (
        s3_server.failing(lambda _: b"403 Forbidden"),
        pytest.raises(CatalogError, match="credentials") as caught,
    ):
        ws.catalog.append([event("a")])
    assert not caught.value.retryable
    assert len(s3_server.requests) - before <= 2


def test_a_note_at_a_url_holds_until_there_is_news_and_an_ill_store_keeps_none(
    url: str, s3_server: Any
) -> None:
    ws = another(url)
    ws.catalog.append([event("a")])
    ws.catalog.note("clips", ["curate"]).keep(["a"])
    fresh = another(url).catalog
    assert fresh.note("clips", ["curate"]).value == ["a"]
    assert not fresh._logs["curate"].latest, "nothing was read"
    another(url).catalog.append([event("b")])
    note = fresh.note("clips", ["curate"])
    assert note.value is None
    with s3_server.failing(lambda asked: OWN_ERROR if asked["REQUEST_METHOD"] == "PUT" else None):
        note.keep(["a", "b"])
    assert another(url).catalog.note("clips", ["curate"]).value is None
