"""What a trial costs where nothing was measured."""

import pytest

import tasks
from suite.planning import estimate


def test_a_small_rung_on_a_gpu_takes_as_long_as_its_launches():
    """400 steps of four layers at 5 ms each are 8 s, whatever the peak; its FLOPs alone take 0.13 s."""
    rung = tasks.load("text-micro").rung
    assert (rung.steps, rung.layers, rung.micro_batches) == (400, 4, 1)
    assert estimate.unmeasured_seconds(rung, 2e14, "cuda") == pytest.approx(8.0)
    assert estimate.unmeasured_seconds(rung, 1e11, "cpu") == pytest.approx(estimate.training_flops(rung) / 1e11)
