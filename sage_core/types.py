"""The words that every part of SAGE speaks: stages, verdicts, reasons, figures, cameras and clips.

Conventions, everywhere in the project: OpenCV camera axes (x right, y down, z forward),
``cam_from_world`` is a 3x4 matrix ``[R | t]`` with ``x_cam = R @ x_world + t``, intrinsics are in pixels
with pixel centres at +0.5 (the centre of the top-left pixel is (0.5, 0.5)).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any


class Stage(StrEnum):
    """The six stages of the DAG, in order."""

    ACQUIRE = "acquire"
    CURATE = "curate"
    RECONSTRUCT = "reconstruct"
    ASSEMBLE = "assemble"
    ADAPT = "adapt"
    EVALUATE = "evaluate"


class Verdict(StrEnum):
    """How an item ended at a stage."""

    ACCEPTED = "accepted"
    """Judged and wanted: the next stage takes it."""
    REJECTED = "rejected"
    """Judged and not wanted; the reason names the rule, the figures show by how much."""
    FAILED = "failed"
    """Could not be judged; ``retryable`` says whether trying again can help."""


class Reason(StrEnum):
    """Why an item was rejected or failed. ``REASON_TEXT`` documents each code in one sentence."""

    # Rejections at acquire.
    DUPLICATE = "duplicate"
    NOT_VIDEO = "not_video"
    TOO_LARGE = "too_large"
    LIVE_STREAM = "live_stream"
    DENIED_SOURCE = "denied_source"
    DENIED_UPLOADER = "denied_uploader"
    DENIED_LICENCE = "denied_licence"
    FORGOTTEN = "forgotten"
    # Failures at acquire.
    BAD_SOURCE = "bad_source"
    FORBIDDEN_HOST = "forbidden_host"
    NOT_FOUND = "not_found"
    UNAVAILABLE = "unavailable"
    BLOCKED = "blocked"
    TRANSIENT = "transient"
    TRUNCATED = "truncated"
    DURATION_MISMATCH = "duration_mismatch"
    EMPTY_FILE = "empty_file"
    UNREADABLE = "unreadable"
    UNSUPPORTED = "unsupported"
    # Rejections at curate.
    DURATION = "duration"
    RESOLUTION = "resolution"
    SHOT_TOO_SHORT = "shot_too_short"
    TOO_FEW_FRAMES = "too_few_frames"
    STATIC_CAMERA = "static_camera"
    ROTATION_ONLY = "rotation_only"
    NO_PARALLAX = "no_parallax"
    DYNAMIC_SCENE = "dynamic_scene"
    NOT_FOOTAGE = "not_footage"
    BLURRED = "blurred"
    EXPOSURE = "exposure"
    NO_CLIP_LEFT = "no_clip_left"
    # Rejections at reconstruct.
    SFM_NOT_CONVERGED = "sfm_not_converged"
    QUALITY_GATE = "quality_gate"
    # Rejections at assemble.
    TOO_FEW_ANCHORS = "too_few_anchors"
    NO_TRAJECTORY = "no_trajectory"
    SUPERSEDED = "superseded"
    # Failures anywhere.
    DECODE_ERROR = "decode_error"
    TIME_LIMIT = "time_limit"
    MEMORY_LIMIT = "memory_limit"
    CRASHED = "crashed"
    DISK_FULL = "disk_full"
    QUOTA = "quota"
    MISSING_INPUT = "missing_input"
    INTERNAL_ERROR = "internal_error"
    # Training and evaluation.
    NO_DATA = "no_data"
    WORSE_THAN_BASE = "worse_than_base"
    BAD_CHECKPOINT = "bad_checkpoint"
    NOT_FINITE = "not_finite"
    BAD_CONFIG = "bad_config"


REASON_TEXT: dict[Reason, str] = {
    Reason.DUPLICATE: "the same content is already an item; the figure names it",
    Reason.NOT_VIDEO: "the source holds no moving pictures (audio only, a text page, a document)",
    Reason.TOO_LARGE: "larger or longer than the limits set before download or decoding",
    Reason.LIVE_STREAM: "a live stream has no end and is not fetched",
    Reason.DENIED_SOURCE: "a host, URL or local file that acquire.policy does not allow",
    Reason.DENIED_UPLOADER: "an uploader or channel that acquire.policy does not allow",
    Reason.DENIED_LICENCE: "a licence that acquire.policy does not allow, or none where one is asked for",
    Reason.FORGOTTEN: "removed for good by `sage forget`, with all that came of it",
    Reason.BAD_SOURCE: "the source string is neither an http(s) URL nor something that exists here",
    Reason.FORBIDDEN_HOST: "a private or loopback host that acquire.allow_hosts does not name",
    Reason.NOT_FOUND: "the server or the file system says that there is no such thing (404, 410)",
    Reason.UNAVAILABLE: "the site refuses this video for good: private, removed, geo-blocked, age wall",
    Reason.BLOCKED: "a bot wall or rate limit; the night's downloads from there stop",
    Reason.TRANSIENT: "a network or server fault that may pass (time-out, reset, 5xx)",
    Reason.TRUNCATED: "the file ends before what its header or the server promised",
    Reason.DURATION_MISMATCH: "the frames do not last as long as the header or the site says",
    Reason.EMPTY_FILE: "zero bytes",
    Reason.UNREADABLE: "the container or its header cannot be parsed as any video",
    Reason.UNSUPPORTED: "a format that no decoder here reads",
    Reason.DURATION: "shorter than curate.min_duration_s",
    Reason.RESOLUTION: "the short side is below curate.min_short_side_px",
    Reason.SHOT_TOO_SHORT: "no shot between cuts lasts as long as a clip must",
    Reason.TOO_FEW_FRAMES: "too few frames to choose a trajectory from",
    Reason.STATIC_CAMERA: "the camera does not move",
    Reason.ROTATION_ONLY: "the camera turns but does not travel, so there is no depth to be had",
    Reason.NO_PARALLAX: "what motion there is shows no parallax",
    Reason.DYNAMIC_SCENE: "moving things rule the picture",
    Reason.NOT_FOOTAGE: "slides, text cards, cartoons, screen captures; the figures name the kind",
    Reason.BLURRED: "too blurred for features",
    Reason.EXPOSURE: "too dark, too bright or clipped",
    Reason.NO_CLIP_LEFT: "its clips fell for different reasons; see the clips",
    Reason.SFM_NOT_CONVERGED: "COLMAP found no model",
    Reason.QUALITY_GATE: "COLMAP's model fails a threshold of the gate; the figures show which",
    Reason.TOO_FEW_ANCHORS: "the frames carry too few sparse anchors to train from",
    Reason.NO_TRAJECTORY: "no set of frames can be drawn as a training trajectory",
    Reason.SUPERSEDED: "it left its shard: a stage before rejects it now, or cut its video anew",
    Reason.DECODE_ERROR: "the decoder gave up before the end",
    Reason.TIME_LIMIT: "the child process ran past its time limit and was stopped",
    Reason.MEMORY_LIMIT: "the child process ran past its memory limit and was stopped",
    Reason.CRASHED: "the child process died of a signal",
    Reason.DISK_FULL: "no space left where the workspace or its scratch folder lies",
    Reason.QUOTA: "the workspace would grow past run.disk_quota_gb",
    Reason.MISSING_INPUT: "an artifact that an earlier stage recorded is not there any more",
    Reason.INTERNAL_ERROR: "an error that SAGE did not foresee: please report it with its message",
    Reason.NO_DATA: "nothing to train or evaluate on",
    Reason.WORSE_THAN_BASE: "an adapted model that is worse than its base somewhere: kept, but not latest",
    Reason.BAD_CHECKPOINT: "model weights that do not fit or cannot be trusted",
    Reason.NOT_FINITE: "the loss or the gradient stopped being finite too often",
    Reason.BAD_CONFIG: "settings that contradict each other or lack something that is needed",
}


@dataclass(frozen=True)
class Figure:
    """A measured value, with the threshold that it was judged by where there is one.

    ``rule`` reads "keep if value RULE threshold", e.g. ``Figure(0.62, 0.8, ">=")`` was not kept.
    """

    value: float | int | str | bool | None
    threshold: float | int | str | None = None
    rule: str | None = None


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file or folder in the workspace: its path relative to the root, and what it held when recorded."""

    path: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Judgement:
    """What a stage says of one item: the verdict, why, and every figure that was measured on the way."""

    verdict: Verdict
    reason: Reason | None = None
    message: str = ""
    figures: dict[str, Figure] = field(default_factory=dict)
    retryable: bool = False

    @classmethod
    def accept(cls, figures: dict[str, Figure] | None = None, message: str = "") -> Judgement:
        return cls(Verdict.ACCEPTED, None, message, figures or {})

    @classmethod
    def reject(
        cls, reason: Reason, message: str, figures: dict[str, Figure] | None = None
    ) -> Judgement:
        return cls(Verdict.REJECTED, reason, message, figures or {})

    @classmethod
    def fail(
        cls,
        reason: Reason,
        message: str,
        *,
        retryable: bool,
        figures: dict[str, Figure] | None = None,
    ) -> Judgement:
        return cls(Verdict.FAILED, reason, message, figures or {}, retryable)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Entry:
    """A place inside a video file where decoding may begin, checked by :mod:`sage_core.video.decoder`.

    ``packet``: the key frame's number among the packets, which the decoder is told to seek to;
    ``frame``: index of the picture that comes first then.
    """

    packet: int
    frame: int


@dataclass(frozen=True)
class Clip:
    """A stretch of one video that is worth reconstructing; written by curate, read by reconstruct.

    Frame numbers are indices into the decoded video in presentation order (or into the sorted image
    list of an image folder). ``key_frames`` are mapped by COLMAP; ``pose_frames`` (a superset, sorted)
    all get a pose, so that any of them may be sampled. ``times_s`` are their presentation times.
    """

    item: str
    video: str
    start_frame: int
    end_frame: int
    """Exclusive."""
    start_s: float
    end_s: float
    fps: float
    width: int
    height: int
    key_frames: list[int]
    pose_frames: list[int]
    times_s: list[float]
    """One per entry of ``pose_frames``."""
    crop: tuple[int, int, int, int] | None = None
    """Left, top, width, height of the picture inside letterbox bars, in source pixels."""
    ordered: bool = True
    """False for photo collections, whose order means nothing."""
    entry: Entry | None = None
    """Where decoding may begin; None for the first frame."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def narrowed(self, first: int, last: int) -> Clip:
        """The frames from ``first`` to ``last``; the clip itself where these hold all its key frames."""
        if first <= self.key_frames[0] and self.key_frames[-1] <= last:
            return self
        posed = {
            frame: time
            for frame, time in zip(self.pose_frames, self.times_s, strict=True)
            if first <= frame <= last
        }
        return replace(
            self,
            start_frame=first,
            end_frame=last + 1,
            start_s=posed.get(first, self.start_s),
            end_s=round(posed[last] + 1 / self.fps, 6) if last in posed else self.end_s,
            key_frames=[frame for frame in self.key_frames if first <= frame <= last],
            pose_frames=list(posed),
            times_s=list(posed.values()),
        )

    def as_item(self) -> Clip:
        """With the item that its video and its frames give: for a part that is a clip of its own."""
        return replace(self, item=f"{self.video}_{self.start_frame:06d}_{self.end_frame:06d}")

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Clip:
        crop, entry = data.get("crop"), data.get("entry")
        return cls(
            **{
                **data,
                "crop": tuple(crop) if crop else None,
                "entry": Entry(**entry) if entry else None,
            }
        )
