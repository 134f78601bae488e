"""The space that a run's downloads may fill: what the disk has left, and what the workspace may take.

A download is refused before it begins where its size is known to be too large, stopped where it turns out
to be, and let in only if it fits when it is whole. The first for which there is no room ends the run's
downloads: the next ones would only fill what others need.
"""

from __future__ import annotations

import os
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sage_core.errors import SourceError
from sage_core.types import Reason

_GIB = 1 << 30


@dataclass(frozen=True)
class Left:
    """How many bytes may still come, and by which rule."""

    bytes: int
    reason: Reason
    rule: str

    def to_json(self) -> dict[str, Any]:
        return {"bytes": self.bytes, "reason": self.reason.value, "rule": self.rule}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Left:
        return cls(int(data["bytes"]), Reason(data["reason"]), str(data["rule"]))

    def refuse(self, size: float, what: str) -> SourceError:
        """The error for so many bytes."""
        return SourceError(
            f"{what}: {_mib(size)} do not fit, {_mib(max(0, self.bytes))} are left {self.rule}. Free some "
            "space (`sage prune`, `sage compact`) or raise the limit, then run again with --retry failed",
            reason=self.reason,
            retryable=True,
        )


class Room:
    """Shared by all downloads of a run; safe for threads.

    Args:
        folder: the workspace.
        min_free_gb: what must stay free on its disk, in GiB.
        quota_gb: what it may take in all, in GiB; None for no limit. Counted once, file by file.
    """

    def __init__(
        self, folder: Path, min_free_gb: float = 0.0, quota_gb: float | None = None
    ) -> None:
        self._folder, self._min_free, self._quota = folder, min_free_gb, quota_gb
        self._used = 0 if quota_gb is None else used_bytes(folder)
        self._closed: SourceError | None = None
        self._lock = threading.Lock()

    def left(self) -> Left:
        """What may still come, by the stricter of the two rules."""
        free = shutil.disk_usage(self._folder).free - int(self._min_free * _GIB)
        disk = Left(free, Reason.DISK_FULL, f"over run.min_free_gb = {self._min_free:g}")
        if self._quota is None:
            return disk
        quota = int(self._quota * _GIB) - self._used
        rule = f"under run.disk_quota_gb = {self._quota:g}"
        return min(disk, Left(quota, Reason.QUOTA, rule), key=lambda left: left.bytes)

    def check_open(self, what: str) -> None:
        """Go on if no download of this run has met the end of the room, and there is some.

        Raises:
            SourceError: ``disk_full`` or ``quota``, retryable.
        """
        with self._lock:
            closed = self._closed
        if closed is not None:
            raise SourceError(
                f"{what}: not fetched, downloads of this run were stopped for {closed}",
                reason=closed.reason,
                retryable=True,
            )
        left = self.left()
        if left.bytes <= 0:
            raise self.close(left.refuse(1, what))

    def check(self, size: int, what: str) -> None:
        """Go on if so many bytes fit; others may fit even where these do not.

        Raises:
            SourceError: ``disk_full`` or ``quota``, retryable.
        """
        left = self.left()
        if size > left.bytes:
            raise left.refuse(size, what)

    def take(self, size: int, what: str) -> None:
        """Count what is about to be kept; its bytes are on the disk already.

        Raises:
            SourceError: ``quota``, retryable.
        """
        if self._quota is None:
            return
        with self._lock:
            left = int(self._quota * _GIB) - self._used
            if size <= left:
                self._used += size
                return
        rule = f"under run.disk_quota_gb = {self._quota:g}"
        raise self.close(Left(left, Reason.QUOTA, rule).refuse(size, what))

    def close(self, error: SourceError) -> SourceError:
        """End the downloads of this run for this error, which is given back."""
        with self._lock:
            self._closed = self._closed or error
        return error


def used_bytes(folder: Path) -> int:
    """Bytes of all files in a folder and below; what vanishes meanwhile does not count."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(root, name)).st_size  # noqa: PTH118  (a million times)
            except FileNotFoundError:
                continue
    return total


def _mib(size: float) -> str:
    return f"{size / 2**20:,.1f} MiB"
