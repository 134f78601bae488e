"""Verdicts on real videos, against what people said of them by looking."""

import json
import os
from pathlib import Path

import pytest

from sage_core.config.curate import CurateConfig
from sage_core.mining import curate_file, decide_again, read_curation
from sage_core.types import Verdict

SHARED = Path(os.environ.get("SAGE_SHARED", Path(__file__).parents[4] / "shared"))
DATA = SHARED / "data"
EXPECTED = (
    json.loads((DATA / "expected.json").read_text()) if (DATA / "expected.json").is_file() else {}
)
FILES = sorted(name for name in EXPECTED if name != "_")

pytestmark = [
    pytest.mark.shared,
    pytest.mark.slow,
    pytest.mark.skipif(not FILES, reason=f"needs {DATA}/expected.json (set SAGE_SHARED)"),
]


def curate(path: Path, kind: str, config: CurateConfig, folder: Path):
    data = curate_file(str(path), kind, config.model_dump(mode="json"), str(folder), "v0")
    return read_curation(data)


@pytest.mark.parametrize("name", FILES)
def test_every_verdict_is_right_before_any_reconstruction(name, tmp_path):
    config = CurateConfig()
    wanted = EXPECTED[name]
    curation = curate(DATA / name, "video", config, tmp_path)
    judgement = curation.judgement
    if wanted["verdict"] == "accept":
        assert judgement.verdict is Verdict.ACCEPTED, judgement.message
    else:
        assert judgement.verdict is Verdict.REJECTED
        assert judgement.reason in wanted["reasons"], judgement.message
    assert judgement.reason not in wanted.get("never", ())
    record = json.loads((tmp_path / "curation.json").read_text())
    if record["scores"] is not None:
        assert decide_again(record, config) == curation


def test_fades_of_the_walk_are_cut_away(tmp_path):
    path = DATA / "videos/clinic_walkthrough.mp4"
    (verdict,) = curate(path, "video", CurateConfig(), tmp_path).clips
    assert 0.6 <= verdict.clip.start_s <= 1.0
    # The picture begins to darken at 17.05 s and is black at 18.5 s.
    assert 16.9 <= verdict.clip.end_s <= 18.3


@pytest.mark.parametrize(
    ("name", "spans"),
    [
        ("videos/penthouse_fpv_400p.mp4", [(0.0, 16.5), (16.7, 27.5)]),
        ("videos/bedroom_handheld_364p_vfr.mp4", [(0.0, 18.7)]),
        ("negatives/lowres_colosseum_360p.mp4", [(0.0, 22.7)]),
    ],
)
def test_small_videos_are_sound_where_smallness_is_allowed(name, spans, tmp_path):
    config = CurateConfig(min_short_side_px=360)
    curation = curate(DATA / name, "video", config, tmp_path)
    assert curation.judgement.verdict is Verdict.ACCEPTED
    assert all(c.judgement.verdict is Verdict.ACCEPTED for c in curation.clips)
    found = [(c.clip.start_s, c.clip.end_s) for c in curation.clips]
    for (start, end), (wanted_start, wanted_end) in zip(found, spans, strict=True):
        assert start == pytest.approx(wanted_start, abs=0.15)
        assert end == pytest.approx(wanted_end, abs=0.15)


@pytest.mark.parametrize(("name", "count"), [("fox/images", 25), ("sceaux_castle", 11)])
def test_photo_sets(name, count, tmp_path):
    curation = curate(DATA / "images" / name, "images", CurateConfig(), tmp_path)
    assert curation.judgement.verdict is Verdict.ACCEPTED
    assert len(curation.clips[0].clip.key_frames) == count
