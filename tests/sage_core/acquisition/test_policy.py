"""Who and what may be mined: pure rules, and real yt-dlp held to them before anything is downloaded."""

import json

import pytest
from bad_server import CONFIG, url_item
from hypothesis import given
from hypothesis import strategies as st

from sage_core.acquisition.credentials import has_login, redacted
from sage_core.acquisition.hosts import HostGate
from sage_core.acquisition.licences import short_licence
from sage_core.acquisition.obtain import obtain
from sage_core.acquisition.policy import refused_facts, refused_url, uploader_hash
from sage_core.acquisition.sources import expand
from sage_core.config.policy import PolicyConfig, Unknown
from sage_core.types import Figure, Reason, Verdict


@pytest.mark.parametrize(
    ("words", "short"),
    [
        ("Creative Commons Attribution license (reuse allowed)", "cc-by"),
        ("Standard YouTube License", "all-rights-reserved"),
        ("by-nc", "cc-by-nc"),
        ("by-nc-nd", "cc-by-nc-nd"),
        ("CC BY-SA 4.0", "cc-by-sa"),
        ("https://creativecommons.org/licenses/by-nc-sa/3.0/", "cc-by-nc-sa"),
        ("http://creativecommons.org/licenses/publicdomain/", "public-domain"),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "cc0"),
        ("cc0", "cc0"),
        ("Public Domain Dedication (CC0)", "cc0"),
        ("Public Domain Work", "public-domain"),
        ("Attribution-NonCommercial-ShareAlike", "cc-by-nc-sa"),
        ("Attribution - Share Alike", "cc-by-sa"),
        ("Attribution-NoDerivs", "cc-by-nd"),
        ("All Rights Reserved", "all-rights-reserved"),
        ("Unknown", "unknown"),
        ("", "unknown"),
        (None, "unknown"),
        ("see our terms of use", "unknown"),
        ("byzantine", "unknown"),
    ],
)
def test_a_licence_has_one_short_name(words, short):
    assert short_licence(words) == short


def policy(**rules):
    return PolicyConfig(**rules)


@pytest.mark.parametrize(
    ("url", "rules", "figure"),
    [
        ("https://vimeo.com/1", {"only_hosts": ["vimeo.com"]}, None),
        ("https://player.vimeo.com/1", {"only_hosts": ["vimeo.com"]}, None),
        ("https://notvimeo.com/1", {"only_hosts": ["vimeo.com"]}, Figure("notvimeo.com", "vimeo.com", "in")),
        ("https://a.bad.org/1", {"deny_hosts": ["*.bad.org"]}, Figure("a.bad.org", "*.bad.org", "not in")),
        ("https://BAD.org./1", {"deny_hosts": ["bad.org"]}, Figure("bad.org", "bad.org", "not in")),
        ("https://e.org/nature/1", {"only_urls": ["*/nature/*"]}, None),
        ("https://e.org/city", {"only_urls": ["*/sea/*"]}, Figure("https://e.org/city", "*/sea/*", "in")),
        ("https://e.org/city", {"deny_urls": ["*/city*"]}, Figure("https://e.org/city", "*/city*", "not in")),
    ],
)  # fmt: skip
def test_rules_on_hosts_and_urls(url, rules, figure):
    found = refused_url(url, policy(**rules))
    assert (found is None) == (figure is None)
    if found is not None:
        assert found.reason is Reason.DENIED_SOURCE
        assert list(found.figures.values()) == [figure]
        assert next(iter(rules)) in found.message


ANN = {"uploader": "Ann", "uploader_id": "@ann", "channel_id": "UC1", "license": "by-nc"}


@pytest.mark.parametrize(
    ("facts", "rules", "reason"),
    [
        (ANN, {}, None),
        (ANN, {"only_uploaders": ["UC1"]}, None),
        (ANN, {"only_uploaders": [" ann"]}, None),
        (ANN, {"only_uploaders": ["bob"]}, Reason.DENIED_UPLOADER),
        ({}, {"only_uploaders": ["bob"]}, Reason.DENIED_UPLOADER),
        (ANN, {"deny_uploaders": ["@ANN"]}, Reason.DENIED_UPLOADER),
        (ANN, {"only_licences": ["cc*"]}, None),
        (ANN, {"only_licences": ["cc*"], "deny_licences": ["*-nc*"]}, Reason.DENIED_LICENCE),
        (ANN, {"only_licences": ["cc0", "cc-by"]}, Reason.DENIED_LICENCE),
        ({}, {"only_licences": ["cc*"]}, None),
        ({}, {"only_licences": ["cc*"], "unknown_licence": "reject"}, Reason.DENIED_LICENCE),
        ({}, {"unknown_licence": "reject"}, Reason.DENIED_LICENCE),
        (ANN, {"unknown_licence": "reject"}, None),
        ({"license": "Our own licence"}, {"only_licences": ["our own*"], "unknown_licence": "reject"}, None),
        ({"license": "Standard YouTube License"}, {"only_licences": ["cc*"]}, Reason.DENIED_LICENCE),
    ],
)  # fmt: skip
def test_rules_on_uploaders_and_licences(facts, rules, reason):
    found = refused_facts(facts, policy(**rules))
    assert (found and found.reason) == reason
    if found is not None:
        ((_, figure),) = found.figures.items()
        assert figure.rule in ("in", "not in")
        assert figure.threshold
        assert found.judgement().verdict is Verdict.REJECTED


def test_an_uploader_that_was_forgotten_is_known_under_every_name():
    for name in ("ann", "@Ann", "uc1"):
        found = refused_facts(ANN, policy(), {uploader_hash(name)})
        assert found.reason is Reason.FORGOTTEN
    assert refused_facts(ANN, policy(), {uploader_hash("bob")}) is None


def fetched(server, path, tmp_path, **rules):
    config = CONFIG.model_copy(update={"policy": policy(**rules)})
    both = config.model_copy(update={"allow_hosts": ["127.0.0.1", "127.0.0.2"]})
    return obtain(url_item(f"{server.url}/{path}"), tmp_path, both, HostGate())


def test_a_denied_host_is_not_asked(servers, tmp_path):
    allowed, _ = servers
    before = allowed.requests.total()
    judgement = fetched(allowed, "ok.mp4", tmp_path, deny_hosts=["127.0.0.1"]).judgement
    assert (judgement.verdict, judgement.reason) == (Verdict.REJECTED, Reason.DENIED_SOURCE)
    assert judgement.figures["host"] == Figure("127.0.0.1", "127.0.0.1", "not in")
    assert allowed.requests.total() == before


def test_a_denied_host_is_not_asked_after_a_redirect(servers, tmp_path):
    allowed, other = servers
    before = other.requests.total()
    judgement = fetched(allowed, "away.mp4", tmp_path, deny_hosts=["127.0.0.2"]).judgement
    assert (judgement.verdict, judgement.reason) == (Verdict.REJECTED, Reason.DENIED_SOURCE)
    assert judgement.figures["host"].value == "127.0.0.2"
    assert other.requests.total() == before


def test_a_licence_is_asked_for_before_the_download(servers, tmp_path):
    """The site tells of more than may be fetched, so that a download would end otherwise."""
    allowed, _ = servers
    rules = {"only_licences": ["cc*"], "unknown_licence": Unknown.REJECT}
    judgement = fetched(allowed, "huge.mp4", tmp_path, **rules).judgement
    assert (judgement.verdict, judgement.reason) == (Verdict.REJECTED, Reason.DENIED_LICENCE)
    assert judgement.figures["licence"] == Figure("unknown", "reject", "not in")


def test_local_files_are_held_to_the_rules_if_asked(media, tmp_path):
    film = tmp_path / "in" / "film.mp4"
    film.parent.mkdir()
    film.write_bytes((media / "ok.mp4").read_bytes())
    (source,) = expand([str(film)], lambda _url: None)

    def got(name, **rules):
        area = tmp_path / name
        area.mkdir()
        config = CONFIG.model_copy(update={"policy": policy(**rules)})
        return obtain(source, area, config, HostGate())

    rules = {"only_licences": ["cc*"], "unknown_licence": "reject"}
    assert got("a", **rules).judgement.verdict is Verdict.ACCEPTED
    assert got("b", files=False).judgement.reason is Reason.DENIED_SOURCE
    assert got("c", **rules, apply_to_files=True).judgement.reason is Reason.DENIED_LICENCE
    facts = {"license": "by", "uploader": "Ann", "duration": 3.0, "formats": [{"url": "x"}]}
    film.with_suffix(".info.json").write_text(json.dumps(facts))
    found = got("d", **rules, apply_to_files=True)
    assert found.judgement.verdict is Verdict.ACCEPTED
    assert found.info["site"] == {"license": "by", "uploader": "Ann", "duration": 3.0}
    for number, nonsense in enumerate(["[]", "{", "[" * 100_000, '{"license": {"x": 1}}']):
        film.with_suffix(".info.json").write_text(nonsense)
        assert "site" not in got(f"n{number}").info


# Logins


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://ann:secret@e.org/x?y=1", "https://***@e.org/x?y=1"),
        ("GET http://ann@e.org failed", "GET http://***@e.org failed"),
        ("https://e.org/@ann", "https://e.org/@ann"),
        ("https://e.org/?mail=a@b.c", "https://e.org/?mail=a@b.c"),
        ("mail a@b.c about https://e.org", "mail a@b.c about https://e.org"),
        ("http://a:p@ss@e.org/ and socks5://b:q@[::1]:1", "http://***@e.org/ and socks5://***@[::1]:1"),
    ],
)  # fmt: skip
def test_logins_are_not_shown(text, shown):
    assert redacted(text) == shown
    assert redacted(shown) == shown


@given(st.text(st.characters(codec="ascii", exclude_characters="/?#@'\""), min_size=1).map(
    lambda s: "".join(s.split())).filter(bool))  # fmt: skip
def test_no_password_passes(secret):
    secret = f"S3CRET{secret}"
    url = f"https://ann:{secret}@e.org/film.mp4"
    assert secret not in redacted(f"{url}: HTTP Error 401: {url}")
    (item,) = expand([url], lambda _url: None)
    assert secret not in json.dumps(item.to_json())
    assert item.problem


def test_a_source_with_a_login_is_refused_and_says_what_to_do():
    url = "https://ann:secret@e.org/film.mp4"
    assert has_login(url)
    (item,) = expand([url], lambda _url: None)
    assert "acquire.netrc_file" in item.problem
    assert item.source == "https://***@e.org/film.mp4"
