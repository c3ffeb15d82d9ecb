"""Mixed precision: experts compute in autocast's dtype, whichever backend they are on."""

from __future__ import annotations

import math
import os
from importlib.util import find_spec

import pytest
import torch
from test_suite_backends import naive, top_k_routing

import tasks
from strategies import RouteContext, Routing, registry
from suite import backends
from suite.training.model import Transformer

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

absent = any(find_spec(name) is None for name in ("megablocks", "stk", "triton"))
on_a_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="its kernels want tensors on the GPU")
NAMES = [
    "reference",
    "grouped",
    pytest.param("megablocks", marks=[pytest.mark.skipif(absent, reason="MegaBlocks is not installed"), on_a_gpu]),
]


@pytest.mark.parametrize("name", NAMES)
def test_experts_compute_in_bfloat16_and_parameters_get_float32_gradients(name):
    routing = top_k_routing(8, 4, 2, "skewed")
    generator = torch.Generator().manual_seed(5)
    shapes = ((8, 16), (4, 16, 16), (4, 8, 16))
    values = [(torch.randn(shape, generator=generator) / math.sqrt(16)).requires_grad_() for shape in shapes]
    gate = routing.gate_A.clone().requires_grad_()
    plan = backends.plan_dispatch(Routing(routing.token_A, routing.expert_A, gate, 2), 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = backends.get(name).load()(values[0], plan, values[1], values[2])
    assert out.dtype == torch.bfloat16
    out.float().square().sum().backward()
    assert all(value.grad is not None and value.grad.dtype == torch.float32 for value in [*values, gate])

    rounded = [value.detach().bfloat16().double() for value in values]
    expected = naive(rounded[0], routing.token_A, routing.expert_A, routing.gate_A.double(), rounded[1], rounded[2])
    torch.testing.assert_close(out.double(), expected, rtol=0, atol=0.02 * float(expected.abs().max()))


def test_without_autocast_nothing_is_rounded():
    routing = top_k_routing(8, 4, 2, "even")
    plan = backends.plan_dispatch(routing, 4)
    values = [torch.randn(shape) for shape in ((8, 16), (4, 16, 16), (4, 8, 16))]
    assert backends.get("grouped").load()(values[0], plan, values[1], values[2]).dtype == torch.float32


def test_a_whole_model_trains_in_bfloat16_on_either_backend():
    losses = []
    for name in ("reference", "grouped"):
        rung = tasks.load("zipf-nano", {}).rung
        cls = registry.get("sign_bias")
        model = Transformer(rung, lambda spec, cls=cls: registry.build(cls, spec), backends.get(name).load(), 0)
        tokens = torch.randint(
            rung.vocab_size, (1, rung.sequence_length + 1), generator=torch.Generator().manual_seed(0)
        )
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model.loss(tokens, RouteContext(sequence_length=rung.sequence_length))
        loss.backward()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
