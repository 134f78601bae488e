"""Settings of the stage curate."""

from __future__ import annotations

from sage_core.config._base import Section, setting, subsection
from sage_core.config.duplicates import DuplicatesConfig


class CurateConfig(Section):
    """Which videos, shots and stretches are worth reconstructing, and which frames of them."""

    version: int = setting(6, "Raised when the stage's code changes what it gives.", ge=1)

    min_duration_s: float = setting(10.0, "Shortest video taken, in seconds.", ge=0)
    min_short_side_px: int = setting(
        480, "Smallest short side of the picture inside letterbox bars, in pixels.", ge=16
    )

    min_clip_s: float = setting(10.0, "Shortest clip taken, in seconds.", ge=0.5)
    max_clip_s: float = setting(
        30.0,
        "Longer shots are cut into clips of about equal length no longer than this, in seconds.",
        ge=1,
    )
    min_lasting_share: float = setting(
        0.1,
        "Where less than this share of the corner tracks lives through 0.6 s, as in a doorway or a whip "
        "pan, a clip ends, if what is on both sides is long enough for one; 0 never.",
        ge=0,
        le=1,
    )
    max_clips: int = setting(
        0, "Clips taken from one video at most, spread evenly over it; 0 takes all.", ge=0
    )
    cut_score: float = setting(
        15.0, "Content change (mean HSV difference, 0 to 255) that a cut has at least.", ge=0
    )
    cut_ratio: float = setting(
        3.0, "A cut's content change over the mean of its four neighbours, at least.", ge=1
    )
    cut_survival: float = setting(
        0.5, "Where more than this share of the corner tracks goes on, there is no cut.", ge=0, le=1
    )
    min_blend: float = setting(
        0.42,
        "A dissolve's score at least: how well earlier and later frames, blended, explain one, times "
        "the share of tracks that end there.",
        ge=0,
    )
    min_wipe: float = setting(
        0.44, "The same of a wipe, whose frames show both side by side.", ge=0
    )
    blank_contrast: float = setting(
        4.0, "Frames whose grey values spread less than this (standard deviation) are blank.", ge=0
    )

    max_frozen_share: float = setting(
        0.3, "Largest share of time in which the picture stands still to the pixel.", ge=0, le=1
    )
    max_flat_share: float = setting(
        0.6, "Largest share of the picture without any texture, as in slides and drawings.", ge=0
    )
    max_seam: float = setting(
        3.0,
        "How much more than its surroundings a fixed line through the whole picture may stand out, "
        "where the rest moves across it, as the seam of a split screen does.",
        ge=1,
    )
    max_overlay_share: float = setting(
        0.15, "Largest share of the picture under a fixed overlay (logo, frame, cockpit).", ge=0
    )
    max_clipped_share: float = setting(
        0.25, "Largest share of pixels that are black or white to the limit.", ge=0, le=1
    )
    min_sharpness: float = setting(
        20.0, "Smallest variance of the Laplacian at 320 px, median over the clip.", ge=0
    )

    min_travel: float = setting(
        0.012,
        "Least motion of the static picture, in long sides of the frame per 10 seconds.",
        ge=0,
    )
    min_rigid_share: float = setting(
        0.85, "Least share of tracks that one rigid scene explains from step to step.", ge=0, le=1
    )
    max_moving_share: float = setting(
        0.06, "Largest share of tracks on things that move by themselves.", ge=0, le=1
    )
    min_off_plane_share: float = setting(
        0.15, "A stretch has parallax if one plane leaves this share of its tracks off.", ge=0, le=1
    )
    min_rotation_px: float = setting(
        1.0, "A stretch is more than a turn if a rotation leaves this much, in pixels at 320.", ge=0
    )
    min_rotation_share: float = setting(
        0.03, "And this share of the displacement, which is more on a long turn.", ge=0, le=1
    )
    min_zoom_share: float = setting(
        0.05, "And more than a zoom if a zoom leaves this share of the displacement.", ge=0, le=1
    )
    min_epipolar_share: float = setting(
        0.8, "Share of a stretch's tracks that its epipolar geometry must explain.", ge=0, le=1
    )
    min_parallax_share: float = setting(
        0.5, "Least share of a clip's time in stretches with sound parallax.", ge=0, le=1
    )
    max_lost_share: float = setting(
        0.15, "Largest share of a clip's time in which the tracks break down.", ge=0, le=1
    )

    key_interval_s: float = setting(
        1 / 3, "Key frames are about this far apart in time, in seconds, if motion allows.", gt=0
    )
    key_min_flow: float = setting(
        0.02, "Least mean motion from key frame to key frame, in long sides of the frame.", ge=0
    )
    min_key_frames: int = setting(
        24, "Key frames of a clip at least, also where it moves slowly.", ge=3
    )
    max_key_frames: int = setting(60, "Key frames of a clip at most.", ge=3)
    pose_step_frames: float = setting(
        5.0, "Frames that get a pose are at most this far apart, in thirtieths of a second.", ge=1
    )

    min_images: int = setting(8, "Fewest images of a photo folder that can be used.", ge=3)
    max_images: int = setting(
        150, "Larger photo folders are thinned to this many images, evenly by name.", ge=3
    )

    duplicates: DuplicatesConfig = subsection(DuplicatesConfig)

    time_limit_s: float = setting(
        1800.0, "Seconds before measuring one video is given up.", gt=0, affects_result=False
    )
    memory_limit_mb: int = setting(
        1500, "Memory that measuring one video may use, in MiB.", ge=256, affects_result=False
    )
