"""Which hosts pass, what source strings mean, what yt-dlp's errors mean."""

import ipaddress
import math
from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sage_core.acquisition.child import _Fetch, _Listing
from sage_core.acquisition.failures import describe
from sage_core.acquisition.fetch import Entry, _settings
from sage_core.acquisition.hosts import HostGate, HostGuard, is_public
from sage_core.acquisition.lists import read_list
from sage_core.acquisition.sources import SourceItem, SourceKind, canonical_url, expand
from sage_core.config.acquire import AcquireConfig
from sage_core.errors import SourceError
from sage_core.types import Reason

PRIVATE = ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "0.0.0.0/8",
           "100.64.0.0/10", "224.0.0.0/4", "240.0.0.0/4")  # fmt: skip


def alone(_url):
    return None


@given(st.sampled_from(PRIVATE), st.integers(0, 2**28))
def test_no_private_address_passes_in_any_wrapping(network, offset):
    net = ipaddress.ip_network(network)
    four = net[offset % net.num_addresses]
    wrappings = [
        four,
        ipaddress.IPv6Address(f"::ffff:{four}"),
        ipaddress.IPv6Address((0x2002 << 112) | (int(four) << 80)),
        ipaddress.IPv6Address(int(ipaddress.IPv6Address("64:ff9b::")) | int(four)),
    ]
    assert not any(is_public(a) for a in wrappings)
    assert not any(HostGuard().allows(str(a)) for a in wrappings)


@pytest.mark.parametrize("address", ["::1", "fe80::1%eth0", "fc00::1", "::", "ff02::1", "nonsense"])
def test_no_private_six_passes(address):
    assert not HostGuard().allows(address)


def test_public_addresses_pass():
    guard = HostGuard()
    assert guard.allows("142.250.74.110")
    assert guard.allows("2a00:1450:4001:827::200e")


def test_allowed_hosts_are_names_addresses_networks_and_ports():
    guard = HostGuard(["127.0.0.1:8000", "10.1.0.0/16", "localhost:81", "[::1]:82"])
    assert guard.allows("127.0.0.1", 8000)
    assert not guard.allows("127.0.0.1", 8001)
    assert guard.allows("10.1.2.3", 5)
    assert not guard.allows("10.2.0.1", 5)
    assert guard.allows("127.0.0.1", 81)
    assert guard.allows("::1", 82)
    assert guard.is_own("http://127.0.0.1:8000/x")
    assert not guard.is_own("http://127.0.0.1:8001/x")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1/", Reason.FORBIDDEN_HOST),
        ("http://2130706433/", Reason.FORBIDDEN_HOST),  # 127.0.0.1 as one number
        ("http://[::ffff:7f00:1]/", Reason.FORBIDDEN_HOST),
        ("http://user@localhost:80/", Reason.FORBIDDEN_HOST),
        ("file:///etc/passwd", Reason.BAD_SOURCE),
        ("http:///x", Reason.BAD_SOURCE),
        ("http://a:b:c/", Reason.BAD_SOURCE),
    ],
)
def test_urls_that_are_refused(url, reason):
    with pytest.raises(SourceError) as caught:
        HostGuard().check(url)
    assert caught.value.reason is reason


def test_a_proxy_is_the_one_private_host_that_may_be_talked_to():
    guard = HostGuard([], ["http://10.0.0.1:3128"])
    assert guard.allows("10.0.0.1", 3128)
    assert not guard.allows("10.0.0.1", 80)


def test_the_gate_closes_on_a_wall_at_once_and_counts_refusals_in_a_row():
    gate = HostGate(block_after=2)
    gate.refused("https://a.example/1", "429", wall=False)
    gate.served("https://a.example/2")
    gate.refused("https://a.example/3", "429", wall=False)
    gate.check("https://a.example/4")
    gate.refused("https://www.b.example/1", "not a bot", wall=True)
    with pytest.raises(SourceError) as caught:
        gate.check("https://m.b.example/2")
    assert caught.value.retryable
    assert "not a bot" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason", "retryable", "wall"),
    [
        ("Sign in to confirm you’re not a bot. Use --cookies", Reason.BLOCKED, True, True),
        ("Not available, try again later. You are rate-limited by YouTube", Reason.BLOCKED, True, True),
        ("HTTP Error 429: Too Many Requests", Reason.BLOCKED, True, False),
        ("HTTP Error 403 caused by Cloudflare anti-bot challenge", Reason.BLOCKED, True, True),
        ("HTTP Error 503: Service Unavailable", Reason.TRANSIENT, True, False),
        ("HTTP Error 403: Forbidden", Reason.UNAVAILABLE, False, False),
        ("HTTP Error 404: Not Found", Reason.NOT_FOUND, False, False),
        ("Private video. Sign in if you've been granted access", Reason.UNAVAILABLE, False, False),
        ("This video has been removed by the uploader", Reason.UNAVAILABLE, False, False),
        ("The uploader has not made this video available in your country", Reason.UNAVAILABLE, False, False),
        ("This live event will begin in 3 hours", Reason.LIVE_STREAM, False, False),
        ("Unsupported URL: http://x/", Reason.NOT_VIDEO, False, False),
        ("unable to write data: [Errno 28] No space left on device", Reason.DISK_FULL, True, False),
        ("Unable to extract the frobnicator", Reason.UNAVAILABLE, True, False),
    ],
)  # fmt: skip
def test_what_errors_mean(text, reason, retryable, wall):
    failure = describe(Exception(f"ERROR: [youtube] abc: {text}"), "https://x/abc")
    assert (failure.reason, failure.retryable, failure.wall) == (reason.value, retryable, wall)


def test_network_faults_are_told_by_their_type_not_by_words_in_a_url():
    error = Exception("unable to open https://private.example/login")
    error.__cause__ = ConnectionResetError("reset")
    assert describe(error, "u").reason == Reason.TRANSIENT.value


def test_every_option_is_one_that_ytdlp_knows(tmp_path):
    from yt_dlp import parse_options

    known = {*parse_options([]).ydl_opts, "logger", "progress_hooks", "match_filter"}
    settings = _settings(AcquireConfig(sleep_s=1, rate_limit_kib_s=5), False, tmp_path, None)
    options = _Fetch("u", tmp_path, settings)._options()
    assert set(options) <= known
    assert set(_Listing("u", tmp_path, settings).options()) <= known
    assert (options["sleep_interval"], options["max_sleep_interval"]) == (1, 10)
    assert options["ratelimit"] == 5 * 1024


def test_ytdlp_finds_the_javascript_runtime(tmp_path):
    from yt_dlp import YoutubeDL

    settings = _settings(AcquireConfig(), False, tmp_path, None)
    with YoutubeDL(_Fetch("u", tmp_path, settings).options()) as ydl:
        assert ydl._js_runtimes["deno"].info.supported


def test_cookies_are_lent_as_a_copy(tmp_path):
    jar = tmp_path / "jar.txt"
    jar.write_text("# Netscape HTTP Cookie File\n")
    folder = tmp_path / "work"
    told = _settings(AcquireConfig(cookies_file=str(jar)), False, folder, None)["cookies_file"]
    assert told != str(jar)
    with pytest.raises(SourceError, match="cookies_file"):
        _settings(AcquireConfig(cookies_file=str(tmp_path / "none")), False, folder, None)


def test_one_video_has_one_spelling():
    ids = {
        canonical_url(url)
        for url in (
            "https://youtu.be/AbC_1?t=5",
            "http://www.youtube.com/watch?list=PL&v=AbC_1&index=3",
            "https://m.youtube.com/shorts/AbC_1",
        )
    }
    assert ids == {"https://www.youtube.com/watch?v=AbC_1"}
    assert canonical_url("HTTP://Example.COM:80/A?b#c") == "http://example.com/A?b"


@given(st.text())
@example("~0")
@example("~nobody_of_this_name/x.mp4")
def test_any_string_is_an_item(text):
    items = expand([text], alone)
    assert items
    assert all(len(i.item) == 17 and i.item.isalnum() for i in items)


def test_folders_files_and_photo_sets(tmp_path):
    for name in ("b/2.mp4", "a.MOV", "b/notes.md", "b/.hidden.mp4", "scene/images_4/1.png",
                 "scene/images/1.png", "scene/transforms.json", "photos/1.jpg"):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    items = expand([f"{tmp_path}/"], alone)
    assert [(i.kind.value, i.source.removeprefix(f"{tmp_path}/")) for i in items] == [
        ("file", "a.MOV"),
        ("file", "b/2.mp4"),
        ("images", "photos"),
        ("images", "scene/images"),
    ]
    assert [
        i.item for i in expand([str(tmp_path / "b"), str(tmp_path / "b" / "2.mp4")], alone)
    ] == [items[1].item]


def test_an_empty_folder_and_a_wrong_name_are_items_with_a_problem(tmp_path):
    (tmp_path / "empty").mkdir()
    items = expand([str(tmp_path / "empty"), "no/such.mp4", "ftp://x/y.mp4"], alone)
    assert [i.kind for i in items] == [SourceKind.BAD] * 3
    assert all(i.problem and i.reason is Reason.BAD_SOURCE for i in items)


def test_lists(tmp_path):
    (tmp_path / "v.mp4").touch()
    (tmp_path / "list.txt").write_text("# mine\nhttps://e.org/a.mp4\n\n  v.mp4 \n")
    (tmp_path / "t.csv").write_text(
        "title,url,start_s,end_s\nx,https://e.org/b.mp4,1.5,9\ny,v.mp4,,\n"
    )
    (tmp_path / "bare.csv").write_text("https://e.org/c.mp4\nhttps://e.org/d.mp4\n")
    pd.DataFrame({"url": ["https://e.org/e.mp4"], "n": [1]}).to_parquet(tmp_path / "t.parquet")
    names = [str(tmp_path / n) for n in ("list.txt", "t.csv", "bare.csv", "t.parquet")]
    items = expand(names, alone)
    assert [i.source for i in items] == [
        "https://e.org/a.mp4", "v.mp4", "https://e.org/b.mp4", "https://e.org/c.mp4",
        "https://e.org/d.mp4", "https://e.org/e.mp4",
    ]  # fmt: skip
    assert items[1].location == str(tmp_path / "v.mp4")
    assert items[2].sections == ((1.5, 9.0),)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.csv", b"a,b\nurl,video\n\xff\xfe"),
        ("x.parquet", b"not parquet"),
        ("x.csv", b"url,start_s,end_s\nhttp://e.org/a.mp4,9,1\n"),
        ("x.txt", b""),
    ],
)
def test_a_bad_list_is_one_item_that_says_so(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    (item,) = expand([str(tmp_path / name)], alone)
    assert item.kind is SourceKind.BAD
    assert name in item.problem


def test_a_list_that_names_itself_ends(tmp_path):
    (tmp_path / "l.txt").write_text("l.txt\n")
    (item,) = expand([str(tmp_path / "l.txt")], alone)
    assert "nested" in item.problem


@given(st.lists(st.integers(0, 10**10), min_size=1, max_size=5), st.integers(0, 3))
def test_camera_files_give_the_sections_of_one_video(tmp_path_factory, stamps, blank):
    folder = tmp_path_factory.mktemp("re10k")
    pose = "0.5 0.9 0.5 0.5 0 0 " + " ".join(["1.0e-3"] * 12)
    lines = [f"{stamp} {pose}" for stamp in stamps]
    (folder / "a.txt").write_text("\n".join(["https://youtu.be/x", *[""] * blank, *lines]) + "\n")
    (listed,) = read_list(folder / "a.txt")
    assert listed.section == (min(stamps) / 1e6, max(stamps) / 1e6)
    (folder / "b.txt").write_text(f"https://www.youtube.com/watch?v=x\n{10**11} {pose}\n")
    (item,) = expand(
        [str(folder)] if not blank else [str(folder / n) for n in ("a.txt", "b.txt")], alone
    )
    assert item.sections == (listed.section, (1e5, 1e5))
    assert not math.isinf(item.sections[0][1])


def test_a_playlist_that_cannot_be_read_stays_one_item():
    def broken(_url):
        raise SourceError("later", reason=Reason.TRANSIENT)

    (item,) = expand(["https://e.org/channel"], broken)
    assert item.kind is SourceKind.URL


def test_entries_of_a_list_come_in_order_each_once():
    entries = [Entry(f"https://e.org/{n}.mp4", f"t{n}", None) for n in (2, 1, 2)]
    items = expand(["https://e.org/list"], lambda _url: entries)
    assert [i.source for i in items] == ["https://e.org/2.mp4", "https://e.org/1.mp4"]
    assert items[0].title == "t2"


def test_items_travel_as_json_and_know_when_their_file_changed(tmp_path):
    (tmp_path / "v.mp4").write_bytes(b"1")
    (item,) = expand([str(tmp_path / "v.mp4")], alone)
    item = replace(item, sections=((0.0, 1.0),))
    assert SourceItem.from_json(item.to_json()) == item
    before = item.input_hash
    (tmp_path / "v.mp4").write_bytes(b"12")
    assert item.input_hash != before
