"""The look into what was fetched: is it a video, does it decode, does it last as long as promised?

What it shows is not judged here; that is curate's part.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sage_core.acquisition.policy import POLICY_REASONS
from sage_core.config.acquire import AcquireConfig
from sage_core.errors import MediaError, SandboxError
from sage_core.sandbox import Limits, call, run
from sage_core.types import Figure, Judgement, Reason
from sage_core.video.ffmpeg import ffmpeg_reading
from sage_core.video.probe import Probe, probe

_FORGIVEN_S = 1.0
_LEAST_BYTES_A_SECOND = 10_000
_MAGIC = {b"%PDF": "a PDF", b"PK\x03\x04": "a zip archive", b"\xff\xd8\xff": "a JPEG image",
          b"\x89PNG": "a PNG image", b"\x1f\x8b": "a gzip archive"}  # fmt: skip
_REJECTIONS = (
    *(Reason.NOT_VIDEO, Reason.TOO_LARGE, Reason.LIVE_STREAM, Reason.DUPLICATE),
    *POLICY_REASONS,
)


def verdict_of(reason: Reason, message: str, *, retryable: bool, **figures: Figure) -> Judgement:
    """*Rejected* for what is known to be unwanted, *failed* for what could not be judged."""
    if reason in _REJECTIONS:
        return Judgement.reject(reason, message, figures)
    return Judgement.fail(reason, message, retryable=retryable, figures=figures)


def check_video(
    file: Path, config: AcquireConfig, promised_s: float | None = None
) -> tuple[Judgement, Probe | None]:
    """Judge a fetched file; ``promised_s`` is the duration that the site told before the download."""
    size = file.stat().st_size
    if size > config.max_file_mb * 2**20:
        message = f"{size / 2**20:.0f} MiB, over acquire.max_file_mb = {config.max_file_mb}"
        return Judgement.reject(Reason.TOO_LARGE, message), None
    try:
        facts = probe(file)
    except (MediaError, SandboxError) as error:
        return _unreadable(file, error), None
    figures = _figures(file, facts, promised_s)
    fault = (
        _cut(facts)
        or _false_duration(facts, config, promised_s)
        or _too_long(facts, config)
        or _decode(file, facts, config)
    )
    if fault is None:
        return Judgement.accept(figures), facts
    return verdict_of(fault[0], fault[1], retryable=False, **figures), facts


def check_images(files: list[Path], config: AcquireConfig) -> Judgement:
    """Judge a photo set: enough of its images must decode."""
    limits = Limits(wall_s=60 + 5 * len(files), memory_mb=1536)
    names = [str(file) for file in files]
    found: dict[str, Any] = call(f"{__name__}:image_sizes", {"files": names}, limits)
    figures = {
        "n_images": Figure(len(found["sizes"]), config.min_images, ">="),
        "n_broken": Figure(len(found["broken"])),
    }
    if len(found["sizes"]) < config.min_images:
        broken = f"; unreadable: {', '.join(found['broken'][:5])}" if found["broken"] else ""
        message = f"{len(found['sizes'])} readable images, {config.min_images} are needed{broken}"
        return Judgement.fail(Reason.UNREADABLE, message, retryable=False, figures=figures)
    if found["broken"]:
        message = (
            f"{len(found['broken'])} of {len(files)} images cannot be read: {found['broken'][0]}"
        )
        return Judgement.fail(Reason.UNREADABLE, message, retryable=False, figures=figures)
    width, height = found["sizes"][0]
    size = {"width": Figure(width), "height": Figure(height)}
    return Judgement.accept({**figures, **size})


def image_sizes(files: list[str]) -> dict[str, Any]:
    """Width and height of each image that decodes, names of those that do not (run in a child)."""
    import cv2

    sizes, broken = [], []
    for file in files:
        image = cv2.imread(file, cv2.IMREAD_COLOR)
        if image is None:
            broken.append(Path(file).name)
        else:
            sizes.append([image.shape[1], image.shape[0]])
    return {"sizes": sizes, "broken": broken}


_Fault = tuple[Reason, str] | None


def _unreadable(file: Path, error: MediaError | SandboxError) -> Judgement:
    kind = _other_kind(file) if error.reason is Reason.UNREADABLE else None
    if kind is not None:
        return Judgement.reject(Reason.NOT_VIDEO, f"this is {kind}, not a video")
    # What the copy is called here says nothing to whoever named the source.
    message = str(error).replace(file.name, "the file", 1)
    return verdict_of(error.reason, message, retryable=error.retryable)


def _cut(facts: Probe) -> _Fault:
    if not facts.cut:
        return None
    missing = f", {facts.missing_bytes} announced bytes are missing" if facts.missing_bytes else ""
    return Reason.TRUNCATED, f"the file ends in the middle of its data{missing}"


def _false_duration(facts: Probe, config: AcquireConfig, promised_s: float | None) -> _Fault:
    """A claim that goes past the end, or one about the whole file that falls short of it.

    Without all of its bytes, a file falls short of true claims: what no structure contradicts is taken
    for that. A track header speaks of one track only, which may be shorter than the file.
    """
    claims = {**facts.claims_s, **({"site": promised_s} if promised_s else {})}
    allowed = max(_FORGIVEN_S, config.duration_tolerance * facts.media_end_s)
    for who, claim_s in claims.items():
        if claim_s > facts.media_end_s + allowed:
            cut = who in ("site", "container")
            return Reason.TRUNCATED if cut else Reason.DURATION_MISMATCH, _lie(who, claim_s, facts)
        if claim_s < facts.media_end_s - allowed and not who.startswith("tkhd"):
            return Reason.DURATION_MISMATCH, _lie(who, claim_s, facts)
    return None


def _too_long(facts: Probe, config: AcquireConfig) -> _Fault:
    if facts.duration_s <= config.max_duration_s:
        return None
    return Reason.TOO_LARGE, f"{facts.duration_s:.0f} s, over acquire.max_duration_s"


def _lie(who: str, claim_s: float, facts: Probe) -> str:
    named = "the site" if who == "site" else f"its header ({who})"
    return f"{named} says {claim_s:.2f} s, but the packets last {facts.media_end_s:.2f} s"


def _decode(file: Path, facts: Probe, config: AcquireConfig) -> _Fault:
    """Decode the key frames: cheap, spread over the whole file, and each stands for itself."""
    argv = [
        *ffmpeg_reading(file, "-skip_frame", "nokey"),
        "-map",
        "0:V:0",
        "-fps_mode",
        "passthrough",
    ]
    # A few bytes that stand for hours of pictures get the time that their bytes would take, no more.
    longest_s = min(facts.duration_s, file.stat().st_size / _LEAST_BYTES_A_SECOND)
    limits = Limits(wall_s=120 + longest_s, memory_mb=1536)
    try:
        log = run([*argv, "-f", "null", "-"], limits)
    except SandboxError as error:
        if error.reason is not Reason.CRASHED:
            return error.reason, str(error)
        return Reason.DECODE_ERROR, f"no frame decodes: {_last_line(str(error))}"
    counted = re.findall(r"frame= *(\d+)", log)
    decoded = int(counted[-1]) if counted else 0
    if decoded < config.min_decoded_share * facts.n_key_frames or decoded == 0:
        return Reason.DECODE_ERROR, f"{decoded} of {facts.n_key_frames} key frames decode"
    return None


def _figures(file: Path, facts: Probe, promised_s: float | None) -> dict[str, Figure]:
    longest = promised_s or max(facts.claims_s.values(), default=None)
    return {
        "bytes": Figure(file.stat().st_size),
        "duration_s": Figure(round(facts.duration_s, 3), longest and round(longest, 3), "=="),
        "n_frames": Figure(facts.n_frames),
        "fps": Figure(round(facts.fps, 3)),
        "width": Figure(facts.width),
        "height": Figure(facts.height),
        "codec": Figure(facts.codec),
    }


def _other_kind(file: Path) -> str | None:
    """What a file is that is no video, where its first bytes tell."""
    with file.open("rb") as stream:
        head = stream.read(512)
    for magic, name in _MAGIC.items():
        if head.startswith(magic):
            return name
    if head.lstrip()[:1] == b"<":
        return "an HTML or XML page"
    try:
        text = head.decode("utf-8", errors="strict" if len(head) < 512 else "ignore")
    except UnicodeDecodeError:
        return None
    return "a text" if text and all(c.isprintable() or c.isspace() for c in text) else None


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "")
