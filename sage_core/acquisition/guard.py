"""What the child process may open: the guard that no library can pass by.

yt-dlp follows whatever a page tells it to: redirects, playlists, manifests with segments anywhere. The
guard therefore stands below it, at Python's audit events: every opened URL, every connection's resolved
address and every started program is looked at, for the rest of the process's life.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from sage_core.acquisition.hosts import HostGuard
from sage_core.acquisition.policy import Refusal, RefusedError, denied_host
from sage_core.config.policy import PolicyConfig
from sage_core.errors import SourceError
from sage_core.types import Reason


class Watch:
    """What stopped the work on purpose; kept here since yt-dlp rewraps what passes through it."""

    def __init__(self) -> None:
        self.stopped: SourceError | None = None

    def refuse(self, refusal: Refusal) -> SourceError:
        """Stop for a rule of ``acquire.policy``."""
        self.stopped = self.stopped or RefusedError(refusal)
        return self.stopped

    def stop(self, message: str, reason: Reason, *, retryable: bool = False) -> SourceError:
        self.stopped = self.stopped or SourceError(message, reason=reason, retryable=retryable)
        return self.stopped


def set_guard(guard: HostGuard, watch: Watch, policy: PolicyConfig | None = None) -> None:
    """Refuse URLs, connections and programs for the rest of this process's life.

    Of ``policy``, the hosts that nothing may be fetched from are heeded.
    """
    import deno

    programs = {os.path.realpath(deno.find_deno_bin())}

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "urllib.Request":
            _check_url(guard, watch, policy or PolicyConfig(), arguments[0])
        elif event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
            _check_address(guard, watch, arguments[-1])
        elif event == "ftplib.connect":
            raise watch.stop("only http and https are fetched, not ftp", Reason.BAD_SOURCE)
        elif event == "subprocess.Popen":
            if os.path.realpath(str(arguments[0] or arguments[1][0])) not in programs:
                raise PermissionError(f"starting {arguments[0]} is not allowed here")
        elif event in ("os.system", "os.exec", "os.posix_spawn"):
            raise PermissionError(f"{event} is not allowed here")

    sys.addaudithook(hook)


def _check_url(guard: HostGuard, watch: Watch, policy: PolicyConfig, url: str) -> None:
    if url.startswith("data:"):
        return
    refusal = denied_host(url, policy)
    if refusal is not None:
        raise watch.refuse(refusal)
    try:
        guard.check(url)
    except SourceError as error:
        watch.stopped = watch.stopped or error
        raise


def _check_address(guard: HostGuard, watch: Watch, address: Any) -> None:
    if not isinstance(address, tuple):
        raise watch.stop(f"a connection to {address!r} is no fetching", Reason.FORBIDDEN_HOST)
    if not guard.allows(str(address[0]), int(address[1])):
        raise watch.stop(
            f"a connection to {address[0]} was asked for, which is not a public host and not in "
            "acquire.allow_hosts",
            Reason.FORBIDDEN_HOST,
        )
