from __future__ import annotations

import json
from pathlib import Path

from catalog_workers import event

from data_catalog import Workspace, canonical, done, funnel, input_hash_of, items
from sage_core.types import Artifact


def judged(ws: Workspace) -> None:
    ws.catalog.append(
        [
            event("v1", verdict="failed", reason="crashed", attempt=1, seconds=1.0, run="r1"),
            event("v1", details={"children": ["v1_c"], "peak_mb": 9}, attempt=2, host="h"),
            event("v1_c", parent="v1"),
            event("v1_d", parent="v1", verdict="rejected", reason="blurred"),
            event("v2", verdict="rejected", reason="blurred"),
            event("v3", verdict="rejected", reason="duration"),
            event("v4", verdict="rejected", reason="duration"),
        ]
    )


def test_items_have_what_people_ask_for(ws: Workspace) -> None:
    judged(ws)
    found = items(ws, "curate", "rejected")
    assert [row["item"] for row in found] == ["v1_d", "v2", "v3", "v4"]
    wanted = {
        "item",
        "parent",
        "source",
        "stage",
        "verdict",
        "reason",
        "figures",
        "attempt",
        "seconds",
    }
    assert wanted <= set(found[0])
    assert json.loads(json.dumps(found)) == found
    assert items(ws, "assemble") == []


def test_the_funnel_counts_videos_and_clips_apart(ws: Workspace) -> None:
    judged(ws)
    videos, clips = funnel(ws)
    assert videos == {
        "stage": "curate",
        "kind": "video",
        "total": 4,
        "accepted": 1,
        "rejected": 3,
        "failed": 0,
        "reasons": {"duration": 2, "blurred": 1},
    }
    assert list(videos["reasons"]) == ["duration", "blurred"]
    assert (clips["kind"], clips["total"], clips["reasons"]) == ("clip", 2, {"blurred": 1})


def test_done_means_same_settings_same_input_and_all_still_there(ws: Workspace) -> None:
    artifact = ws.store.write_bytes("clips/v/contact.jpg", b"x")
    (written,) = ws.catalog.append(
        [event("v", config_hash="c", input_hash="i", artifacts={"contact": artifact})]
    )
    assert done(ws, "v", "curate", "c", "i") == written
    assert done(ws, "v", "curate", "other", "i") is None
    assert done(ws, "v", "curate", "c", "other") is None
    assert done(ws, "w", "curate", "c", "i") is None
    ws.store.remove(artifact.path)
    assert done(ws, "v", "curate", "c", "i") is None


def test_the_input_hash_depends_on_content_and_not_on_order() -> None:
    one, two = Artifact("a", "1", 1), Artifact("b", "2", 1)
    assert input_hash_of([one, two]) == input_hash_of(iter([two, one]))
    others = [input_hash_of(x) for x in ([], [one], [two], [Artifact("a", "2", 1), two])]
    assert len({input_hash_of([one, two]), *others}) == 5


def test_canonical_tells_results_apart_and_not_circumstances(tmp_path: Path) -> None:
    disturbed, calm, other = (Workspace.open(tmp_path / name) for name in "abc")
    judged(disturbed)
    calm.catalog.append(
        [
            event("v1_c", parent="v1", time="now"),
            event("v4", verdict="rejected", reason="duration"),
            event("v3", verdict="rejected", reason="duration"),
            event("v2", verdict="rejected", reason="blurred"),
            event("v1_d", parent="v1", verdict="rejected", reason="blurred", cpu_seconds=3.0),
            event("v1", details={"children": ["v1_c"], "peak_mb": 10}),
        ]
    )
    assert canonical(disturbed) == canonical(calm)
    judged(other)
    other.catalog.append([event("v2", verdict="rejected", reason="duration", attempt=2)])
    assert canonical(other) != canonical(calm)
