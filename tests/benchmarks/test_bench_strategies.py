"""What the strategies themselves cost: choosing experts for 2048 tokens, and what they do once a step.

Shapes: T tokens, D width, E experts, K experts per token.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from strategies import LayerSpec, RouteContext, Strategy, registry

TOKENS, SEQUENCE, WIDTH, EXPERTS, TOP_K, VOCABULARY = 2048, 128, 64, 32, 2, 1024
CONTEXT = RouteContext(sequence_length=SEQUENCE)
BUILT_IN = registry.available()
REBALANCE = [name for name, cls in BUILT_IN.items() if cls.rebalance is not Strategy.rebalance]


def make(name: str) -> tuple[Strategy, torch.Tensor, torch.Tensor]:
    """A strategy in training, normalised hidden states with a direction in common, and tokens by Zipf's law."""
    draw = torch.Generator().manual_seed(0)
    weights_V = 1 / torch.arange(1.0, VOCABULARY + 1)
    tokens_T = torch.multinomial(weights_V, TOKENS, replacement=True, generator=draw)
    hidden_TD = torch.randn(TOKENS, WIDTH, generator=draw) + torch.randn(WIDTH, generator=draw)
    spec = LayerSpec(
        width=WIDTH, num_experts=EXPERTS, top_k=TOP_K, vocab_size=VOCABULARY, token_counts_V=1e6 * weights_V
    )
    strategy = registry.build(BUILT_IN[name], spec).train()
    strategy.schedule(0.0)
    return strategy, hidden_TD.requires_grad_(), tokens_T


@pytest.mark.benchmark(group="route, 2048 tokens to 2 of 32 experts", max_time=0.3)
@pytest.mark.parametrize("name", BUILT_IN)
def test_route(benchmark: Any, name: str) -> None:
    strategy, hidden_TD, tokens_T = make(name)
    routing = benchmark(strategy.route, hidden_TD, tokens_T, CONTEXT)
    assert len(routing.token_A) == len(routing.expert_A) == len(routing.gate_A) > 0
    assert int(routing.token_A.max()) < TOKENS
    assert int(routing.expert_A.max()) < EXPERTS


@pytest.mark.benchmark(group="rebalance, 32 experts", max_time=0.3)
@pytest.mark.parametrize("name", REBALANCE)
def test_rebalance(benchmark: Any, name: str) -> None:
    strategy, hidden_TD, tokens_T = make(name)
    with torch.no_grad():
        routing = strategy.route(hidden_TD, tokens_T, CONTEXT)
        load_E = torch.bincount(routing.expert_A, minlength=EXPERTS).float()
        benchmark(strategy.rebalance, load_E, routing.pooled)
    assert all(bool(torch.isfinite(value).all()) for value in strategy.state_dict().values())
