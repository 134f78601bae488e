"""The benchmark of scale with few items: what it measures here says nothing, but its nights must be real."""

import json
import os
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    temporary_settings,
)

from benchmarks import scale, stand_ins
from benchmarks.scale import Meter, Part, Result, measure
from data_catalog import Workspace
from flows import _stage
from sage_core.acquisition.sources import expand
from sage_core.config import load_config
from sage_core.types import Verdict


def expected(addresses):
    """How many verdicts each stage has to give on films at these addresses."""
    videos = [source.item for source in expand(addresses, lambda _url: None)]
    clips = [clip.item for video in videos for clip, _ in stand_ins.curation_of(video)[1]]
    mapped = [stand_ins.model_judgement(clip).verdict for clip in clips]
    counts = {"acquire": len(videos), "curate": len(videos), "reconstruct": len(clips)}
    return counts | {"assemble": mapped.count(Verdict.ACCEPTED)}


@pytest.mark.slow
@pytest.mark.server
def test_filled_and_new_items_through_the_real_flows(prefect_server, tmp_path, monkeypatch):
    from benchmarks.filled import fill

    monkeypatch.setattr(scale, "_SETTLES_WITHIN_S", 0.0)
    monkeypatch.setattr(_stage, "_STEPS", 1)  # many items in a task run, though there are few
    home = Path(os.environ["PREFECT_HOME"])
    server = psutil.Process(json.loads((home / "server.json").read_text())["pid"])
    folder, config = tmp_path / "ws", load_config(overrides=list(scale.SETTINGS))
    ws = Workspace.open(folder)
    quick = {PREFECT_API_URL: f"{prefect_server}/api", PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
    with temporary_settings(quick), stand_ins.in_place() as clock:
        fill(ws, config, [scale.address(number) for number in range(20)])
        filled = Counter(event.stage for event in ws.catalog.latest())
        meter = Meter(server, home / "prefect.db", clock)
        parts = measure(meter, folder, config, filled=20, items=20)
    judged = [(part.what, part.judged) for part in parts]
    new = expected([scale.address(number) for number in range(20, 40)])
    assert judged == [("first night", 0), ("night", 0), *new.items(), ("night", 0)]
    assert all(part.flow_s > 0 and part.database_mb > 0 for part in parts)
    known = expected([scale.address(number) for number in range(20)])
    known["curate"] += known["reconstruct"]  # a clip has a verdict there, too
    assert {stage: filled[stage] for stage in known} == known
    frozen = ws.catalog.load_snapshot(ws.catalog.snapshots()[-1])
    assert frozen.shards


def test_what_was_measured_is_not_measured_again(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(scale, "run_apart", lambda *_: pytest.fail("it is in the file"))
    part = Part("acquire", 10, 1.0, 0.3, 0.2, 200.0, 6.0)
    (tmp_path / "results.jsonl").write_text(
        json.dumps(asdict(Result(0, 10, 0.0, 250.0, [part]))) + "\n"
    )
    out = tmp_path / "out.json"
    scale.main(["--folder", str(tmp_path), "--items", "10", "--json", str(out)])
    record = json.loads(out.read_text())
    assert record["ms_an_item"] == {"0 + 10": 50.0}
    assert record["rows"][0]["CPU ms/item"] == 50.0
    assert "Scale" in capsys.readouterr().out
