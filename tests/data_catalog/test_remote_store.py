"""Artifacts of a workspace on S3: whole or not there, known by their content, read from a cache."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data_catalog import StorageError, Store, StoreError, Workspace, _objects
from data_catalog._objects import Objects
from data_catalog._remote_store import RemoteStore

_prefixes = itertools.count()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_objects, "_FIRST_WAIT_S", 0.001)


@pytest.fixture
def url(s3_server: Any) -> str:
    return str(s3_server.url(f"store-{next(_prefixes)}"))


@pytest.fixture
def store(url: str) -> Store:
    return Workspace.open(url).store


@pytest.fixture
def elsewhere(url: str, tmp_path: Path) -> RemoteStore:
    """The same artifacts on another host, with nothing in its cache."""
    return RemoteStore(tmp_path / "elsewhere", Objects(url))


def publish(store: Store, relative: str, **files: str) -> Any:
    with store.scratch() as area:
        for name, content in files.items():
            path = area / "new" / name.replace("_", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return store.publish(area / "new", relative)


def contents(folder: Path) -> dict[str, str]:
    return {
        file.relative_to(folder).as_posix(): file.read_text()
        for file in folder.rglob("*")
        if file.is_file()
    }


def test_a_folder_is_fetched_elsewhere_and_only_once(
    store: Store, elsewhere: RemoteStore, s3_server: Any, tmp_path: Path
) -> None:
    model = publish(store, "sfm/c1", cameras="1", sub_images="2")
    here = store.fetch(model)
    path = elsewhere.fetch(model)
    assert path.name == here.name == "c1"
    assert contents(path) == contents(here) == {"cameras": "1", "sub/images": "2"}
    before = len(s3_server.requests)
    assert elsewhere.fetch(model) == path
    assert len(s3_server.requests) == before
    local = publish(Store(tmp_path / "local"), "sfm/c1", cameras="1", sub_images="2")
    assert local == model


def test_a_file_of_a_folder_is_an_artifact_of_its_own(store: Store, elsewhere: RemoteStore) -> None:
    publish(store, "clips/v1", a="first", b="second")
    one = elsewhere.settle("clips/v1/a")
    assert elsewhere.fetch(one).read_text() == "first"
    assert elsewhere.read_bytes("clips/v1/b") == b"second"
    assert elsewhere.verify(one)
    assert elsewhere.verify(one, deep=True)
    assert not elsewhere.verify(replace(one, sha256="0" * 64), deep=True)
    assert not elsewhere.verify(replace(one, bytes=6))


def test_files_fetched_together_lie_side_by_side(store: Store, elsewhere: RemoteStore) -> None:
    frames = store.write_bytes("shards/frames-1.parquet", b"frames")
    clips = store.write_bytes("shards/clips-1.parquet", b"clips")
    path = elsewhere.fetch(frames, clips)
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == {
        "frames-1.parquet": b"frames",
        "clips-1.parquet": b"clips",
    }


def test_publishing_again_shows_the_old_or_the_new(
    store: Store, elsewhere: RemoteStore, s3_server: Any
) -> None:
    old = publish(store, "sfm/c1", a="1", b="2", c="3")
    sent = itertools.count()

    def after_one_upload(environ: dict[str, Any]) -> bytes | None:
        return b"500 No" if environ["REQUEST_METHOD"] == "PUT" and next(sent) else None

    with s3_server.failing(after_one_upload), pytest.raises(StorageError):
        publish(store, "sfm/c1", a="one", b="two")
    assert contents(elsewhere.fetch(old)) == {"a": "1", "b": "2", "c": "3"}
    new = publish(store, "sfm/c1", a="one", b="two")
    assert contents(elsewhere.fetch(new)) == {"a": "one", "b": "two"}
    assert elsewhere.settle("sfm/c1") == new
    assert not elsewhere.verify(old)


def test_half_a_folder_is_not_there(store: Store, s3_server: Any) -> None:
    def the_manifest(environ: dict[str, Any]) -> bytes | None:
        put = environ["REQUEST_METHOD"] == "PUT"
        return b"500 No" if put and environ["PATH_INFO"].endswith(".json") else None

    with s3_server.failing(the_manifest), pytest.raises(StorageError):
        publish(store, "sfm/c1", a="1")
    assert not store.exists("sfm/c1")
    with pytest.raises(StoreError, match="does not exist"):
        store.settle("sfm/c1")


def test_what_is_removed_is_gone(store: Store, elsewhere: RemoteStore) -> None:
    model = publish(store, "sfm/c1", a="1", b="2")
    single = store.write_json("reports/x.json", {"a": 1})
    store.remove("sfm/c1")
    store.remove("reports/x.json")
    store.remove("never/was")
    for artifact in (model, single):
        assert not elsewhere.verify(artifact)
        assert not elsewhere.exists(artifact.path)
        with pytest.raises(StoreError, match="does not exist"):
            elsewhere.fetch(artifact)


def test_what_could_not_be_saved_is_taken_up_here(
    store: Store, elsewhere: RemoteStore, s3_server: Any
) -> None:
    def put(environ: dict[str, Any]) -> bytes | None:
        return b"503 Ill" if environ["REQUEST_METHOD"] == "PUT" else None

    with store.working("runs/r1") as work:
        (work.path / "step").write_text("1")
    with (
        s3_server.failing(put),
        pytest.raises(StorageError),
        store.working("runs/r1") as work,
    ):
        (work.path / "step").write_text("2")
    assert elsewhere.read_bytes("runs/r1/step") == b"1"
    with store.working("runs/r1") as work:
        assert contents(work.path) == {"step": "2"}
    with elsewhere.working("runs/r1") as work:
        (work.path / "step").write_text("3")
    with store.working("runs/r1") as work:
        assert contents(work.path) == {"step": "3"}


def test_folders_are_listed_as_if_they_were_here(store: Store, tmp_path: Path) -> None:
    for one in (store, Store(tmp_path / "local")):
        publish(one, "runs/r1", a="1", sub_b="2")
        publish(one, "runs/r1", a="one", sub_b="2")  # at a URL under another name
        one.write_bytes("runs/alone", b"x")
        assert one.files("runs") == ["runs/alone", "runs/r1/a", "runs/r1/sub/b"]
        assert one.names("runs") == ["alone", "r1"]
        assert one.names("nowhere") == one.files("nowhere") == []


def test_copies_of_what_lies_at_a_url_can_go(store: Store, s3_server: Any) -> None:
    file = store.write_bytes("a/b.bin", b"x")
    path = store.fetch(file)
    store.drop_copies()
    assert not path.exists()
    assert store.fetch(file).read_bytes() == b"x"
    with store.working("runs/r1") as work:
        (work.path / "renders").mkdir()
        (work.path / "renders/picture").write_text("of it")
    store.remove("runs/r1/renders")
    assert not (work.path / "renders").exists()


def test_a_part_of_a_folder_can_go(store: Store, elsewhere: RemoteStore) -> None:
    publish(store, "runs/r1", checkpoints_model="1", result="2")
    store.remove("runs/r1/checkpoints")
    assert not elsewhere.exists("runs/r1/checkpoints")
    assert contents(elsewhere.fetch("runs/r1")) == {"result": "2"}


def test_another_content_than_recorded_is_refused(store: Store, elsewhere: RemoteStore) -> None:
    file = store.write_bytes("a/b.bin", b"right")
    store._objects.write("a/b.bin", b"wrong")  # type: ignore[attr-defined]
    with pytest.raises(StoreError, match="not as recorded"):
        elsewhere.fetch(file)
    assert elsewhere.verify(file)
    assert not elsewhere.verify(file, deep=True)


def test_work_is_taken_up_elsewhere(store: Store, elsewhere: RemoteStore, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), store.working("runs/r1") as work:  # noqa: PT012
        (work.path / "metrics.jsonl").write_text("1\n")
        (work.path / "checkpoints/1").mkdir(parents=True)
        (work.path / "checkpoints/1/model").write_text("weights")
        work.save()
        (work.path / "metrics.jsonl").write_text("1\n2\n")
        raise KeyboardInterrupt
    with elsewhere.working("runs/r1") as work:
        assert contents(work.path) == {"metrics.jsonl": "1\n2\n", "checkpoints/1/model": "weights"}
        (work.path / "checkpoints/1/model").unlink()
        (work.path / "model").write_text("done")
    with store.working("runs/r1") as work:
        assert contents(work.path) == {"metrics.jsonl": "1\n2\n", "model": "done"}
    assert store.fetch(store.settle("runs/r1/model")).read_text() == "done"
    with Store(tmp_path / "local").working("runs/r1") as work:
        assert work.path == tmp_path / "local/runs/r1"
        work.save()


@pytest.mark.parametrize("bad", ["", ".", "..", "a/../../b", "/etc/passwd", "a/..", "x\0y"])
def test_escapes_are_refused(store: Store, bad: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for attempt in (
        lambda: store.path(bad),
        lambda: store.exists(bad),
        lambda: store.read_json(bad),
        lambda: store.write_bytes(bad, b""),
        lambda: store.publish(tmp_path / "file", bad),
        lambda: store.remove(bad),
        lambda: store.settle(bad),
    ):
        with pytest.raises(StoreError, match="inside the workspace"):
            attempt()


def test_the_catalogs_own_objects_are_not_for_artifacts(store: Store) -> None:
    with pytest.raises(StoreError, match="belongs to the catalog"):
        store.write_bytes("catalog/x", b"")
    with pytest.raises(StoreError, match="fetch it"):
        store.path("videos/v1/video.mp4")
    assert store.path("scratch/sites").is_relative_to(store.root)


def test_a_plan_asks_for_listings_only(
    store: Store, url: str, s3_server: Any, tmp_path: Path
) -> None:
    artifacts = [publish(store, f"sfm/c{n}", sub_a="1", b="2") for n in range(3)]
    artifacts += [store.settle("sfm/c0/b"), store.settle("sfm/c0/sub")]
    artifacts.append(store.write_bytes("shards/frames-1.parquet", b"frames"))
    publish(store, "sfm/c0", sub_a="one", b="2")
    artifacts.append(store.settle("sfm/c0/sub/a"))
    lost = [replace(artifacts[0], path="sfm/c9"), replace(artifacts[3], bytes=9)]
    elsewhere = RemoteStore(tmp_path / "other", Objects(url))
    before = len(s3_server.requests)
    with elsewhere.still():
        assert all(map(elsewhere.verify, artifacts))
        assert not any(map(elsewhere.verify, lost))
    assert len(s3_server.requests) - before <= 3


def test_an_old_cache_gives_way(
    store: Store, elsewhere: RemoteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    files = [store.write_bytes(f"a/{n}.bin", b"x" * 100) for n in range(3)]
    paths = [elsewhere.fetch(file) for file in files]
    os.utime(paths[0].parent, (0, 0))
    os.utime(paths[1].parent, (1, 1))
    monkeypatch.setenv("SAGE_CACHE_GB", "2.5e-7")
    elsewhere.sweep()
    assert [path.exists() for path in paths] == [False, True, True]
