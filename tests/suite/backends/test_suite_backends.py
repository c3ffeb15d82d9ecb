"""Every backend against a few lines of loops: outputs and all gradients, for balanced, skewed, empty and odd loads."""

from __future__ import annotations

import math

import pytest
import torch

from strategies import Routing
from suite import backends

WIDTH, HIDDEN = 16, 8


def naive(hidden, token_A, expert_A, gate_A, w_in, w_out):
    """One assignment at a time, in float64."""
    out = torch.zeros_like(hidden)
    for token, expert, gate in zip(token_A.tolist(), expert_A.tolist(), gate_A, strict=True):
        a, b = (hidden[token] @ w_in[expert]).chunk(2)
        out[token] = out[token] + gate * ((a * torch.sigmoid(a) * b) @ w_out[expert])
    return out


def top_k_routing(tokens: int, experts: int, k: int, load: str) -> Routing:
    generator = torch.Generator().manual_seed(3)
    scores = torch.rand(tokens, experts, generator=generator)
    if load == "skewed":
        scores[:, 0] += 10
    if load == "single":
        scores[:, :k] += 10
    if load == "empty":
        scores[:, experts // 2 :] -= 10
    experts_TK = scores.topk(k).indices
    return Routing.top_k(experts_TK, torch.rand(tokens, k, generator=generator))


def free_routing(tokens: int, experts: int) -> Routing:
    """A variable number of experts per token, none for some, in no order."""
    generator = torch.Generator().manual_seed(4)
    token_A = torch.randint(tokens, (2 * tokens,), generator=generator)
    expert_A = torch.randint(experts, (2 * tokens,), generator=generator)
    return Routing(token_A, expert_A, torch.rand(2 * tokens, generator=generator))


CASES = [
    *(
        pytest.param(lambda load=load: (top_k_routing(24, 6, 2, load), 6), id=load)
        for load in ("even", "skewed", "single", "empty")
    ),
    pytest.param(lambda: (top_k_routing(24, 6, 1, "even"), 6), id="top-1"),
    pytest.param(lambda: (top_k_routing(1, 6, 2, "even"), 6), id="one token"),
    pytest.param(lambda: (top_k_routing(24, 300, 4, "even"), 300), id="300 experts"),
    pytest.param(lambda: (free_routing(24, 6), 6), id="variable k"),
]


@pytest.mark.parametrize("name", ["reference", "grouped"])
@pytest.mark.parametrize("case", CASES)
def test_outputs_and_gradients_equal_one_assignment_at_a_time(name, case):
    routing, experts = case()
    tokens = int(routing.token_A.max()) + 1
    tokens = max(tokens, 24 if experts != 300 and len(routing.token_A) > 2 else tokens)
    generator = torch.Generator().manual_seed(5)
    shapes = ((tokens, WIDTH), (experts, WIDTH, 2 * HIDDEN), (experts, HIDDEN, WIDTH))
    values = [torch.randn(shape, generator=generator) / math.sqrt(WIDTH) for shape in shapes]
    weights = torch.randn(tokens, WIDTH, generator=generator)  # a loss whose gradient is not constant

    mine = [value.clone().requires_grad_() for value in values]
    gate = routing.gate_A.clone().requires_grad_()
    plan = backends.plan_dispatch(Routing(routing.token_A, routing.expert_A, gate, routing.per_token), experts)
    out = backends.get(name).load()(mine[0], plan, mine[1], mine[2])
    (out * weights).sum().backward()

    exact = [value.double().requires_grad_() for value in values]
    exact_gate = routing.gate_A.double().requires_grad_()
    expected = naive(exact[0], routing.token_A, routing.expert_A, exact_gate, exact[1], exact[2])
    (expected * weights).sum().backward()

    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-6)
    for got, want in zip([*mine, gate], [*exact, exact_gate], strict=True):
        torch.testing.assert_close(got.grad.double(), want.grad, rtol=1e-4, atol=1e-5)


def test_load_counts_every_assignment_once():
    routing, experts = free_routing(50, 6), 6
    plan = backends.plan_dispatch(routing, experts)
    counts = [0] * experts
    for expert in routing.expert_A.tolist():
        counts[expert] += 1
    assert plan.load_E.tolist() == counts
    assert plan.ends_E.tolist() == [sum(counts[: i + 1]) for i in range(experts)]


def test_an_unknown_backend_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'grouped'"):
        backends.get("groupd")


def test_more_experts_than_small_integers_have_names_for():
    """By hand: assignments in the order of their experts, 5, 100, 33000, 39999."""
    expert_A = torch.tensor([5, 39_999, 100, 33_000])
    routing = Routing(torch.arange(4), expert_A, torch.ones(4), 1)
    plan = backends.plan_dispatch(routing, 40_000)
    assert plan.order_A.tolist() == [0, 2, 3, 1]
    assert plan.token_A.tolist() == [0, 2, 3, 1]
