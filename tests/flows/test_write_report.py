import json
import re
import subprocess
import sys
from dataclasses import replace
from html import unescape

import cv2
import numpy as np
import pytest

from data_catalog import StageEvent, Workspace
from flows.report import LATEST, MOST_ITEMS, collect, write_report
from sage_core.geometry import intrinsics_matrix
from sage_core.shards import Anchors, ClipInfo, Covisibility, FrameRecord, ShardWriter, Trajectory
from sage_core.shards.records import PointCloud

VIDEO, CLIP, RUN = "v0123456789abcdef", "v0123456789abcdef_000000_000300", "r0123456789abcdef"
TITLE = "</script><script>alert('title')</script>"
PICTURE = np.full((48, 64, 3), 120, np.uint8)
JPEG = cv2.imencode(".jpg", PICTURE)[1].tobytes()


def event(item, stage, verdict="accepted", **more):
    common = {
        "parent": None, "source": "https://example.org/v?a=1&b=2", "reason": None, "message": "",
        "figures": {}, "retryable": False, "config_hash": "c" * 16, "input_hash": "i" * 16,
        "code_version": "9.9.9", "attempt": 1, "sequence": 0, "artifacts": {}, "details": {},
        "seconds": 2.0, "cpu_seconds": 1.0, "host": "h", "time": "2030-01-01T00:00:00+00:00", "run": "n",
    }  # fmt: skip
    return StageEvent(item=item, stage=stage, verdict=verdict, **{**common, **more})


def figure(value, threshold=None, rule=None):
    return {"value": value, "threshold": threshold, "rule": rule}


def write_shard(folder, n=8):
    rng = np.random.default_rng(0)
    points = PointCloud(
        np.arange(90),
        rng.uniform((-1, -1, 3), (5, 1, 5), (90, 3)).astype(np.float32),
        rng.integers(0, 255, (90, 3), np.uint8),
    )
    poses = np.tile(np.eye(3, 4), (n, 1, 1))
    poses[:, 0, 3] = -np.linspace(0, 4, n)
    K = intrinsics_matrix([60.0, 60.0, 32.0, 24.0])
    anchors = Anchors(
        rng.uniform(0, 48, (5, 2)).astype(np.float32), np.linspace(2, 9, 5, dtype=np.float32),
        np.arange(5), np.ones(5, np.float32), np.full(5, 4, np.int32), np.ones(5, np.float32),
    )  # fmt: skip
    frames = [
        FrameRecord(CLIP, 5 * k, k / 6, JPEG, 64, 48, K, poses[k], True, 9.0, anchors)
        for k in range(n)
    ]
    none = np.zeros(0, np.int32)
    clip = ClipInfo(
        CLIP, VIDEO, "s", True, np.arange(0, 5 * n, 5, dtype=np.int32), np.arange(n) / 6,
        np.full(n, 9.0, np.float32), np.full(n, 4.0, np.float32), poses,
        Covisibility(none, none, none.astype(np.float32)),
        [Trajectory([0, 4, 7], [2], "perturbed", score=0.75)],
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    with ShardWriter(folder, "a" * 16) as writer:
        writer.add(clip, frames, points)


@pytest.fixture
def ws(tmp_path):
    """A workspace with a video of each verdict, a clip in a shard, a run and its evaluation."""
    ws = Workspace.open(tmp_path / "ws")
    store = ws.store
    contact = store.write_bytes(f"clips/{VIDEO}/contact.jpg", JPEG)
    with store.scratch() as area:
        write_shard(area / "shards")
        names = {"frames": f"frames-{'a' * 16}.parquet", "clips": f"clips-{'a' * 16}.parquet"}
        shard = {
            key: store.publish(area / "shards" / file, f"shards/{file}")
            for key, file in names.items()
        }
    line = {"lr": 1e-5, "loss": 3.0, "terms": {"anchor": 2.5, "total": 3.0}}
    lines = [{**line, "step": s} for s in range(30)] + [{**line, "step": 30, "terms": {}}]
    losses = "".join(json.dumps(one) + "\n" for one in lines)
    metrics = store.write_bytes(f"runs/{RUN}/losses.jsonl", losses.encode())
    part = {
        "name": "rooms-V", "protocol": "rooms-V/8x224px", "tuples": 50,
        "mean": {"base": {"cd": 0.8}, "adapted": {"cd": 0.6}}, "better": {"cd": 0.9}, "rows": {},
    }  # fmt: skip
    weights = {"base": "mini", "adapted": str(store.path(f"runs/{RUN}/model.safetensors"))}
    pictures = [{"file": "a.jpg", "caption": "rooms-V-1: images"}]
    written = {"models": weights, "sets": [part], "held_out": None, "pictures": pictures}
    store.write_json(f"evaluations/{RUN}/metrics.json", written)
    store.write_bytes(f"evaluations/{RUN}/a.jpg", JPEG)
    clip = {"clip": {"start_s": 0.0, "end_s": 10.0, "ordered": True}}
    ws.catalog.append(
        [
            event(VIDEO, "acquire", details={"title": TITLE}),
            event("v1", "acquire", "failed", reason="transient", retryable=True, message="reset",
                  source="javascript:alert(1)"),
            event("v2", "acquire", details={"title": "Short"}, source="../../videos/short.mp4"),
        ]
    )  # fmt: skip
    short = figure(7.5, 10.0, ">=")
    ws.catalog.append(
        [
            event(VIDEO, "curate", artifacts={"contact": contact}, details={"children": [CLIP]}),
            event(CLIP, "curate", parent=VIDEO, details=clip),
            event("v2", "curate", "rejected", reason="duration", message="lasts 7.5 s",
                  figures={"duration_s": short}),
        ]
    )  # fmt: skip
    gate = {"reprojection_px": figure(0.625, 0.9, "<=")}
    ws.catalog.append([event(CLIP, "reconstruct", parent=VIDEO, figures=gate)])
    frames = {"frames": figure(8, 5, ">=")}
    ws.catalog.append([event(CLIP, "assemble", parent=VIDEO, figures=frames, artifacts=shard)])
    steps = {"steps": figure(31)}
    ws.catalog.append(
        [event(RUN, "adapt", source="mini", figures=steps, artifacts={"metrics": metrics})]
    )
    ws.catalog.append([event(RUN, "evaluate", source="mini")])
    return ws


def words(path):
    text = re.sub(r"<(script|style)\b.*?</\1>", "", path.read_text(), flags=re.S)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", text)).split())


def test_the_report_of_a_workspace_holds_its_numbers(ws):
    path = write_report(ws.root)
    assert path == ws.store.path(LATEST)
    text = words(path)
    for wanted in (
        "sources 3", "videos accepted 1", "clips reconstructed 1", "frames in shards 8", "training steps 31",
        "CD on rooms-V, m² 0.8 → 0.6 lower is better",
        "7.5 ≥ 10", "lasts 7.5 s", "transient", "can be tried again", TITLE,
        "0.0–10.0 s", "8 cameras", "90 of 90 points", "0.625", "5 anchors", "best score 0.75",
        "anchor 2.5 → 2.5", "rooms-V/8x224px", "−0.2 (−25 %) better", "90 %",
        f"runs/{RUN}/model.safetensors", "cccccccccccccccc", "9.9.9", "rooms-V-1: images",
    ):  # fmt: skip
        assert wanted in text, wanted
    html = path.read_text()
    assert TITLE not in html
    assert str(ws.root) not in html
    assert html.count("<script") == 2  # the scene's data and ours
    assert 'href="javascript' not in html
    assert html.count("data:image/jpeg") == 1 + 4 + 1  # sheet, anchors, evaluation


def test_it_can_be_written_elsewhere_again_and_again(ws, tmp_path):
    out = tmp_path / "far" / "page.html"
    assert write_report(ws.root, out) == out
    first = out.read_text()
    assert write_report(ws.root, out) == out
    strip = re.compile(r"\d+ \w+ 20\d\d, \d\d:\d\d UTC")
    assert strip.sub("", out.read_text()) == strip.sub("", first)
    assert [p.name for p in out.parent.iterdir()] == ["page.html"]
    assert not ws.store.exists(LATEST)


def test_an_empty_workspace_has_a_report(tmp_path):
    Workspace.open(tmp_path / "ws")
    assert "Nothing has been judged" in words(write_report(tmp_path / "ws"))


def test_what_is_gone_or_broken_is_named(ws):
    ws.store.remove(f"shards/frames-{'a' * 16}.parquet")
    ws.store.write_bytes(f"clips/{VIDEO}/contact.jpg", b"no picture")
    ws.store.remove(f"evaluations/{RUN}/a.jpg")
    text = words(write_report(ws.root))
    assert "Cannot be shown: there is no shard file" in text
    assert f"contact sheet of {VIDEO} cannot be shown" in text
    assert "picture a.jpg cannot be shown" in text
    ws.store.write_bytes(f"evaluations/{RUN}/metrics.json", b"{")
    assert "is not JSON" in words(write_report(ws.root))
    ws.store.write_json(f"evaluations/{RUN}/metrics.json", {"sets": []})
    assert "lacks 'held_out'" in words(write_report(ws.root))


def test_a_failed_evaluation_says_why(ws):
    failed = event(RUN, "evaluate", "failed", reason="no_data", message="nothing there", attempt=2)
    ws.catalog.append([failed])
    assert "failed (no_data): nothing there" in words(write_report(ws.root))


def test_trouble_is_shown_first_where_not_all_fits(ws):
    many = [
        event(f"w{k:05d}", "acquire", details={"title": f"t{k}"}) for k in range(MOST_ITEMS + 50)
    ]
    trouble = replace(many[-1], verdict="failed", reason="blocked")
    ws.catalog.append([*many[:-1], trouble])
    report = collect(ws)
    assert len(report.items) == MOST_ITEMS
    assert report.items_left_out == 50 + 5
    assert {"v1", "v2", trouble.item} <= {item.item for item in report.items}


def test_it_needs_neither_prefect_nor_torch():
    code = "import sys, flows.report; print({'prefect', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
