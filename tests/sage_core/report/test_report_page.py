import base64
import hashlib
import json
import re
import subprocess
from dataclasses import replace

import pytest
from report_page import Page, filled_with, full_report

from sage_core.report import Report, Run, render_html

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</script><script>alert(1)</script><!--",
    "' onmouseover='alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "</style><svg onload=alert(1)>",
    "\ud800 \x00 \x1b[31m \u202e",
]


@pytest.fixture(scope="module")
def html():
    return render_html(full_report())


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def test_the_page_is_whole_and_holds_the_numbers(page):
    assert page.open == []
    for text in (
        "night", "1 May 2030, 02:00 UTC", "SAGE 9.9", "4,321", "1 min 15 s", "duration 17",
        "duration_s 9 ≥ 10 ✗", "lasts 9 s", "attempt 2", "can be tried again", "7 more items left out",
        "2 more sheets left out", "300 of 300 points", "red 1.5", "6.5", "the shard is not there",
        "anchor", "kitchen/8x224px", "−0.25 (−50 %) better", "−0.125 worse", "88 %", "50 samples",
        "runs/r1/model.safetensors", "nothing to evaluate on", "0123456789abcdef", "A sheet is missing",
    ):  # fmt: skip
        assert text.replace("\xa0", " ") in page.words.replace("\xa0", " "), text


def test_every_number_of_the_evaluation_stands_beside_its_protocol(html):
    table = html[html.index('<table class="metrics">') :]
    rows = re.findall(r"<tr>.*?</tr>", table[: table.index("</table>")], re.S)[1:]
    assert len(rows) == 2
    assert all("kitchen/8x224px" in row for row in rows)


def test_an_empty_report_says_so_in_every_section():
    page = Page(render_html(Report("empty", "now", {})))
    for text in (
        "Nothing has been judged", "No items", "no contact sheets", "No clip has been reconstructed",
        "No model has been adapted", "Nothing has been evaluated", "no settings to show",
    ):  # fmt: skip
        assert text in page.words
    assert page.of("table") == page.of("canvas") == []


def test_nothing_is_loaded_from_anywhere(page):
    for tag, attrs in page.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base", "audio", "video", "source")
        for name, value in attrs.items():
            assert name not in ("srcset", "action", "background", "poster", "ping")
            assert not name.startswith("on")
            if name == "src":
                assert value.startswith("data:")
            if name == "href":
                assert tag == "a"
                assert value.startswith(("#", "https://example.org/"))
            if name == "style":
                assert re.fullmatch(r"(width|flex-grow):[\d.]+%?", value)
    styles = "".join(page.styles)
    assert "url(" not in styles
    assert "@import" not in styles
    script = page.scripts[-1]
    assert not re.search(r"fetch\(|XMLHttpRequest|import\(|eval\(|innerHTML|https?:", script)


def test_the_policy_lets_our_script_run_and_nothing_else(page):
    [policy] = [a["content"] for a in page.of("meta") if a.get("http-equiv")]
    digest = base64.b64encode(hashlib.sha256(page.scripts[-1].encode()).digest()).decode()
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == f"'sha256-{digest}'"
    assert rules["img-src"] == "data:"


@pytest.mark.parametrize("text", HOSTILE)
def test_strings_from_outside_stay_text(text):
    harmless = Page(render_html(filled_with(full_report(), "plain words")))
    hostile_html = render_html(filled_with(full_report(), text))
    hostile = Page(hostile_html)
    assert hostile.shape == harmless.shape
    assert len(hostile.scripts) == len(harmless.scripts)
    assert hostile.scripts[-1] == harmless.scripts[-1]
    assert hostile_html.encode()
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", hostile_html)
    assert not any(a.get("href", "").startswith(("javascript:", "data:")) for a in hostile.of("a"))
    if "\x00" not in text:
        assert " ".join(text.split()) in hostile.words


def test_only_web_addresses_become_links(page):
    item = full_report().items[0]
    for source in ("javascript:alert(1)", "file:///etc/passwd", "../videos/a.mp4", "ftp://x/y"):
        links = Page(render_html(Report("w", "now", {}, items=[replace(item, source=source)]))).of(
            "a"
        )
        assert all(link["href"].startswith("#") for link in links)
    assert all("noreferrer" in a["rel"] for a in page.of("a") if not a["href"].startswith("#"))


def test_pictures_and_views_have_words_for_those_who_cannot_see_them(page):
    assert all(a["alt"] for a in page.of("img") if a["src"] != "data:,")
    for tag in ("canvas", "svg"):
        assert all(a["role"] == "img" and a["aria-label"] for a in page.of(tag))
    assert page.of("html")[0]["lang"] == "en"
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    targets = [a["href"][1:] for a in page.of("a") if a["href"].startswith("#")]
    assert set(targets) <= set(ids)


def test_each_view_finds_its_data(page):
    data = dict(zip([a["id"] for a in page.of("script") if "id" in a], page.scripts, strict=False))
    [canvas] = page.of("canvas")
    scene = json.loads(data[canvas["data-scene"]])
    assert len(base64.b64decode(scene["points"])) == 300 * 6
    assert len(base64.b64decode(scene["colours"])) == 300 * 3


def test_a_run_without_losses_says_so():
    page = Page(render_html(Report("w", "now", {}, runs=[Run("r1", "failed", "no data")])))
    assert "has written no losses" in page.words


def test_the_script_is_sound_javascript(page, tmp_path):
    deno = pytest.importorskip("deno")
    file = tmp_path / "page.mjs"
    # A function that is never called: the page is not there, only the syntax counts.
    file.write_text("export function unused() {\n" + page.scripts[-1] + "\n}\n")
    command = [deno.find_deno_bin(), "run", "--no-remote", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
