"""Memory counted on tensors without any, against what the allocator did."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from sage_core.models import VGGTConfig, blank_model, build_model
from sage_core.training.cost import bytes_per_view, kept_bytes, peak_bytes


def allocated_at_most(model, shape):
    """Most bytes alive at once, as the profiler saw them come and go."""
    samples, views, height, width = shape
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        model(torch.zeros(samples, views, 3, height, width))
    alive = peak = 0
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda e: e.start_ns()):
        alive += event.nbytes()
        peak = max(peak, alive)
    return peak


@pytest.mark.parametrize(("config", "side"), [("mini", 64), (VGGTConfig.tiny(), 56)])
def test_peak_is_what_the_allocator_sees(config, side):
    model = build_model(config, seed=0).eval()
    shape = (1, 4, side, side)
    counted = peak_bytes(blank_model(model.config), shape, half=False)
    assert counted == pytest.approx(allocated_at_most(model, shape), rel=0.1)


@pytest.mark.slow
def test_bytes_per_view():
    shell = blank_model(VGGTConfig.tiny())
    shell.freeze(["point_head"])

    def per_view(width=56, *, training=True, views=4, half=False):
        return bytes_per_view(shell, 56, width, training=training, views=views, half=half)

    six, two = (kept_bytes(shell, (1, views, 56, 56), half=False) for views in (6, 2))
    assert per_view() == pytest.approx((six - two) / 4, rel=0.05)
    assert 0 < per_view(training=False) < per_view()
    assert per_view(112) == pytest.approx(2 * per_view(), rel=0.1)
    assert per_view(half=True) < per_view()
