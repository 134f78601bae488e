"""Native code that can hang, crash or eat memory runs in a child process with limits."""

from sage_core.sandbox._run import Limits, call, run

__all__ = ["Limits", "call", "run"]
