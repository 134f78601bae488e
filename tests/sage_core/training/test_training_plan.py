"""What a run will take, before it runs: memory, time, operations."""

import pytest

from sage_core.models import load_model
from sage_core.training.cost import known_peak, pass_flops
from sage_core.training.plan import plan
from sage_core.training.preparation import without_values


def test_the_plan_counts_what_the_switches_save(settings):
    plain = plan(settings("plain"))
    saved = plan(settings("saved", checkpoint_activations=True))
    assert saved.memory_mb["activations"] < 0.8 * plain.memory_mb["activations"]
    adapters = plan(
        settings("lora", lora={"encoder": {"rank": 1}}, frozen=("decoder", "gaussian_head"))
    )
    assert adapters.trained_parameters.keys() == {"encoder", "point_head"}
    assert adapters.trained_parameters["encoder"] == 4 * 32 + 2 * 32 + 2 * (32 + 128)
    sharded = plan(settings("sharded", parallel="fully_shard", processes=2))
    assert sharded.memory_mb["weights"] == pytest.approx(plain.memory_mb["weights"] / 2, abs=0.1)
    averaged = plan(settings("averaged", ema_decay=0.9))
    assert averaged.memory_mb["average"] == averaged.memory_mb["gradients"] > 0
    assert (plain.hours, saved.tflop_per_sample) == (None, plain.tflop_per_sample)
    assert "peak_tflops" in plain.hours_from


def test_the_plans_time_says_what_it_is_from(settings):
    guessed = plan(settings("guessed", peak_tflops=1e-3))
    flops = 1e12 * guessed.tflop_per_sample * guessed.batch * guessed.steps
    assert guessed.hours == pytest.approx(flops / (0.3 * 1e9) / 3600, rel=0.05)
    assert "not measured" in guessed.hours_from
    timed = plan(settings("timed"), timed_steps=1)
    assert timed.hours > 0
    assert "1 timed steps" in timed.hours_from


def test_operations_are_those_of_the_matrix_products(base):
    """The encoder's linear layers alone, by hand; doubling the samples doubles all."""
    shell = without_values(load_model(base))
    flops = pass_flops(shell, (1, 2, 32, 32))
    assert pass_flops(shell, (3, 2, 32, 32)) == pytest.approx(3 * flops)
    tokens, width = 2 * 16, 32
    encoder = 2 * tokens * (4 * width**2 + 8 * width**2)
    assert flops > 3 * encoder
    assert shell.patch_embed.proj.weight.is_meta
    assert 1.2 * flops < pass_flops(shell, (1, 2, 32, 32), references=2) < 2 * flops


def test_peaks_are_looked_up_by_name():
    assert known_peak("NVIDIA H100 80GB HBM3") == 989e12
    assert known_peak("NVIDIA H100 PCIe") == 756e12
    assert known_peak("NVIDIA A100-SXM4-80GB") == 312e12
    assert known_peak("NVIDIA GeForce RTX 4090") == 165e12
    assert known_peak("Some Accelerator") is None
