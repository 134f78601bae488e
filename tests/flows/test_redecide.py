"""`sage curate --redecide`: new thresholds, the video gone; what cannot be judged is named, not decoded."""

import shutil

import pytest

from benchmarks.small_night import write_films
from data_catalog import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.server, pytest.mark.timeout(900)]

LOOSE = (
    "-s",
    "curate.min_duration_s=4",
    "-s",
    "curate.min_clip_s=3",
    "-s",
    "curate.max_flat_share=1",
)
STRICT = (*LOOSE, "-s", "curate.min_travel=50")


@pytest.fixture(scope="module")
def curated(tmp_path_factory, prefect_server, sage_session):
    """Two films judged, then taken away."""
    folder = tmp_path_factory.mktemp("redecide")
    films, ws = write_films(folder / "films"), folder / "ws"
    api = {"PREFECT_API_URL": f"{prefect_server}/api"}
    done = sage_session(
        "run",
        "-w",
        ws,
        films,
        "--stages",
        "acquire,curate",
        *LOOSE,
        "-s",
        "run.max_failed_share=1",
        **api,
    )
    assert done.returncode == 0, done.stderr
    shutil.rmtree(ws / "videos")
    return ws, lambda *words: sage_session("curate", "-w", ws, "--redecide", *words, **api)


def events(ws):
    return {
        e.item: e for e in Workspace.open(ws, create=False).catalog.latest("curate") if not e.parent
    }


def test_new_thresholds_are_applied_to_what_is_named_then_to_all(curated):
    ws, redecide = curated
    before = events(ws)
    assert sorted(e.verdict for e in before.values()) == ["accepted", "rejected"]
    walk = next(e.item for e in before.values() if e.verdict == "accepted")
    done = redecide(*STRICT, "--item", walk)
    assert done.returncode == 0, done.stderr
    after = events(ws)
    assert (after[walk].verdict, after[walk].reason) == ("rejected", "static_camera")
    assert after[walk].attempt == before[walk].attempt + 1
    assert after[walk].config_hash != before[walk].config_hash
    assert {i: e for i, e in after.items() if i != walk} == {
        i: e for i, e in before.items() if i != walk
    }
    assert redecide(*STRICT).returncode == 0
    assert {e.config_hash for e in events(ws).values()} == {after[walk].config_hash}


def test_an_item_without_its_scores_is_named_and_keeps_its_verdict(curated):
    ws, redecide = curated
    item, before = min(events(ws).items())
    (ws / "clips" / item / "curation.json").unlink()
    done = redecide(*LOOSE)
    assert done.returncode == 1
    assert f"{item}: clips/{item}/curation.json is missing" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    after = events(ws)
    assert after[item] == before
    assert all(e.attempt > before.attempt for i, e in after.items() if i != item)
