"""Errors that end as a verdict: each carries the reason code and whether trying again can help.

SageError
├── SourceError            what was asked for cannot be had (acquire)
├── MediaError             a file that cannot be decoded, or lies about itself
├── SandboxError           a child process ran out of time or memory, or crashed
├── ShardError             a shard that is broken, too new, or does not say what it should
├── CheckpointError        weights that do not fit, or cannot be trusted
├── TrainingError          training cannot start or go on
└── ConfigError            settings that are unknown, out of bounds, or contradict each other
"""

from __future__ import annotations

from sage_core.types import Judgement, Reason


class SageError(Exception):
    """Base of all errors that SAGE raises on purpose.

    The message says what happened, to what, and what to do about it.
    """

    reason: Reason = Reason.INTERNAL_ERROR
    retryable: bool = False

    def __init__(
        self, message: str, *, reason: Reason | None = None, retryable: bool | None = None
    ) -> None:
        super().__init__(message)
        if reason is not None:
            self.reason = reason
        if retryable is not None:
            self.retryable = retryable

    def judgement(self) -> Judgement:
        """This error as the verdict *failed*."""
        return Judgement.fail(self.reason, str(self), retryable=self.retryable)


class SourceError(SageError):
    """A source that cannot be fetched; ``reason`` tells blocked from gone from passing trouble."""

    reason = Reason.BAD_SOURCE


class MediaError(SageError):
    """A media file that cannot be probed or decoded."""

    reason = Reason.UNREADABLE


class SandboxError(SageError):
    """A child process hit its time or memory limit, or died of a signal."""

    reason = Reason.CRASHED


class ShardError(SageError):
    """A shard that is truncated, of a newer schema, or holds values that cannot be."""

    reason = Reason.MISSING_INPUT


class CheckpointError(SageError):
    """Model weights with missing, extra or misshapen tensors, or in a form that is not trusted."""

    reason = Reason.BAD_CHECKPOINT


class TrainingError(SageError):
    """Training cannot start or cannot go on."""

    reason = Reason.NO_DATA


class ConfigError(SageError):
    """Settings that are unknown, out of bounds or contradictory."""

    reason = Reason.BAD_CONFIG


def disk_full(what: str) -> str:
    """The words for a child process that met a full disk."""
    return f"{what} found the disk full: free some space and run again with --retry failed"
