"""Settings of the stage assemble."""

from __future__ import annotations

from sage_core.config._base import Section, setting, subsection
from sage_core.config.sampling import SamplingConfig


class AnchorConfig(Section):
    """Which SfM points become anchors of a frame, and how many a frame and a clip need."""

    min_track: int = setting(4, "Frames mapped by COLMAP that must see the point.", ge=2)
    min_angle_deg: float = setting(
        5.0, "Widest angle in degrees between two rays to the point, at least.", ge=0, lt=180
    )
    max_error_px: float = setting(
        1.0, "Largest reprojection error in this frame, pixels of the SfM image.", gt=0
    )
    max_split: float = setting(
        0.05,
        "Largest distance between a point's places by two halves of its views, as a share of its depth.",
        gt=0,
    )
    min_per_frame: int = setting(20, "Frames with fewer anchors are left out.", ge=1)
    min_median: int = setting(
        40, "Clips whose frames have fewer anchors in the median are rejected.", ge=1
    )


class AssembleConfig(Section):
    """Writing clips into shards: pictures at training resolution, cameras, anchors, trajectories."""

    version: int = setting(3, "Raised when the stage's code changes what it gives.", ge=1)
    long_side_px: int = setting(
        518,
        "Long side of the stored pictures in pixels; smaller ones stay as they are.",
        ge=64,
        le=4096,
    )
    jpeg_quality: int = setting(92, "JPEG quality of the stored pictures.", ge=50, le=100)
    anchors: AnchorConfig = subsection(AnchorConfig)
    min_covisibility: float = setting(
        0.01,
        "Pairs of frames that share a smaller part of their points are not stored.",
        ge=0,
        le=1,
    )
    candidates: int = setting(
        64, "Candidate trajectories scored for each clip at most.", ge=2, le=10_000
    )
    sampling: SamplingConfig = subsection(SamplingConfig)
    clips_per_shard: int = setting(16, "Clips in one shard.", ge=1, le=1024, affects_result=False)
    row_group_frames: int = setting(
        16,
        "Frames in one row group: a sample reads whole groups, and each group costs a little.",
        ge=1,
        le=64,
        affects_result=False,
    )
    max_wall_s: float = setting(
        900, "Seconds after which a clip's child process is stopped.", gt=0, affects_result=False
    )
    max_memory_mb: int = setting(
        1900,
        "Memory in MiB above which a clip's child process is stopped.",
        ge=64,
        affects_result=False,
    )
