"""What can go wrong with a workspace.

CatalogError
├── StorageError  the store behind a URL does not answer, or answers with errors of its own
├── StoreError    a path that leaves the workspace, or an artifact that is missing or no plain file
├── LeaseHeld     another runner works on the same stage of the same workspace
└── LeaseLost     this runner's lease was taken over; what it did since does not count
"""

from __future__ import annotations

from sage_core.types import Judgement, Reason


class CatalogError(Exception):
    """Base of the errors that the workspace raises on purpose.

    Carries a reason and whether trying again can help, as every error does that ends as a verdict.
    """

    reason: Reason = Reason.INTERNAL_ERROR
    retryable: bool = False

    def __init__(self, message: str, *, reason: Reason | None = None) -> None:
        super().__init__(message)
        if reason is not None:
            self.reason = reason

    def judgement(self) -> Judgement:
        """This error as the verdict *failed*."""
        return Judgement.fail(self.reason, str(self), retryable=self.retryable)


class StoreError(CatalogError):
    """A path that would leave the workspace, or an artifact that is not what it should be."""

    reason = Reason.MISSING_INPUT


class StorageError(CatalogError):
    """The store at the workspace's URL did not do what was asked, however often; it may later."""

    reason = Reason.TRANSIENT
    retryable = True


class LeaseHeld(CatalogError):  # noqa: N818  (the field's own words)
    """Another runner holds the stage; the message names it."""

    retryable = True


class LeaseLost(CatalogError):  # noqa: N818
    """The lease was taken over, for this runner seemed dead; it must stop."""

    retryable = True
