"""How the ffmpeg program is called on files that nobody vouches for.

Its input is one local file of a known container: no other protocol, no playlist or concatenation
format, through which a crafted file could make it read elsewhere.
"""

from __future__ import annotations

from pathlib import Path

CONTAINERS = (
    "mov", "matroska", "webm", "avi", "mpegts", "mpeg", "flv", "asf", "ogg", "gif", "mxf", "rm",
)  # fmt: skip
"""Demuxers of files with pictures."""
_SOUND = ("mp3", "wav", "flac", "aac", "ac3", "amr", "aiff", "w64", "ape")
_MAX_PIXELS = 8192 * 8192


def ffmpeg_exe() -> str:
    """The ffmpeg binary that the package imageio-ffmpeg ships."""
    import imageio_ffmpeg

    return str(imageio_ffmpeg.get_ffmpeg_exe())


def ffmpeg_reading(file: Path, *input_options: str) -> list[str]:
    """The beginning of a command line that reads ``file`` and nothing else."""
    allowed = ",".join((*CONTAINERS, *_SOUND))
    return [
        *(ffmpeg_exe(), "-hide_banner", "-nostdin", "-y", "-threads", "1"),
        *("-protocol_whitelist", "file", "-format_whitelist", allowed, "-max_streams", "64"),
        *("-max_pixels", str(_MAX_PIXELS), *input_options, "-i", f"file:{file.absolute()}"),
    ]
