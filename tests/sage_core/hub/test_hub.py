"""Pulling weights from a server with every bad habit."""

import hashlib
import json
from dataclasses import asdict

import pytest

from sage_core.errors import CheckpointError, ConfigError, SourceError
from sage_core.hub import (
    PUBLISHED,
    models_folder,
    published,
    pull,
    pulled,
    record_of,
    weights_path,
)
from sage_core.hub._download import check_url, download
from sage_core.types import Reason

PATH = "/w/model.safetensors"


def quiet(done, total): ...


def test_a_pulled_model_is_there_by_name_with_its_record(server, weights, hub):
    seen = []
    record = pull("tiny", licence_accepted=True, progress=lambda *step: seen.append(step))
    assert pulled("tiny").read_bytes() == weights
    assert weights_path("tiny") == weights_path("vggt:tiny") == pulled("tiny")
    assert record.sha256 == hashlib.sha256(weights).hexdigest()
    assert (record.licence, record.trusted_on_first_use) == ("CC BY-NC 4.0", True)
    assert record_of("tiny") == record
    assert seen[-1] == (len(weights), len(weights))
    assert sorted(p.name for p in pulled("tiny").parent.iterdir() if p.name != ".lock") == [
        "model.safetensors",
        "record.json",
    ]
    pull("tiny", licence_accepted=True)
    assert len(server.requests) == 1, "what is here is not fetched again"


def test_the_licence_comes_first(server, hub):
    with pytest.raises(ConfigError, match=r"CC BY-NC 4.0: no commercial use.*--accept-licence"):
        pull("tiny", licence_accepted=False)
    assert not server.requests
    with pytest.raises(CheckpointError, match="sage models pull tiny"):
        weights_path("tiny")
    with pytest.raises(ConfigError, match="tiny are"):
        pull("unheard-of", licence_accepted=True)


def test_a_cut_connection_is_gone_on_from(server, weights, hub):
    cuts = iter([1_000_000, 900_000])

    def cut(request):
        server.serve(request, at_most=next(cuts, None))

    server.habits[PATH] = cut
    pull("tiny", licence_accepted=True)
    assert pulled("tiny").read_bytes() == weights
    assert [r for _, r in server.requests] == [None, "bytes=1000000-", "bytes=1900000-"]


def test_a_later_command_goes_on_where_the_last_gave_up(server, weights, hub):
    server.habits[PATH] = lambda request: server.serve(request, at_most=500_000)
    with pytest.raises(
        SourceError, match=r"2,000,000 bytes are here\. Run the same command"
    ) as caught:
        pull("tiny", licence_accepted=True)
    assert (caught.value.reason, caught.value.retryable) == (Reason.TRANSIENT, True)
    server.habits.clear()
    server.requests.clear()
    pull("tiny", licence_accepted=True)
    assert server.requests == [(PATH, "bytes=2000000-")]
    assert pulled("tiny").read_bytes() == weights


def test_a_file_that_changed_in_between_is_fetched_anew(server, weights, hub):
    server.habits[PATH] = lambda request: server.serve(request, at_most=100_000)
    with pytest.raises(SourceError):
        pull("tiny", licence_accepted=True)
    server.habits.clear()
    server.files[PATH] = weights[:-4] + b"\0\0\0\0"
    pull("tiny", licence_accepted=True)
    assert pulled("tiny").read_bytes() == server.files[PATH]


def test_a_server_without_ranges_starts_over(server, weights, hub):
    cuts = iter([1_000_000])

    def stubborn(request):
        server.serve(request, at_most=next(cuts, None), ranges=False)

    server.habits[PATH] = stubborn
    pull("tiny", licence_accepted=True)
    assert pulled("tiny").read_bytes() == weights


def test_a_wrong_checksum_is_thrown_away(server, hub):
    folder = hub(sha256="0" * 64)
    with pytest.raises(CheckpointError, match=r"where 0{64} was expected.*was published"):
        pull("tiny", licence_accepted=True)
    assert pulled("tiny") is None
    assert not list((folder / "tiny").glob("*.safetensors"))


def test_trust_on_first_use_holds_later_downloads_to_it(server, weights, hub):
    pull("tiny", licence_accepted=True)
    pulled("tiny").unlink()
    server.files[PATH] = weights[:-4] + b"\0\0\0\0"
    with pytest.raises(CheckpointError, match=r"was fetched before.*remove tiny from"):
        pull("tiny", licence_accepted=True)
    server.files[PATH] = weights
    assert not pull("tiny", licence_accepted=True).trusted_on_first_use


@pytest.mark.parametrize("keep", [0, 5, 200, 2_000_000])
def test_a_file_that_ends_early_is_not_published(server, weights, hub, keep):
    server.files[PATH] = weights[:keep]
    with pytest.raises(CheckpointError, match=f"not all of one .{keep:,} bytes"):
        pull("tiny", licence_accepted=True)
    assert pulled("tiny") is None


@pytest.mark.parametrize("told", [True, False])
def test_a_web_page_in_place_of_weights(server, hub, told):
    def page(request):
        request.send_response(200)
        request.send_header("Content-Type", "text/html" if told else "application/octet-stream")
        request.end_headers()
        request.wfile.write(b"<!doctype html><title>Please log in</title>" * 100)

    server.habits[PATH] = page
    with pytest.raises((SourceError, CheckpointError), match="browser"):
        pull("tiny", licence_accepted=True)
    assert pulled("tiny") is None


@pytest.mark.parametrize("told", [True, False])
def test_an_oversized_file_is_not_taken(server, weights, hub, told):
    folder = hub(size_bytes=1_000_000)

    def endless(request):
        request.send_response(200)
        if told:
            request.send_header("Content-Length", str(len(weights)))
        request.end_headers()
        request.wfile.write(weights)

    server.habits[PATH] = endless
    with pytest.raises(SourceError, match="1,010,000 are the most") as caught:
        pull("tiny", licence_accepted=True)
    assert caught.value.reason is Reason.TOO_LARGE
    assert sum(p.stat().st_size for p in (folder / "tiny").iterdir()) <= 1_100_000


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://example.org/x", "http://example.org/x", "data:,x"]
)
def test_redirects_to_elsewhere_are_refused(server, hub, target):
    def redirect(request):
        request.send_response(302)
        request.send_header("Location", target)
        request.end_headers()

    server.habits[PATH] = redirect
    with pytest.raises(SourceError, match="redirects, is not fetched") as caught:
        pull("tiny", licence_accepted=True)
    assert caught.value.reason is Reason.FORBIDDEN_HOST
    assert target in str(caught.value)


def test_redirects_on_the_same_terms_are_followed(server, weights, hub):
    def redirect(request):
        request.send_response(307)
        request.send_header("Location", "/elsewhere")
        request.end_headers()

    server.files["/elsewhere"] = weights
    server.habits[PATH] = redirect
    pull("tiny", licence_accepted=True)
    assert pulled("tiny").read_bytes() == weights


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (401, Reason.BLOCKED),
        (403, Reason.BLOCKED),
        (404, Reason.NOT_FOUND),
        (500, Reason.TRANSIENT),
    ],
)
def test_refusals_say_what_to_do(server, hub, code, reason):
    server.habits[PATH] = lambda request: request.send_error(code)
    with pytest.raises(SourceError, match=f"answers {code}: ") as caught:
        pull("tiny", licence_accepted=True)
    assert caught.value.reason is reason


def test_a_dead_server_is_named(hub, tmp_path):
    with pytest.raises(SourceError, match="cannot be reached"):
        download("http://127.0.0.1:9/x", tmp_path / "x", limit_bytes=10, progress=quiet)


@pytest.mark.parametrize(
    ("url", "came_from", "fine"),
    [
        ("https://example.org/w", None, True),
        ("http://127.0.0.1:80/w", None, True),
        ("http://localhost/w", None, True),
        ("http://[::1]/w", None, True),
        ("http://example.org/w", None, False),
        ("http://127.0.0.1.example.org/w", None, False),
        ("http://127.0.0.1/w", "https://example.org/w", False),
        ("file:///w", None, False),
        ("https:///w", None, False),
        ("", None, False),
    ],
)
def test_only_https_and_this_machine(url, came_from, fine):
    if fine:
        check_url(url, came_from=came_from)
        return
    with pytest.raises(SourceError, match="https only"):
        check_url(url, came_from=came_from)


def test_what_belongs_beside_the_weights_comes_along(server, hub):
    hub(beside=("config.json",))
    server.files["/w/config.json"] = json.dumps({"name": "x"}).encode()
    pull("tiny", licence_accepted=True)
    assert json.loads((pulled("tiny").parent / "config.json").read_text()) == {"name": "x"}


def test_a_mirror_by_option_and_by_environment(server, weights, hub, monkeypatch):
    server.files["/mirror/model.safetensors"] = weights
    hub(url="https://huggingface.co/mirror/model.safetensors", gated=True)
    with pytest.raises(SourceError, match="after a login only"):
        pull("tiny", licence_accepted=True)
    hub(url="https://huggingface.co/mirror/model.safetensors")
    monkeypatch.setenv("SAGE_MODELS_MIRROR", server.url + "/")
    assert pull("tiny", licence_accepted=True).url == f"{server.url}/mirror/model.safetensors"
    pulled("tiny").unlink()
    monkeypatch.delenv("SAGE_MODELS_MIRROR")
    pull("tiny", licence_accepted=True, url=f"{server.url}/w/model.safetensors")
    assert pulled("tiny").read_bytes() == weights


def test_no_room_is_said_before_the_first_byte(server, hub, monkeypatch):
    import shutil

    from sage_core.hub import _download

    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(_download.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(SourceError, match=r"needs 2,800,.* bytes more .*SAGE_MODELS") as caught:
        pull("tiny", licence_accepted=True)
    assert caught.value.reason is Reason.DISK_FULL


def test_two_at_once_do_not_write_the_same_file(server, hub):
    def inner(request):
        with pytest.raises(SourceError, match="another process is fetching"):
            pull("tiny", licence_accepted=True)
        server.serve(request)

    server.habits[PATH] = inner
    pull("tiny", licence_accepted=True)


def test_a_damaged_record_is_no_record(server, hub):
    pull("tiny", licence_accepted=True)
    (models_folder() / "tiny" / "record.json").write_text("{")
    assert record_of("tiny") is None
    assert pulled("tiny") is None


def test_the_table_of_published_models_is_sound():
    assert len({model.name for model in PUBLISHED}) == len(PUBLISHED)
    for model in PUBLISHED:
        check_url(model.url)
        check_url(model.page)
        assert model.file.endswith((".safetensors", ".pth", ".pt"))
        assert all(asdict(model)[name] for name in ("architecture", "licence"))
        assert published(model.name) is model
        assert "/" not in model.name
