"""What only an accelerator can show: parity in its own precisions, and that the host never waits within a step."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec

import pytest
import torch
from test_suite_waits import WAITS

from strategies import registry
from suite.backends.megablocks import ready
from suite.campaign import loads, parity
from suite.campaign.step import host_waits
from suite.campaign.training import open_training, take_steps

pytestmark = pytest.mark.gpu

absent = any(find_spec(name) is None for name in ("megablocks", "stk", "triton"))
BACKENDS = ["grouped", pytest.param("megablocks", marks=pytest.mark.skipif(absent, reason="MegaBlocks not installed"))]
RUNG = {"task": "zipf-nano", "set": {"rung.steps": 100_000}}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("experts", [8, 64, 256])
@pytest.mark.parametrize("load", ["skewed", "empty"])
def test_outputs_and_gradients_equal_the_reference_in_bfloat16(backend, experts, load):
    device = torch.device("cuda")
    shapes = ((512, 64), (experts, 64, 128), (experts, 64, 64), (512, 64))
    *inputs, weight_TD = (torch.randn(shape, device=device).bfloat16() / 8 for shape in shapes)
    routing = loads.routing(load, 512, experts, 4, device)
    exact = parity.results("reference", routing, inputs, weight_TD, torch.float64)
    found = parity.errors(parity.results(backend, routing, inputs, weight_TD, torch.bfloat16), exact)
    assert max(found.values()) < 0.03, found


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("strategy", sorted(set(registry.available()) - set(WAITS)))
def test_a_step_waits_for_nothing(backend, strategy, tmp_path):
    if backend == "megablocks" and ready.GMM not in ready.prepare():
        pytest.skip("grouped_gemm wants the loads on the host")
    training = open_training(tmp_path, RUNG, strategy, backend=backend, precision="bfloat16", device="cuda")
    take_steps(training, 3)
    assert host_waits(partial(take_steps, training, 1), training.device) == 0
