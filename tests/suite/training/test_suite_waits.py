"""On an accelerator the host must not wait for the device within a step: shown without one, on tensors without data.

Whatever needs a value (`.item()`, `nonzero`, a branch on a tensor, a copy to the host) fails on a fake tensor.
"""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode

import tasks
from strategies import RouteContext, registry
from suite import backends
from suite.training import optimizers, reset
from suite.training.model import Transformer

WAITS = {
    "base": "solves its assignment on the host",
    "expert_threshold": "how many experts a token gets depends on the scores",
    "remoe": "how many experts a token gets depends on the scores",
    "sinkhorn": "stops when it has converged",
}


def as_fake(module: torch.nn.Module) -> None:
    """Parameters and buffers without data; called within a fake mode."""
    for child in module.modules():
        for name, parameter in list(child._parameters.items()):
            if parameter is not None:
                fake = torch.empty(parameter.shape, dtype=parameter.dtype)
                child._parameters[name] = torch.nn.Parameter(fake, requires_grad=parameter.requires_grad)
        for name, buffer in list(child._buffers.items()):
            if buffer is not None:
                child._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)


def one_step(name: str) -> None:
    """Forward, backward, clipping, optimizer and rebalancing of a small model, on fake tensors."""
    rung = tasks.load("zipf-nano", {}).rung
    cls = registry.get(name)
    load = backends.get("grouped").load()

    def in_bfloat16(hidden, plan, w_in, w_out):  # the grouped product's shapes are only known in this dtype
        return load(hidden.bfloat16(), plan, w_in.bfloat16(), w_out.bfloat16())

    counts_V = torch.arange(rung.vocab_size, 0, -1).float()
    model = Transformer(rung, lambda spec: registry.build(cls, spec), in_bfloat16, 0, counts_V)
    context = RouteContext(sequence_length=rung.sequence_length)
    with FakeTensorMode():
        as_fake(model)
        optimizer = optimizers.build(model, rung)
        for layer in model.moe_layers:
            layer.start_step()
            layer.strategy.schedule(0.5)
        loss = model.loss(torch.empty((4, rung.sequence_length + 1), dtype=torch.int64), context)
        for layer in model.moe_layers:
            for term in layer.losses.values():
                loss = loss + term
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), rung.grad_clip)
        optimizer.step()
        for layer in model.moe_layers:
            with torch.no_grad():
                layer.strategy.rebalance(layer.load_E.float(), dict(layer.pooled))
        reset.carry_out(model, optimizer, seed=0, step=0)


@pytest.fixture
def _counting_like_an_accelerator(monkeypatch):
    """`bincount` has a size that depends on data; strategies use it on a CPU only."""
    monkeypatch.setattr(torch, "bincount", lambda values, minlength=0: values.new_zeros(minlength))


@pytest.mark.usefixtures("_counting_like_an_accelerator")
@pytest.mark.parametrize("name", sorted(set(registry.available()) - set(WAITS)))
def test_a_step_asks_nothing_of_the_device(name):
    one_step(name)


@pytest.mark.usefixtures("_counting_like_an_accelerator")
@pytest.mark.parametrize("name", sorted(WAITS))
def test_those_that_wait_are_known(name):
    with pytest.raises((DataDependentOutputException, DynamicOutputShapeException)):
        one_step(name)
