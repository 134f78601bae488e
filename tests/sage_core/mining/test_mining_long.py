"""Long videos: dozens of clips out of one, each decoded from near, in memory that length does not change."""

import subprocess
from dataclasses import replace

import numpy as np
import pytest

from sage_core import sandbox
from sage_core.config.curate import CurateConfig
from sage_core.mining import Measures, decide, measure, read_curation
from sage_core.mining._measures import FrameSeries, StepSeries
from sage_core.types import Reason, Verdict
from sage_core.video.decoder import digest
from sage_core.video.frames import open_frames, read_frames


def chained(*parts: Measures) -> Measures:
    """One video made of measured ones, without cuts between them."""
    frames, steps, chains = [], [], []
    count, time_s, at = 0, 0.0, 0
    for part in parts:
        series = part.frames
        frames.append(replace(series, index=series.index + count, time_s=series.time_s + time_s))
        steps.append(replace(part.steps, at=part.steps.at + count))
        chains += [replace(c, start=c.start + at, end=c.end + at) for c in part.chains]
        count, time_s, at = count + len(series), time_s + part.duration_s, at + len(part.steps)
    return replace(
        parts[0],
        n_frames=count,
        duration_s=time_s,
        frames=joined(FrameSeries, frames),
        steps=joined(StepSeries, steps),
        chains=chains,
    )


def joined(kind, series):
    return kind(
        **{name: np.concatenate([vars(one)[name] for one in series]) for name in vars(series[0])}
    )


@pytest.fixture(scope="module")
def parts(film):
    """Four seconds of a camera that travels, of one that stands, of one that turns."""
    found = {name: measure(film(name))[0] for name in ("travelling", "still", "panning")}
    for part in found.values():
        # What the first frame changes against nothing would be a cut inside.
        part.frames.content[0] = part.frames.content[1]
    return found


CONFIG = CurateConfig(min_short_side_px=120)


@pytest.fixture(scope="module")
def hour(parts):
    """An hour of walking in one shot, and what is said of it."""
    measures = chained(*[parts["travelling"]] * 900)
    return measures, decide(measures, CONFIG, "v0")


def test_an_hour_gives_dozens_of_clips(hour):
    _, curation = hour
    assert len(curation.shots) == 1
    assert 120 <= len(curation.clips) <= 122  # container times are a little off
    assert all(c.judgement.verdict is Verdict.ACCEPTED for c in curation.clips)
    assert all(10 <= c.clip.end_s - c.clip.start_s <= 30.1 for c in curation.clips)


def test_a_doorway_ends_a_clip_also_when_scores_are_judged_again(hour):
    """A place where all but a few tracks end, in the middle of what would be one clip."""
    measures, whole = hour
    third = whole.clips[3].clip
    steps = measures.steps
    at = int(np.searchsorted(measures.frames.time_s[steps.at], (third.start_s + third.end_s) / 2))
    survival = steps.survival.copy()
    survival[at - 2 : at + 3] = [0.7, 0.4, 0.3, 0.4, 0.7]
    doorway = replace(measures, steps=replace(steps, survival=survival))
    when = measures.frames.time_s[steps.at[at]]
    starts = [c.clip.start_s for c in decide(doorway, CONFIG, "v0").clips]
    assert min(abs(start - when) for start in starts) < 0.5
    never = CONFIG.model_copy(update={"min_lasting_share": 0.0, "max_clip_s": 60.0})
    stored = Measures.from_json(doorway.to_json())
    lengths = [c.clip.end_s - c.clip.start_s for c in decide(stored, never, "v0").clips]
    assert max(lengths) > 45


def test_a_limit_takes_clips_from_all_over(hour):
    measures, whole = hour
    curation = decide(measures, CONFIG.model_copy(update={"max_clips": 5}), "v0")
    starts = [c.clip.start_s for c in curation.clips]
    assert starts == pytest.approx([0, 890, 1790, 2680, 3570], abs=45)
    assert curation.judgement.figures["clips_left_out"].value == len(whole.clips) - 5


def test_sound_stretches_are_taken_out_of_a_shot_that_stands_and_turns_between(parts):
    walk, stand, turn = (parts[name] for name in ("travelling", "still", "panning"))
    shot = chained(*[stand] * 30, *[walk] * 5, *[turn] * 30, *[walk] * 20, *[stand] * 30)
    curation = decide(shot, CONFIG, "v0")
    assert curation.judgement.verdict is Verdict.ACCEPTED
    assert all(c.judgement.verdict is Verdict.ACCEPTED for c in curation.clips)
    spans = [(c.clip.start_s, c.clip.end_s) for c in curation.clips]
    # Each may reach into what is beside it, as long as half of it is sound.
    assert spans[0][0] <= 121
    assert 139 <= spans[0][1] <= 180
    assert spans[1][0] >= 180
    assert sum(end - start for start, end in spans) >= 95


def test_what_is_sound_nowhere_keeps_its_reason(parts):
    curation = decide(chained(*[parts["panning"]] * 60), CONFIG, "v0")
    assert curation.judgement.reason is Reason.ROTATION_ONLY


@pytest.fixture(scope="module")
def half_an_hour(long_film, tmp_path_factory):
    """A minute at a frame every two seconds, thirty times over without encoding again: 29 cuts."""
    import imageio_ffmpeg

    folder = tmp_path_factory.mktemp("half_an_hour")
    minute, path = folder / "minute.mp4", folder / "long.mp4"
    ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error"]
    slower = "setpts=2*N/TB,scale=160:120"
    encode = ["-c:v", "libx264", "-crf", "20", "-g", "15", "-fps_mode", "vfr"]
    source = str(long_film("swaying"))
    pick = f"select='not(mod(n,16))',{slower}"
    subprocess.run([*ffmpeg, "-i", source, "-vf", pick, *encode, str(minute)], check=True)
    (folder / "list.txt").write_text("file minute.mp4\n" * 30)
    copy = ["-f", "concat", "-i", str(folder / "list.txt"), "-c", "copy", str(path)]
    subprocess.run([*ffmpeg, *copy], check=True)
    return minute, path


@pytest.mark.slow
def test_half_an_hour_end_to_end(half_an_hour, tmp_path):
    config = CurateConfig(min_short_side_px=100)
    curations, peaks = [], []
    for path in half_an_hour:
        arguments = {"path": str(path), "kind": "video", "config": config.model_dump(mode="json"),
                     "out_dir": str(tmp_path), "item": "v0"}  # fmt: skip
        with sandbox.metered() as usage:
            result = sandbox.call(
                "sage_core.mining:curate_file",
                arguments,
                sandbox.Limits(wall_s=900, memory_mb=1500),
            )
        curations.append(read_curation(result))
        peaks.append(usage.peak_mb)
    short, long = curations
    assert long.judgement.verdict is Verdict.ACCEPTED
    assert len(long.clips) >= 24
    assert len(long.clips) >= 20 * len(short.clips)
    assert peaks[1] <= 1.25 * peaks[0] + 50
    last = long.clips[-1].clip
    assert last.start_s > 1500
    assert last.start_s - open_frames(half_an_hour[1]).info.times_s[last.entry.frame] <= 30
    near = read_frames(half_an_hour[1], last.pose_frames, None, entry=last.entry)
    afar = read_frames(half_an_hour[1], last.pose_frames, None)
    assert [digest(f.image) for f in near] == [digest(f.image) for f in afar]
