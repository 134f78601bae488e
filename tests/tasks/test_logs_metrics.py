"""A line a verdict, for people and programs; metrics that Prometheus' own parser reads."""

import json
import logging
import os
import subprocess
import sys
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from data_catalog import Workspace
from flows._http import served
from sage_core.config import load_config
from sage_core.types import Judgement, Reason, Stage
from tasks._log import as_text
from tasks._unit import ChildOutcome, Outcome, judge
from tasks.metrics import CONTENT_TYPE, METRICS_FILE, exposition, write_metrics

CONFIG = load_config()


def verdict(ws, item, stage, judgement, artifacts=None, children=(), parent=None):
    outcome = Outcome(judgement, artifacts or {}, {}, list(children))
    return judge(
        ws,
        item=item,
        stage=stage,
        source="a film.mp4",
        parent=parent,
        config=CONFIG,
        input_hash="x",
        run="r1",
        work=lambda: outcome,
    )


@pytest.fixture
def ws(tmp_path):
    """Two videos, one of them judged twice; three clips, of which one waits for reconstruct."""
    ws = Workspace.open(tmp_path / "ws")
    video = ws.store.write_bytes("videos/v1", bytes(1000))
    verdict(ws, "v1", Stage.ACQUIRE, Judgement.accept(), {"video": video})
    for _ in range(2):
        verdict(ws, "v2", Stage.ACQUIRE, Judgement.fail(Reason.TRANSIENT, "5xx", retryable=True))
    clips = [ChildOutcome(f"c{n}", Judgement.accept()) for n in range(3)]
    verdict(ws, "v1", Stage.CURATE, Judgement.accept(), None, clips)
    shard = ws.store.write_bytes("shards/frames-a.parquet", bytes(500))
    for clip in ("c0", "c1"):
        verdict(ws, clip, Stage.RECONSTRUCT, Judgement.accept(), parent="v1")
        verdict(ws, clip, Stage.ASSEMBLE, Judgement.accept(), {"frames": shard}, parent="v1")
    return ws


def samples(text):
    return {
        (s.name, *(s.labels[name] for name in sorted(s.labels))): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


def test_the_metrics_say_what_is_in_the_catalog(ws):
    now = max(_time(e) for e in ws.catalog.latest())
    found = samples(exposition(ws, now + 60))
    assert found["sage_verdicts_total", "acquire"] == 3
    assert found["sage_items", "acquire", "failed"] == 1
    assert found["sage_failures", "transient", "acquire"] == 1
    assert found["sage_items", "curate", "accepted"] == 4
    assert found["sage_queue_items", "reconstruct"] == 1
    assert 60 <= found["sage_queue_age_seconds", "reconstruct"] < 3600
    assert found["sage_queue_items", "assemble"] == found["sage_queue_age_seconds", "assemble"] == 0
    assert found["sage_artifact_bytes", "assemble"] == 500  # one shard, of two clips
    assert found["sage_items_last_hour", "curate"] == 4
    assert samples(exposition(ws, now + 7200))["sage_items_last_hour", "curate"] == 0
    assert found[("sage_disk_free_bytes",)] > 0


def _time(event):
    from datetime import datetime

    return datetime.fromisoformat(event.time).timestamp()


def test_an_empty_workspace_has_metrics_too(tmp_path):
    found = samples(exposition(Workspace.open(tmp_path)))
    assert found["sage_verdicts_total", "evaluate"] == 0


def test_they_are_a_file_and_a_page(ws):
    write_metrics(ws)
    assert samples((ws.root / METRICS_FILE).read_text()).keys() == samples(exposition(ws)).keys()
    pages = {"/metrics": lambda: (CONTENT_TYPE, exposition(ws))}
    with (
        served(ws.root / "metrics", pages=pages) as url,
        urllib.request.urlopen(f"{url}/metrics") as page,
        urllib.request.urlopen(f"{url}/sage.prom") as file,
    ):
        assert page.headers["Content-Type"] == CONTENT_TYPE
        assert samples(page.read().decode()).keys() == samples(file.read().decode()).keys()


def test_each_verdict_is_a_line_with_its_item(ws, caplog):
    with caplog.at_level(logging.INFO, "sage"):
        verdict(ws, "v3", Stage.CURATE, Judgement.reject(Reason.BLURRED, "blurred"))
    (record,) = [r for r in caplog.records if r.name == "sage.verdicts"]
    assert record.getMessage().startswith(
        "stage=curate item=v3 verdict=rejected reason=blurred attempt=1 seconds="
    )
    assert as_text({"a": "b c", "d": None, "e": "", "f": 1.5, "g": "\x1b[1m"}) == (
        'a="b c" e="" f=1.5 g="\\u001b[1m"'
    )


@pytest.mark.parametrize("form", ["json", "text"])
def test_stderr_gets_them_if_asked_for(tmp_path, form):
    script = f"""
from data_catalog import Workspace
from sage_core.config import load_config
from sage_core.types import Judgement, Stage
from tasks._unit import Outcome, judge
judge(Workspace.open({str(tmp_path)!r}), item="v1", stage=Stage.CURATE, source="s", parent=None,
      config=load_config(), input_hash="x", run="r", work=lambda: Outcome(Judgement.accept()))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "SAGE_LOG": form},
    )
    if form == "json":
        (line,) = map(json.loads, done.stderr.splitlines())
        assert (line["stage"], line["item"], line["verdict"]) == ("curate", "v1", "accepted")
        assert line["level"] == "info"
    else:
        assert "level=info stage=curate item=v1 verdict=accepted" in done.stderr
