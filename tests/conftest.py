"""Property tests draw the same examples each time, and have no clock in them; nothing is told to anyone."""

import os

from hypothesis import settings

settings.register_profile("sage", derandomize=True, deadline=None)
settings.load_profile("sage")

# Before anything imports Prefect, also when pytest is started by hand.
os.environ.update({"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"})
