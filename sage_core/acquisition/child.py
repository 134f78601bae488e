"""The child process in which yt-dlp runs: what it is told, what it answers.

Only the request handler that goes through Python's sockets is used (libcurl would pass the guard by),
manifests are read natively, and Deno, which solves YouTube's challenges, is run by yt-dlp without any
right to the network.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sage_core.acquisition.failures import Failure, describe
from sage_core.acquisition.guard import Watch, set_guard
from sage_core.acquisition.hosts import HostGuard
from sage_core.acquisition.room import Left
from sage_core.acquisition.sources import spelled
from sage_core.types import Reason

_KEPT = (
    "id", "title", "uploader", "uploader_id", "channel", "channel_id", "license", "upload_date",
    "timestamp", "duration", "extractor", "extractor_key", "format", "format_id", "ext", "width",
    "height", "fps", "vcodec", "webpage_url", "live_status", "availability", "age_limit",
)  # fmt: skip
_STREAMED = r"[protocol~='^(https?|m3u8(_native)?|http_dash_segments(_generator)?)$']"
_NESTED_LISTS = 3


def fetch(url: str, folder: str, settings: dict[str, Any], proxies: list[str]) -> dict[str, Any]:
    """Download one video into ``folder``: ``{"file", "info"}``, or ``{"failure"}`` (see Failure)."""
    return _answer(_Fetch(url, Path(folder), settings), settings, proxies)


def expand(url: str, folder: str, settings: dict[str, Any], proxies: list[str]) -> dict[str, Any]:
    """What a URL stands for: ``{"entries": [{url, title, duration}, …]}`` or ``{"failure"}``.

    ``entries`` is None where the URL is one video.
    """
    return _answer(_Listing(url, Path(folder), settings), settings, proxies)


class _Job:
    """One use of yt-dlp."""

    def __init__(self, url: str, folder: Path, settings: dict[str, Any]) -> None:
        self.url, self.folder, self.settings = url, folder, settings
        self.watch = Watch()

    def work(self) -> dict[str, Any]:
        raise NotImplementedError

    def options(self) -> dict[str, Any]:
        """yt-dlp's options, under the names of its Python API (unknown ones would be ignored)."""
        import deno

        told = self.settings
        return {
            "quiet": True,
            "noprogress": True,
            "logger": _Quiet(),
            "noplaylist": True,
            "ignoreerrors": False,
            "retries": 0,
            "extractor_retries": 0,
            "file_access_retries": 0,
            "fragment_retries": told["retries"],
            "skip_unavailable_fragments": False,
            "socket_timeout": told["socket_timeout_s"],
            "sleep_interval_requests": told["sleep_requests_s"],
            "cookiefile": told["cookies_file"],
            "proxy": told["proxy"],
            "extractor_args": told["extractor_args"],
            "cachedir": told["cache_dir"] or False,
            "js_runtimes": {"deno": {"path": deno.find_deno_bin()}},
            "external_downloader": {"default": "native"},
            "hls_prefer_native": True,
            "enable_file_urls": False,
        }


class _Listing(_Job):
    def work(self) -> dict[str, Any]:
        if self._is_known_single():
            return {"entries": None}
        entries = list(self._entries(self.url, _NESTED_LISTS))
        if len(entries) == 1 and entries[0]["url"] == self.url:
            return {"entries": None}
        return {"entries": entries}

    def _is_known_single(self) -> bool:
        """Whether the URL's form tells yt-dlp that it is one video, without asking the site."""
        with _downloader(self.options()) as ydl:
            extractors = (ie for ie in ydl._ies.values() if ie.suitable(self.url))
            first = next(extractors, None)
            return first is not None and first.is_single_video(self.url) is True

    def _entries(self, url: str, depth: int) -> Iterator[dict[str, Any]]:
        """Videos under a URL, in order; a channel's tabs are lists within a list."""
        options = {
            **self.options(),
            "extract_flat": "in_playlist",
            "playlistend": self.settings["max_entries"],
            "check_formats": False,
            "ignore_no_formats_error": True,
        }
        with _downloader(options) as ydl:
            info = ydl.extract_info(url, download=False)
            if info.get("entries") is None:
                yield {"url": url, "title": info.get("title"), "duration": info.get("duration")}
                return
            left = self.settings["max_entries"]
            for entry in info["entries"]:
                found = [_entry(entry)]
                if depth > 1 and _is_list(ydl, entry):
                    found = list(self._entries(entry["url"], depth - 1))
                yield from found[:left]
                left -= len(found)
                if left <= 0:
                    return


class _Fetch(_Job):
    def work(self) -> dict[str, Any]:
        with _downloader(self._options()) as ydl:
            info = ydl.extract_info(self.url, download=True)
        done = (info or {}).get("requested_downloads") or []
        if len(done) != 1 or not Path(done[0]["filepath"]).is_file():
            raise self.watch.stop("yt-dlp ended without a file", Reason.UNAVAILABLE, retryable=True)
        file = Path(done[0]["filepath"]).resolve()
        if file.parent != self.folder.resolve():
            raise self.watch.stop(
                f"the download landed outside its folder: {file}", Reason.BAD_SOURCE
            )
        return {"file": file.name, "info": _kept(info)}

    def _options(self) -> dict[str, Any]:
        told = self.settings
        rate = told["rate_limit_kib_s"]
        return {
            **self.options(),
            "paths": {"home": str(self.folder)},
            "outtmpl": {"default": "media.%(ext)s"},
            # Sound is of no use here; "bv*" is the best with pictures, with or without it.
            "format": f"bv*{_STREAMED}",
            "format_sort": [f"res:{told['max_height_px']}", "vcodec:h264"],
            "match_filter": self._judge,
            "progress_hooks": [self._progress],
            "ratelimit": rate * 1024 if rate else None,
            "sleep_interval": told["sleep_s"],
            "max_sleep_interval": told["max_sleep_s"],
            "updatetime": False,
            "fixup": "never",
            "continuedl": True,
        }

    def _judge(self, info: dict[str, Any], *, incomplete: bool = False) -> str | None:
        """Refuse before the download what is known to be unwanted; yt-dlp calls this for each video."""
        listed = info.get("n_entries") or 1
        if listed > 1:
            raise self.watch.stop(
                f"{self.url} holds {listed} videos where one was expected: run again, or name them "
                "one by one", Reason.BAD_SOURCE, retryable=True,
            )  # fmt: skip
        if info.get("is_live") or info.get("live_status") in (
            "is_live",
            "is_upcoming",
            "post_live",
        ):
            raise self.watch.stop(f"{self.url} is a live stream", Reason.LIVE_STREAM)
        duration, longest = info.get("duration"), self.settings["max_duration_s"]
        if duration and duration > longest:
            raise self.watch.stop(
                f"{duration:g} s long, over acquire.max_duration_s = {longest:g}", Reason.TOO_LARGE
            )
        if not incomplete:
            self._check_size(info.get("filesize") or info.get("filesize_approx"))
        return None

    def _progress(self, state: dict[str, Any]) -> None:
        """Size limit and stall alarm; the first call with data starts the alarm."""
        if state["status"] == "downloading":
            self._check_size(state.get("total_bytes"))
            self._check_size(state.get("downloaded_bytes"))
            if signal.getsignal(signal.SIGALRM) == signal.SIG_DFL:
                self._watch_for_stalls()
        elif state["status"] == "finished":
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _check_size(self, size: float | None) -> None:
        limit = self.settings["max_file_mb"]
        if size and size > limit * 2**20:
            raise self.watch.stop(
                f"{size / 2**20:.0f} MiB or more, over acquire.max_file_mb = {limit}",
                Reason.TOO_LARGE,
            )
        room = self.settings.get("room")
        if size and room and size > room["bytes"]:
            left = Left.from_json(room)
            raise self.watch.stop(str(left.refuse(size, self.url)), left.reason, retryable=True)

    def _watch_for_stalls(self) -> None:
        """A server that trickles bytes never lets a socket time out, so count what arrives."""
        window, least = self.settings["stall_s"], self.settings["stall_kib"] * 1024
        if rate := self.settings["rate_limit_kib_s"]:
            least = min(least, rate * 1024 * window / 2)
        seen = self._bytes()

        def ring(_signal: int, _frame: object) -> None:
            nonlocal seen
            now = self._bytes()
            if now - seen < least:
                raise self.watch.stop(
                    f"the download stalled: {now - seen} bytes in {window:g} s",
                    Reason.TRANSIENT, retryable=True,
                )  # fmt: skip
            seen = now

        signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, window, window)

    def _bytes(self) -> int:
        return sum(f.stat().st_size for f in self.folder.iterdir() if f.is_file())


class _Quiet:
    """yt-dlp's log is not shown; its errors come as exceptions."""

    def debug(self, message: str) -> None: ...
    def info(self, message: str) -> None: ...
    def warning(self, message: str) -> None: ...
    def error(self, message: str) -> None: ...


def _answer(job: _Job, settings: dict[str, Any], proxies: list[str]) -> dict[str, Any]:
    set_guard(HostGuard(settings["allow_hosts"], proxies), job.watch)
    try:
        return job.work()
    except Exception as error:  # noqa: BLE001  (all that yt-dlp may raise is told apart there)
        stopped = job.watch.stopped
        failure = Failure.of(stopped) if stopped else describe(error, job.url)
        return {"failure": failure.to_json()}


def _downloader(options: dict[str, Any]) -> Any:
    """A YoutubeDL that opens URLs through Python's sockets alone."""
    from yt_dlp import YoutubeDL
    from yt_dlp.networking._urllib import UrllibRH

    class Guarded(YoutubeDL):  # type: ignore[misc]
        def build_request_director(self, handlers: Any, preferences: Any = None) -> Any:
            return super().build_request_director([UrllibRH], preferences)

    return Guarded(options)


def _is_list(ydl: Any, entry: dict[str, Any]) -> bool:
    if entry.get("_type") not in ("url", "url_transparent") or not entry.get("ie_key"):
        return False
    return ydl.get_info_extractor(entry["ie_key"]).is_single_video(entry["url"]) is False


def _entry(entry: dict[str, Any]) -> dict[str, Any]:
    url = entry.get("url") or entry.get("webpage_url") or ""
    return {"url": url, "title": entry.get("title"), "duration": entry.get("duration")}


def _kept(info: dict[str, Any]) -> dict[str, Any]:
    """The facts about a video that are worth keeping; texts in UTF-8, cut to 500 characters."""
    facts = {key: info[key] for key in _KEPT if info.get(key) is not None}
    return {k: spelled(v[:500]) if isinstance(v, str) else v for k, v in facts.items()}
