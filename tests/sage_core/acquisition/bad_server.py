"""A real HTTP server with every bad habit, and what the tests of acquire share."""

from __future__ import annotations

import http.server
import struct
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

from sage_core.acquisition.sources import SourceItem, SourceKind, item_id
from sage_core.config.acquire import AcquireConfig
from sage_core.video.ffmpeg import ffmpeg_exe

PICTURES = ("-f", "lavfi", "-i", "testsrc=s=320x240:r=10:d=3")
H264 = ("-pix_fmt", "yuv420p", "-c:v", "libx264", "-g", "10", "-threads", "1")


def encode(target: Path, *arguments: str) -> Path:
    subprocess.run(
        [ffmpeg_exe(), "-v", "error", "-y", *arguments, str(target)],
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return target


def patched_duration(video: bytes, box: bytes, ticks: int) -> bytes:
    """The file with another duration in its version 0 ``mvhd`` or ``tkhd``."""
    at = video.index(box) + 4 + {b"mvhd": 16, b"tkhd": 20}[box]
    return video[:at] + struct.pack(">I", ticks) + video[at + 4 :]


CONFIG = AcquireConfig(
    allow_hosts=["127.0.0.1"],
    retries=1,
    retry_wait_s=0,
    socket_timeout_s=1.5,
    stall_s=1.0,
    max_file_mb=64,
)


def url_item(url: str) -> SourceItem:
    return SourceItem(item_id(url), url, SourceKind.URL, url)


class Server:
    """A loopback server; ``requests`` counts what was asked for."""

    def __init__(self, address: str, media: Path, other: str = "") -> None:
        self.requests: Counter[str] = Counter()
        self.media, self.other = media, other
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.requests[self.path] += 1
                server.answer(self)

            def log_message(self, *arguments: object) -> None: ...

        self._http = http.server.ThreadingHTTPServer((address, 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://{address}:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        name = request.path.split("?")[0].lstrip("/")
        special = getattr(self, "_" + name.replace(".", "_").replace("-", "_"), None)
        if special is not None:
            special(request)
        elif name.isdecimal():
            request.send_error(int(name))
        elif (self.media / name).is_file():
            self._send(request, (self.media / name).read_bytes())
        else:
            request.send_error(404)

    def _send(self, request, body: bytes, kind: str = "video/mp4", extra: int = 0, **more) -> None:
        request.send_response(200)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(body) + extra))
        for name, value in more.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(body)

    def _ok(self) -> bytes:
        return (self.media / "ok.mp4").read_bytes()

    def _flaky_mp4(self, request) -> None:
        if self.requests["/flaky.mp4"] <= 1:
            request.send_error(503)
        else:
            self._send(request, self._ok())

    def _private_mp4(self, request) -> None:
        """Asks for a login: ann, s3cret."""
        if request.headers.get("Authorization") == "Basic YW5uOnMzY3JldA==":
            self._send(request, self._ok())
        else:
            request.send_response(401)
            request.send_header("WWW-Authenticate", 'Basic realm="x"')
            request.end_headers()

    def _short_mp4(self, request) -> None:
        self._send(request, self._ok(), extra=5000)

    def _huge_mp4(self, request) -> None:
        self._send(request, self._ok(), extra=2**33)

    def _stalled_mp4(self, request) -> None:
        self._send(request, self._ok()[:2000], extra=5000)
        request.wfile.flush()
        time.sleep(20)

    def _trickle_mp4(self, request) -> None:
        self._send(request, self._ok()[:2000], extra=90_000)
        for _ in range(200):
            try:
                request.wfile.write(b"\0")
                request.wfile.flush()
            except OSError:
                return
            time.sleep(0.1)

    def _climbing_mp4(self, request) -> None:
        name = 'attachment; filename="../../../evil.mp4"'
        self._send(request, self._ok(), Content_Disposition=name)

    def _page_html(self, request) -> None:
        self._send(request, b"<html><title>../../x</title><body>hello</body></html>", "text/html")

    def _away_mp4(self, request) -> None:
        request.send_response(302)
        request.send_header("Location", f"{self.other}/ok.mp4")
        request.end_headers()

    def _hls(self, request, segment: str, end: str = "#EXT-X-ENDLIST\n") -> None:
        text = f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3.0,\n{segment}\n{end}"
        self._send(request, text.encode(), "application/vnd.apple.mpegurl")

    def _good_m3u8(self, request) -> None:
        self._hls(request, "segment.ts")

    def _file_m3u8(self, request) -> None:
        self._hls(request, (self.media / "segment.ts").as_uri())

    def _elsewhere_m3u8(self, request) -> None:
        self._hls(request, f"{self.other}/segment.ts")

    def _live_m3u8(self, request) -> None:
        self._hls(request, "segment.ts", end="")

    def _feed_xml(self, request) -> None:
        items = "".join(
            f"<item><title>{n}</title><link>{url}</link></item>"
            for n, url in [("one", f"{self.url}/ok.mp4"), ("two", f"{self.url}/404"),
                           ("three", "file:///etc/passwd")]
        )  # fmt: skip
        body = f"<?xml version='1.0'?><rss><channel><title>t</title>{items}</channel></rss>"
        self._send(request, body.encode(), "application/rss+xml")
