"""Real files made with ffmpeg, real servers, and what acquire makes of each."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from bad_server import CONFIG, H264, PICTURES, Server, encode, patched_duration, url_item

from sage_core.acquisition.hosts import HostGate
from sage_core.acquisition.obtain import obtain


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of good and bad files."""
    folder = tmp_path_factory.mktemp("media")
    ok = encode(folder / "ok.mp4", *PICTURES, *H264)
    whole = ok.read_bytes()
    encode(folder / "front.mp4", "-i", str(ok), "-c", "copy", "-movflags", "+faststart")
    front = (folder / "front.mp4").read_bytes()
    (folder / "cut_tail.mp4").write_bytes(front[: len(front) * 2 // 3])
    (folder / "cut_index.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "liar.mp4").write_bytes(patched_duration(whole, b"mvhd", 100_000))
    (folder / "modest.mp4").write_bytes(
        patched_duration(patched_duration(whole, b"mvhd", 500), b"tkhd", 500)
    )
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "page.mp4").write_text("<!doctype html><html><body>not here</body></html>")
    (folder / "noise.mp4").write_bytes(bytes(range(256)) * 64)
    encode(folder / "sound.m4a", "-f", "lavfi", "-i", "sine=d=2")
    encode(folder / "one.mp4", *PICTURES, *H264, "-frames:v", "1")
    encode(folder / "turned.mp4", "-display_rotation", "90", "-i", str(ok), "-c", "copy")
    webm = encode(folder / "ok.webm", *PICTURES, "-c:v", "libvpx", "-threads", "1").read_bytes()
    (folder / "cut.webm").write_bytes(webm[: len(webm) * 2 // 3])
    encode(folder / "segment.ts", *PICTURES, *H264)
    return folder


@pytest.fixture(scope="session")
def servers(media: Path):
    """A server that acquire may talk to, and one on another loopback address that it may not."""
    other = Server("127.0.0.2", media)
    allowed = Server("127.0.0.1", media, other.url)
    yield allowed, other
    allowed.close()
    other.close()


@pytest.fixture(scope="session")
def obtained(servers, tmp_path_factory):
    """What acquire makes of every path of the server, fetched once by real yt-dlp children."""
    allowed, _ = servers
    paths = [
        "ok.mp4", "404", "410", "429", "flaky.mp4", "short.mp4", "huge.mp4", "stalled.mp4",
        "trickle.mp4", "climbing.mp4", "page.html", "away.mp4", "good.m3u8", "file.m3u8",
        "elsewhere.m3u8", "live.m3u8", "empty.mp4", "cut_tail.mp4",
        "liar.mp4", "a/../../ok.mp4?title=../../x",
    ]  # fmt: skip
    base = tmp_path_factory.mktemp("obtained")

    def one(number_and_path):
        number, path = number_and_path
        area = base / str(number)
        area.mkdir()
        return obtain(url_item(f"{allowed.url}/{path}"), area, CONFIG, HostGate(99))

    with ThreadPoolExecutor(3) as pool:
        return dict(zip(paths, pool.map(one, enumerate(paths)), strict=True))
