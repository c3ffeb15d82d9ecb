"""On an accelerator: nothing sits on the wrong device, and no rule waits for the device without need.

The meta device stands in: mixing it with the CPU fails, and so does whatever needs a value on the host.
"""

import contextlib

import pytest
import torch
from strategy_lab import layer

from strategies import RouteContext, registry

WAITS = {
    "base": "solves its assignment on the host",
    "expert_threshold": "the number of assignments depends on the scores",
    "remoe": "the number of assignments depends on the scores",
    "sinkhorn": "stops when its iteration has converged",
}
VARIANTS = [
    ("aux_loss", {"scope": "sequence"}),
    ("aux_loss", {"scope": "global_batch"}),
    ("expert_reset", {"weights": "fresh"}),
    ("hash", {"variant": "previous_token"}),
    ("hash", {"variant": "bigram"}),
    ("sign_bias", {"form": "multiplicative"}),
]
BUILT_IN = [name for name, cls in registry.available().items() if cls.__module__.startswith("strategies.")]


def one_step(monkeypatch, name, config):
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: contextlib.nullcontext())  # knows no meta device
    cls = registry.get(name)
    terms = {"z_loss": 1.0, "sequence_loss": 1.0} if cls.has_router else {}
    spec = layer()
    strategy = registry.build(cls, spec, config, terms).to("meta")
    hidden_TD, tokens_T = torch.empty(64, 16, device="meta"), torch.empty(64, dtype=torch.long, device="meta")
    for progress in (0.0, 0.5):
        strategy.schedule(progress)
        routing = strategy(hidden_TD, tokens_T, RouteContext(sequence_length=16))
        objective = routing.gate_A.sum() + sum(routing.losses.values())
        if objective.requires_grad:
            objective.backward()
        with torch.no_grad():
            strategy.rebalance(torch.empty(cls.experts_to_build(spec), device="meta"), routing.pooled)


@pytest.mark.parametrize(("name", "config"), [(name, {}) for name in BUILT_IN if name not in WAITS] + VARIANTS)
def test_a_step_stays_on_the_device(monkeypatch, name, config):
    one_step(monkeypatch, name, config)


@pytest.mark.parametrize("name", WAITS)
def test_the_rules_that_wait_are_the_ones_named(monkeypatch, name):
    with pytest.raises((RuntimeError, NotImplementedError), match=r"item\(\)|nonzero"):
        one_step(monkeypatch, name, {})
