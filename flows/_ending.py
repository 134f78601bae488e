"""How a command ends: an exit status, and for what SAGE foresaw words in place of a traceback."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import NoReturn, TypeVar

import typer

from data_catalog import CatalogError
from flows._progress import in_words, say
from sage_core.errors import ConfigError, SageError
from sage_core.types import Reason

OK, MANY_FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130

Answer = TypeVar("Answer")


def teach(work: Callable[[], Answer]) -> Answer:
    """Run; an error that SAGE foresaw becomes its message and an exit status, not a traceback."""
    try:
        return work()
    except ConfigError as error:
        usage(str(error))
    except (SageError, CatalogError) as error:
        if error.reason is Reason.BAD_CONFIG:  # also from a child process, which knows no classes
            usage(str(error))
        say(f"sage: {error.reason.value}:", error)
        raise typer.Exit(MANY_FAILED) from error
    except KeyboardInterrupt as stop:
        say("sage:", "interrupted. What has its verdict keeps it; the same command goes on.")
        raise typer.Exit(INTERRUPTED) from stop
    except OSError as error:
        if error.errno == errno.EPIPE:  # the reader of a pipe has seen enough
            raise
        say("sage:", in_words(error))
        raise typer.Exit(MANY_FAILED) from error


def usage(message: str) -> NoReturn:
    """End as wrong usage."""
    say("sage:", message)
    raise typer.Exit(WRONG_USAGE)
