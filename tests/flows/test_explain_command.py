"""``sage explain`` on a workspace whose film was made, curated and mapped to a model that is known."""

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_catalog import StageEvent, Workspace
from flows._explain import explanation, write_explanation
from sage_core.config.curate import CurateConfig
from sage_core.errors import ConfigError
from sage_core.explain import Mark
from sage_core.geometry import Camera
from sage_core.mining import curate_file
from sage_core.sfm.model import PosedFrame, SparseModel, frame_name, write_model
from sage_core.types import Reason
from sage_core.world.videos import Effects, write_pictures

VIDEO, SMALL, RUN = "v" + "1" * 16, "v" + "2" * 16, "r" + "3" * 16
CONFIG = CurateConfig(min_duration_s=2, min_clip_s=2, min_short_side_px=100, min_parallax_share=0)
SIZE, FPS, FRAMES = (160, 120), 10, 40
NAMES = {"curation.json": "curation", "contact.jpg": "contact", "thumbnails.zip": "thumbnails"}


def event(item, stage, verdict="accepted", **more):
    common = {
        "parent": None, "source": "https://example.org/film", "reason": None, "message": "",
        "figures": {}, "retryable": False, "config_hash": "c" * 16, "input_hash": "i" * 16,
        "code_version": "9.9.9", "attempt": 1, "sequence": 0, "artifacts": {}, "details": {},
        "seconds": 2.0, "cpu_seconds": 1.0, "host": "h", "time": "2030-01-01T00:00:00+00:00", "run": "n",
    }  # fmt: skip
    return StageEvent(item=item, stage=stage, verdict=verdict, **{**common, **more})


def sliding():
    wide = np.random.default_rng(0).integers(0, 255, (30, 80, 3), np.uint8)
    wide = cv2.resize(wide, (320, 120), interpolation=cv2.INTER_CUBIC)
    yield from (wide[:, 3 * t : 3 * t + SIZE[0]] for t in range(FRAMES))


def curated(ws, item, config):
    """Film, curate, publish; gives the events."""
    with ws.store.scratch() as area:
        film, out = area / "film.mp4", area / "curation"
        out.mkdir()
        write_pictures(sliding(), FRAMES, film, FPS, SIZE, Effects(), 0)
        result = curate_file(str(film), "video", config.model_dump(mode="json"), str(out), item)
        video = ws.store.publish(film, f"videos/{item}/film.mp4")
        files = {
            NAMES[f]: ws.store.publish(out / f, f"clips/{item}/{f}")
            for f in result["files"]
            if f in NAMES
        }
    told = result["judgement"]
    yield event(item, "acquire", artifacts={"video": video}, details={"title": "A film"})
    yield event(item, "curate", told["verdict"], artifacts=files,
                **{k: told[k] for k in ("reason", "message", "figures")})  # fmt: skip
    for one in result["clips"]:
        said = {k: one["judgement"][k] for k in ("verdict", "reason", "message", "figures")}
        yield event(
            one["clip"]["item"], "curate", parent=item, details={"clip": one["clip"]}, **said
        )


def reconstructed(ws, clip):
    """A model with three cameras before a wall of points, and the event that names it."""
    rng = np.random.default_rng(1)
    xyz = rng.uniform((-2, -1, 4), (2, 1, 6), (60, 3))
    camera = Camera.from_colmap("SIMPLE_RADIAL", *SIZE, (140.0, 80.0, 60.0, -0.05))
    frames = []
    for index in (0, 10, 20, 30):
        pose = np.eye(3, 4)
        pose[0, 3] = -0.05 * index
        xy = camera.project(xyz + pose[:, 3])
        seen = np.flatnonzero(((xy > 0) & (xy < SIZE)).all(1))
        frames.append(PosedFrame(index, True, pose, camera, xy[seen], seen))
    kept = np.unique(np.concatenate([frame.point for frame in frames]))
    model = SparseModel(
        frames, xyz, rng.integers(0, 255, (60, 3), np.uint8), np.full(60, 0.3), np.arange(1, 61)
    )
    assert len(kept) > 20
    with ws.store.scratch() as area:
        out = area / "model"
        (out / "images").mkdir(parents=True)
        write_model(model, out / "sparse" / "0")
        for frame in frames:
            cv2.imwrite(
                str(out / "images" / frame_name(frame.frame)), np.full((120, 160, 3), 90, np.uint8)
            )
        rows = {
            "frame": [f.frame for f in frames], "time_s": [f.frame / FPS for f in frames],
            "key": [True] * 4, "registered": [True] * 4, "inliers": [len(f.point) for f in frames],
            "reproj_px": [0.3] * 4,
        }  # fmt: skip
        pq.write_table(pa.table(rows), out / "frames.parquet")
        artifact = ws.store.publish(out, f"sfm/{clip}")
    figures = {
        "points_median": {"value": 60, "threshold": 100, "rule": ">="},
        "reprojection_px": {"value": 0.3, "threshold": 0.9, "rule": "<="},
    }
    return event(clip, "reconstruct", parent=VIDEO, artifacts={"model": artifact}, figures=figures)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The workspace and its one clip."""
    ws = Workspace.open(tmp_path_factory.mktemp("explained") / "ws")
    events = list(curated(ws, VIDEO, CONFIG))
    clip = events[-1].item
    small = CONFIG.model_copy(update={"min_short_side_px": 480})
    events += [*curated(ws, SMALL, small), reconstructed(ws, clip), event(RUN, "adapt")]
    ws.catalog.append(events)
    return ws, clip


def test_a_clip_with_a_model_shows_scores_tracks_and_cameras(made):
    ws, clip = made
    told = explanation(ws, clip)
    assert told.notes == []
    assert told.stage == "reconstruct"
    assert next(iter(told.figures)) == "points_median", "what fails comes first"
    assert len(told.strip) == 8
    assert {still.mark for still in told.strip} == {Mark.WANTED}
    assert [c.figure for c in told.timeline.curves][:2] == ["points_median", "reprojection_px"]
    way = told.evidence.tracks.paths[:, -1, 0] - told.evidence.tracks.paths[:, 0, 0]
    assert np.median(way) < -10
    assert told.scene.centres.shape == (4, 3)
    along = np.linalg.norm(np.diff(told.scene.centres, axis=0), axis=1)
    assert along == pytest.approx([0.5, 0.5, 0.5])
    assert len(told.scene.depth) > 10
    assert told.scene.depth == pytest.approx(np.clip(told.scene.depth, 4, 6))


def test_a_header_that_rejects_shows_frames_and_the_size(made):
    ws, _ = made
    told = explanation(ws, SMALL)
    assert told.judgement.reason is Reason.RESOLUTION
    assert told.timeline is None
    assert len(told.strip) == 8
    assert "120 of the 480" in told.evidence.caption
    assert {still.mark for still in told.strip} == {Mark.UNWANTED}


def test_without_the_source_thumbnails_are_left_and_it_says_so(made):
    ws, clip = made
    video = ws.store.path(f"videos/{VIDEO}/film.mp4")
    aside = video.with_suffix(".away")
    video.rename(aside)
    try:
        told = explanation(ws, clip)
    finally:
        aside.rename(video)
    assert told.evidence is None
    assert len(told.strip) == 8
    assert told.scene is not None
    assert any("gone" in note and f"videos/{VIDEO}/film.mp4" in note for note in told.notes)


def test_a_damaged_record_becomes_a_note(made):
    ws, clip = made
    path = ws.store.path(f"clips/{VIDEO}/curation.json")
    before = path.read_bytes()
    path.write_text("{")
    try:
        told = explanation(ws, clip)
    finally:
        path.write_bytes(before)
    assert told.timeline is None
    assert told.scene is not None
    assert any(note.startswith("No scores") for note in told.notes)


def test_files_of_each_kind(made, tmp_path):
    ws, clip = made
    stored = write_explanation(ws.root, clip)
    assert stored == ws.store.path(f"explanations/{clip}.jpg")
    again = write_explanation(ws.root, clip, tmp_path / "new" / "a.jpg")
    assert again.read_bytes() == stored.read_bytes()
    page = write_explanation(ws.root, clip, tmp_path / "a.html").read_text()
    assert "data:image/jpeg;base64," in page
    assert "points_median" in page
    assert "reconstruct: accepted" in page


@pytest.mark.parametrize(("item", "out", "words"), [
    ("nothing", None, "sage items"), (RUN, None, "training run"), (VIDEO, "a.gif", ".jpg"),
])  # fmt: skip
def test_what_cannot_be_explained_is_wrong_usage(made, tmp_path, item, out, words):
    with pytest.raises(ConfigError, match=words):
        write_explanation(made[0].root, item, tmp_path / out if out else None)


def test_the_command_prints_where_the_picture_is(made, tmp_path, capsys):
    from flows.cli import app

    out = tmp_path / "why.png"
    with pytest.raises(SystemExit) as ended:
        app(["explain", SMALL, "-w", str(made[0].root), "--out", str(out)])
    assert ended.value.code == 0
    assert capsys.readouterr().out.strip() == str(out)
    assert cv2.imread(str(out)).shape[1] > 1000
