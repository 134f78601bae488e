"""The store: no path leaves the workspace, and what is published is whole and known by its content."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_catalog import StoreError, Workspace
from data_catalog._store import Store

PARTS = st.lists(st.sampled_from(["..", ".", "a", "", "~", "b c", "\\", "..\\", "ü"]), max_size=5)


@given(parts=PARTS, prefix=st.sampled_from(["", "/", "//", "./"]))
def test_no_path_leaves_the_workspace(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str], prefix: str
) -> None:
    store = Store(tmp_path_factory.getbasetemp() / "paths")
    relative = prefix + "/".join(parts)
    try:
        path = store.path(relative)
    except StoreError:
        return
    assert path != store.root
    assert path.resolve().is_relative_to(store.root)


@pytest.mark.parametrize("bad", ["", ".", "..", "a/../../b", "/etc/passwd", "a/..", "x\0y"])
def test_escapes_are_refused_everywhere(ws: Workspace, bad: str, tmp_path: Path) -> None:
    outside = tmp_path / "file"
    outside.write_text("x")
    for attempt in (
        lambda: ws.store.path(bad),
        lambda: ws.store.exists(bad),
        lambda: ws.store.read_json(bad),
        lambda: ws.store.write_bytes(bad, b""),
        lambda: ws.store.publish(outside, bad),
        lambda: ws.store.remove(bad),
    ):
        with pytest.raises(StoreError, match="inside the workspace"):
            attempt()


def test_links_that_lead_out_are_refused(ws: Workspace, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (ws.root / "videos").symlink_to(tmp_path / "outside")
    with pytest.raises(StoreError, match="through a link"):
        ws.store.write_bytes("videos/v0/source.mp4", b"x")
    assert not list((tmp_path / "outside").iterdir())


@pytest.mark.parametrize("reserved", ["catalog/events/x", "workspace.json", "./catalog"])
def test_the_catalogs_own_files_are_not_for_artifacts(ws: Workspace, reserved: str) -> None:
    with pytest.raises(StoreError, match="belongs to the catalog"):
        ws.store.write_bytes(reserved, b"")
    with pytest.raises(StoreError, match="belongs to the catalog"):
        ws.store.remove(reserved)


def test_a_file_is_known_by_its_content(ws: Workspace) -> None:
    artifact = ws.store.write_bytes("videos/v0/source.mp4", b"abc")
    assert artifact.sha256 == hashlib.sha256(b"abc").hexdigest()
    assert (artifact.path, artifact.bytes) == ("videos/v0/source.mp4", 3)
    assert ws.store.verify(artifact, deep=True)
    ws.store.path(artifact.path).write_bytes(b"abd")
    assert ws.store.verify(artifact)
    assert not ws.store.verify(artifact, deep=True)
    ws.store.path(artifact.path).write_bytes(b"ab")
    assert not ws.store.verify(artifact)
    ws.store.remove(artifact.path)
    assert not ws.store.verify(artifact)
    ws.store.remove(artifact.path)


def test_a_folder_is_known_by_its_names_and_contents(ws: Workspace, tmp_path: Path) -> None:
    source = tmp_path / "model"
    (source / "sparse" / "0").mkdir(parents=True)
    (source / "sparse" / "0" / "cameras.bin").write_bytes(b"c")
    (source / "a.jpg").write_bytes(b"j")
    artifact = ws.store.publish(source, "sfm/clip")
    lines = b"".join(
        name + b"\0" + hashlib.sha256(data).hexdigest().encode() + b"\n"
        for name, data in ((b"a.jpg", b"j"), (b"sparse/0/cameras.bin", b"c"))
    )
    assert (artifact.sha256, artifact.bytes) == (hashlib.sha256(lines).hexdigest(), 2)
    assert source.exists(), "what lies outside the workspace is the user's"
    (ws.root / "sfm/clip/a.jpg").rename(ws.root / "sfm/clip/b.jpg")
    assert not ws.store.verify(artifact, deep=True)


def test_publishing_replaces_what_was_there_whatever_its_kind(ws: Workspace) -> None:
    def publish(kind: str, content: str) -> None:
        with ws.store.scratch() as area:
            new = area / "new one"
            if kind == "folder":
                new.mkdir()
                (new / content).write_text(content)
            else:
                new.write_text(content)
            ws.store.publish(new, "evaluations/e")
            assert not new.exists(), "what lies in scratch is moved"

    target = ws.root / "evaluations/e"
    for number, kind in enumerate(["folder", "folder", "file", "file", "folder"]):
        publish(kind, str(number))
        found = [f.name for f in target.iterdir()] if kind == "folder" else [target.read_text()]
        assert found == [str(number)]
    assert not list((ws.root / "scratch").iterdir())


def test_publishing_what_is_in_its_place_records_it(ws: Workspace) -> None:
    first = ws.store.write_bytes("runs/r/metrics.jsonl", b"{}\n")
    assert ws.store.publish(ws.root / "runs/r/metrics.jsonl", "runs/r/metrics.jsonl") == first
    assert ws.store.publish(ws.root / "runs/r", "runs/r").bytes == 3


def test_a_users_links_are_followed_ours_are_not(ws: Workspace, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"p")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.jpg").symlink_to(tmp_path / "photo.jpg")
    ws.store.publish(tmp_path / "photos", "videos/v0/images")
    assert not (ws.root / "videos/v0/images/1.jpg").is_symlink()
    with ws.store.scratch() as area:
        (area / "folder").mkdir()
        (area / "folder" / "link").symlink_to("/etc/passwd")
        with pytest.raises(StoreError, match="link, pipe or device"):
            ws.store.publish(area / "folder", "videos/v1/images")
    assert not ws.store.exists("videos/v1/images")


def test_pipes_are_refused_rather_than_waited_for(ws: Workspace, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    os.mkfifo(tmp_path / "photos" / "pipe")
    with pytest.raises(StoreError, match="pipe"):
        ws.store.publish(tmp_path / "photos", "videos/v0/images")
    with pytest.raises(StoreError, match="does not exist"):
        ws.store.publish(tmp_path / "none", "videos/v0/images")
    assert not list((ws.root / "scratch").iterdir())


def test_json_goes_and_comes(ws: Workspace) -> None:
    ws.store.write_json("videos/v0/info.json", {"b": [1, None, "ü"], "a": float("nan")})
    assert ws.store.read_json("videos/v0/info.json") == {"a": "nan", "b": [1, None, "ü"]}
    with pytest.raises(StoreError, match="does not exist"):
        ws.store.read_json("videos/v1/info.json")
    ws.store.write_bytes("videos/v0/info.json", b"{")
    with pytest.raises(StoreError, match="is not JSON"):
        ws.store.read_json("videos/v0/info.json")


def test_scratch_ends_with_its_block_even_by_an_error(ws: Workspace) -> None:
    with suppress(ZeroDivisionError), ws.store.scratch() as area:
        (area / "work").write_text("x")
        raise ZeroDivisionError
    assert not area.exists()


def test_sweeping_spares_the_living(ws: Workspace) -> None:
    with ws.store.scratch() as area:
        strange = ws.root / "scratch/notes"
        strange.write_text("x")
        ws.store.sweep()
        assert area.exists()
        assert strange.exists()
        os.utime(strange, (0, 0))
        ws.store.sweep()
        assert area.exists()
        assert not strange.exists()
