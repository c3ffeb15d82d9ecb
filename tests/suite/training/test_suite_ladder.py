"""The ladder's large rungs: trained for a step at reduced depth with data, and whole without data."""

from __future__ import annotations

import math

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import tasks
from strategies import RouteContext, registry
from suite import backends
from suite.training.model import Transformer

FIT = ("stable-base", "olmoe-like", "trinity-256", "trinity-512", "trinity-1024")  # one MoE layer, in 16 GB
LARGER = ("stable-large", "trinity-3072")
LENGTH = 64


def model_of(rung, experts):
    cls = registry.get("smebu")
    return Transformer(rung, lambda spec: registry.build(cls, spec), experts, 0, torch.ones(rung.vocab_size))


@pytest.mark.parametrize("name", LARGER)
def test_a_large_rung_runs_forward_and_backward_at_full_depth_without_data(name):
    rung = tasks.rungs()[name]
    load = backends.get("grouped").load()

    def in_bfloat16(hidden, plan, w_in, w_out):  # the grouped product's shapes are only known in this dtype
        return load(hidden.bfloat16(), plan, w_in.bfloat16(), w_out.bfloat16())

    with FakeTensorMode():
        model = model_of(rung, in_bfloat16)
        assert sum(parameter.numel() for parameter in model.parameters()) == rung.parameters()["total"]
        tokens = torch.zeros((2, LENGTH + 1), dtype=torch.int64)
        model.loss(tokens, RouteContext(sequence_length=LENGTH)).backward()
        assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", FIT)
def test_a_large_rung_runs_forward_and_backward_at_reduced_depth(name):
    """One MoE layer of full size, and a dense one where the rung has such.

    Hidden states have unit variance and the head 0.02², so the first loss is ln V + width · 0.02² / 2.
    """
    rung = tasks.rungs()[name]
    dense = min(1, rung.dense_layers)
    fewer = {"layers": 1 + dense, "dense_layers": dense, "moe_positions": None, "vocab_size": 1024}
    rung = rung.model_copy(update=fewer)
    model = model_of(rung, backends.get("grouped").load())
    tokens = torch.randint(0, 1024, (1, LENGTH + 1), generator=torch.Generator().manual_seed(0))
    loss = model.loss(tokens, RouteContext(sequence_length=LENGTH))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(math.log(1024) + rung.width * 0.02**2 / 2, abs=0.15)
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())
