"""Sorting assignments and computing experts, forward and backward, at 8, 64 and 256 experts of one width.

Tokens, experts per token and expert width stay the same, so the arithmetic does: what grows is overhead.
The megablocks backends are left out: without a GPU they run in Triton's interpreter, whose speed says nothing.

Shapes: T tokens, D width, E experts, F expert width, K experts per token.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from turns import ratio, take_turns

from strategies import Routing
from suite import backends

TOKENS, WIDTH, EXPERT_WIDTH, TOP_K = 2048, 128, 88, 4
COUNTS = (8, 64, 256)


def make_routing(experts: int) -> Routing:
    """Each token to the best of random scores; loads as uneven as those of a router left alone for a while."""
    draw = torch.Generator().manual_seed(0)
    scores_TE = torch.randn(TOKENS, experts, generator=draw) + 0.5 * torch.randn(experts, generator=draw)
    gates_TK, experts_TK = scores_TE.softmax(-1).topk(TOP_K)
    return Routing.top_k(experts_TK, gates_TK.requires_grad_())


def make_experts(backend: str, experts: int) -> Callable[[], torch.Tensor]:
    """A call that dispatches, computes, and leaves gradients of everything; it returns the output."""
    draw = torch.Generator().manual_seed(1)
    compute = backends.get(backend).load()
    routing = make_routing(experts)
    hidden_TD = torch.randn(TOKENS, WIDTH, generator=draw, requires_grad=True)
    w_in_EDF = (0.1 * torch.randn(experts, WIDTH, 2 * EXPERT_WIDTH, generator=draw)).requires_grad_()
    w_out_EFD = (0.1 * torch.randn(experts, EXPERT_WIDTH, WIDTH, generator=draw)).requires_grad_()
    grad_TD = torch.randn(TOKENS, WIDTH, generator=draw)

    def call() -> torch.Tensor:
        out_TD = compute(hidden_TD, backends.plan_dispatch(routing, experts), w_in_EDF, w_out_EFD)
        torch.autograd.grad(out_TD, (hidden_TD, w_in_EDF, w_out_EFD), grad_TD)
        return out_TD.detach()

    return call


@pytest.mark.benchmark(group="dispatch, 2048 tokens to 4 experts", max_time=0.5)
@pytest.mark.parametrize("experts", COUNTS)
def test_dispatch(benchmark: Any, experts: int) -> None:
    plan = benchmark(backends.plan_dispatch, make_routing(experts), experts)
    assert int(plan.load_E.sum()) == int(plan.ends_E[-1]) == TOKENS * TOP_K


@pytest.mark.parametrize("experts", COUNTS)
@pytest.mark.parametrize("backend", ["reference", "grouped"])
def test_experts(benchmark: Any, backend: str, experts: int) -> None:
    benchmark.group = f"experts forward and backward, {backend}"
    out_TD = benchmark.pedantic(make_experts(backend, experts), rounds=15, warmup_rounds=2)
    assert out_TD.shape == (TOKENS, WIDTH)
    assert bool(torch.isfinite(out_TD).all())


@pytest.mark.benchmark(group="experts in turns, 8 64 256")
def test_growth_of_experts(benchmark: Any) -> None:
    """Ratios of 64 and 256 experts to 8, timed in turns."""
    arms = {str(experts): make_experts("grouped", experts) for experts in COUNTS}
    seconds = take_turns(benchmark, arms, rounds=25)
    base = seconds[str(COUNTS[0])]
    benchmark.extra_info["ratios"] = {
        f"experts forward and backward, {experts} experts over {COUNTS[0]}": ratio(seconds[str(experts)], base)
        for experts in COUNTS[1:]
    }
    assert {len(make_routing(experts).expert_A) for experts in COUNTS} == {TOKENS * TOP_K}  # equal active compute
