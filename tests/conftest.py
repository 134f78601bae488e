"""Property tests draw the same examples each time, and have no clock in them."""

from hypothesis import settings

settings.register_profile("sage", derandomize=True, deadline=None)
settings.load_profile("sage")
