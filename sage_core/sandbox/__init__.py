"""Native code that can hang, crash or eat memory runs in a child process with limits."""

from sage_core.sandbox._run import Limits, Usage, call, ended, metered, run, tied_to_parent

__all__ = ["Limits", "Usage", "call", "ended", "metered", "run", "tied_to_parent"]
