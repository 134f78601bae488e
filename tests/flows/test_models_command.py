"""``sage models``: what it shows, fetches and writes, and that nothing ends in a traceback."""

import argparse
import http.server
import json
import os
import threading

import pytest
import torch
from safetensors import safe_open
from typer.testing import CliRunner

from flows._models import console
from flows.cli import app
from sage_core import hub
from sage_core.hub import PublishedModel, _cache, _published
from sage_core.models import MVDust3rConfig, build_model, load_model, save_model

SMALL = MVDust3rConfig(16, 4, 16, 1, 2, 16, 1, 2, 2, 4, 8)


def sage(*arguments, columns=200, **options):
    """The command in this process, on a terminal so wide whatever an earlier test had."""
    before, console._width = console._width, columns
    try:
        return CliRunner().invoke(app, [str(a) for a in arguments], **options)
    finally:
        console._width = before


def words(done):
    return " ".join((done.stdout + done.stderr).split())


@pytest.fixture
def model():
    model = build_model(SMALL, seed=4).eval()
    model.licence = "CC BY-NC 4.0"
    return model


@pytest.fixture
def file(model, tmp_path):
    path = tmp_path / "m.safetensors"
    save_model(model, path, provenance={"base": "mini"})
    return path


@pytest.fixture
def offered(file, tmp_path, monkeypatch):
    """One published model, ``tiny``, on a server on loopback."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(tmp_path))

        def log_message(self, *arguments): ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/m.safetensors"
    tiny = PublishedModel("tiny", "mvdust3r", 0.01, "CC BY-NC 4.0", False, "https://e.org", url)
    monkeypatch.setattr(_published, "PUBLISHED", (tiny,))
    monkeypatch.setattr(_cache, "PUBLISHED", (tiny,))
    monkeypatch.setattr(hub, "PUBLISHED", (tiny,))
    monkeypatch.setenv("SAGE_MODELS", str(tmp_path / "pulled"))
    yield tiny
    server.shutdown()
    server.server_close()


def test_list_tells_licences_and_what_is_here(monkeypatch, tmp_path):
    monkeypatch.setenv("SAGE_MODELS", str(tmp_path))
    rows = json.loads(sage("models", "list", "--json").stdout)
    assert {"mvdust3r", "vggt-1b", "pi3", "map-anything"} <= {row["name"] for row in rows}
    assert all(row["here"] == "" for row in rows)
    text = words(sage("models", "list"))
    for row in rows:
        assert row["name"] in text
        assert row["licence"] in text
    narrow = words(sage("models", "list", columns=80))
    assert all(f" {row['name']} " in narrow for row in rows)


def test_pull_wants_the_licence_accepted_then_the_name_is_enough(offered, model):
    refused = sage("models", "pull", "tiny")
    assert refused.exit_code == 2
    assert "CC BY-NC 4.0: no commercial use" in words(refused)
    assert "--accept-licence" in words(refused)
    missing = sage("models", "info", "tiny")
    assert missing.exit_code == 1
    assert "sage models pull tiny" in words(missing)
    done = sage("models", "pull", "tiny", "--accept-licence")
    assert done.exit_code == 0, words(done)
    assert "later downloads must match it" in words(done)
    loaded = load_model("tiny")
    assert torch.equal(
        loaded.state_dict()["dec_norm.weight"], model.state_dict()["dec_norm.weight"]
    )
    assert json.loads(sage("models", "info", "tiny", "--json").stdout)["licence"] == "CC BY-NC 4.0"
    assert json.loads(sage("models", "list", "--json").stdout)[0]["here"]


def test_pull_names_what_went_wrong(offered):
    unknown = sage("models", "pull", "tinny", "--accept-licence")
    assert (unknown.exit_code, "tiny are" in words(unknown)) == (2, True)
    gone = sage("models", "pull", "tiny", "--accept-licence", "--url", offered.url + "x")
    assert (gone.exit_code, "not_found" in words(gone)) == (1, True)
    elsewhere = sage("models", "pull", "tiny", "--accept-licence", "--url", "file:///etc/passwd")
    assert (elsewhere.exit_code, "https only" in words(elsewhere)) == (1, True)


def test_what_ships_with_sage_is_not_pulled():
    done = sage("models", "pull", "mini", "--accept-licence")
    assert done.exit_code == 2
    assert "mini ships with SAGE" in words(done)
    assert "adapt.base=mini" in words(done)


def test_a_refusal_before_the_first_byte_shows_no_progress(monkeypatch, tmp_path):
    monkeypatch.setenv("SAGE_MODELS", str(tmp_path))
    gated = next(model.name for model in hub.PUBLISHED if model.gated)
    done = sage("models", "pull", gated, "--accept-licence")
    assert "after a login only" in words(done)
    assert "0/?" not in done.stderr


def test_info_of_a_file_that_sage_wrote(file, model):
    facts = json.loads(sage("models", "info", file, "--json").stdout)
    assert facts["architecture"] == "mvdust3r"
    assert facts["licence"] == "CC BY-NC 4.0"
    assert facts["widths"] == SMALL.to_json()
    assert facts["provenance"] == {"base": "mini"}
    assert facts["sha256"] == hub.sha256_of(file)
    assert facts["parameters"]["in all"] == sum(p.numel() for p in model.parameters())
    assert "in point_head" in facts["parameters"]
    assert facts["sha256"] in words(sage("models", "info", file))


def test_export_gives_upstreams_container_and_plain_safetensors(file, model, tmp_path):
    wanted = {name: tensor.shape for name, tensor in model.state_dict().items()}
    pth, plain = tmp_path / "out" / "m.pth", tmp_path / "p.safetensors"
    assert sage("models", "export", file, "--format", "upstream", "--out", pth).exit_code == 0
    held = torch.load(pth, weights_only=True)
    assert {name: tensor.shape for name, tensor in held["model"].items()} == wanted
    assert held["licence"] == "CC BY-NC 4.0"
    assert json.loads(held["provenance"]) == {"base": "mini"}
    assert sage("models", "export", file, "--format", "safetensors", "--out", plain).exit_code == 0
    with safe_open(plain, "pt") as opened:
        assert opened.metadata()["format"] == "pt"
        assert set(opened.keys()) == wanted.keys()
    for nowhere, said in ((tmp_path, "is a folder"), ("/proc/x.pth", "No such file or directory")):
        refused = sage("models", "export", file, "--out", nowhere)
        assert refused.exit_code in (1, 2)
        assert said in words(refused)
        assert "Traceback" not in words(refused)
    again = sage("models", "export", file, "--out", pth)
    assert (again.exit_code, "--overwrite" in words(again)) == (2, True)


class Evil:
    def __reduce__(self):
        return (os.system, ("echo code from a pickle ran",))


def bad_files(folder, model):
    """Every way in which a checkpoint can be bad, and the words that name it."""
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    cut = folder / "cut.safetensors"
    save_model(model, cut)
    cut.write_bytes(cut.read_bytes()[:-100])
    torch.save({"model": state, "x": Evil()}, folder / "evil.pth")
    torch.save({"model": state, "x": argparse.ArgumentParser}, folder / "class.pth")
    torch.save({"weights": [1, 2]}, folder / "list.pth")
    torch.save({"model": {"a": torch.ones(2)}}, folder / "other.pth")
    torch.save({"model": {k: t for k, t in state.items() if "bias" not in k}}, folder / "few.pth")
    torch.save({"model": {**state, "stranger": torch.ones(1)}}, folder / "more.pth")
    (folder / "cut.pth").write_bytes((folder / "more.pth").read_bytes()[:-500])
    (folder / "text.pth").write_text("<!doctype html>")
    (folder / "empty.safetensors").write_bytes(b"")
    return {
        "cut.safetensors": "cut short",
        "evil.pth": "system",
        "class.pth": "argparse.ArgumentParser",
        "list.pth": "no state dict",
        "other.pth": "no model that this SAGE knows",
        "few.pth": "missing: ",
        "more.pth": "unknown: stranger",
        "cut.pth": "cut short",
        "text.pth": "wrong name",
        "empty.safetensors": "cut short",
        "absent.pth": "no weights file",
        ".": "no weights file",
    }


def test_bad_files_are_named_errors(model, tmp_path):
    for name, said in bad_files(tmp_path, model).items():
        for command in (("info",), ("export", "--out", tmp_path / "out.pth")):
            done = sage("models", command[0], tmp_path / name, *command[1:])
            text = words(done)
            assert done.exit_code == 1, (name, text)
            assert said in text, (name, text)
            assert "bad_checkpoint" in text
            assert "Traceback" not in text
            assert "code from a pickle ran" not in text
    assert not (tmp_path / "out.pth").exists()
