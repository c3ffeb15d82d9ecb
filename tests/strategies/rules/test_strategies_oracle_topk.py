"""Oracles of the plain router: logits, score functions, top-k, gates; of the control and of the dense twin."""

import numpy as np
import pytest
import torch
from oracle_lab import SCORES, SIZES, best, build, draw, gated, gates_of, route, scores_of, slope

from strategies import registry
from strategies.framework.contract import LayerSpec, RouteContext


def test_logits_are_the_product_with_the_transposed_weight():
    """STRATEGIES §1, HF afmoe [P]: logits in float32, one row of the weight per expert."""
    strategy = registry.build(registry.get("none"), LayerSpec(width=24, num_experts=16, top_k=2, vocab_size=9))
    (weight,) = strategy.parameters()
    hidden = torch.tensor(np.random.default_rng(0).normal(size=(12, 24)), dtype=torch.float32)
    expected = hidden.double().numpy() @ weight.detach().double().numpy().T
    routing = strategy(hidden, torch.zeros(12, dtype=torch.int64), RouteContext(sequence_length=12))
    np.testing.assert_allclose(routing.logits_TE.detach().numpy(), expected, rtol=1e-5, atol=1e-6)
    rounded = hidden.bfloat16()
    routing = strategy(rounded, torch.zeros(12, dtype=torch.int64), RouteContext(sequence_length=12))
    expected = rounded.double().numpy() @ weight.detach().double().numpy().T
    assert routing.logits_TE.dtype == torch.float32
    np.testing.assert_allclose(routing.logits_TE.detach().numpy(), expected, rtol=1e-5, atol=1e-6)


def test_initial_weights_have_the_layers_standard_deviation():
    """Contract: `router_std`, 0.02 unless told. 64 × 256 draws: standard error of the estimate 0.55 %."""
    for std in (0.02, 0.006):
        spec = LayerSpec(width=256, num_experts=64, top_k=2, vocab_size=9, router_std=std)
        (weight,) = registry.build(registry.get("none"), spec).parameters()
        assert weight.shape == (64, 256)
        assert abs(weight.detach().numpy().std() / std - 1) < 0.03
        assert abs(weight.detach().numpy().mean()) < 0.03 * std


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("sigmoid", [0.5, 0.75, 0.25]),  # 1/(1 + e^0), 1/(1 + 1/3), 1/(1 + 3)
        ("softmax", [3 / 13, 9 / 13, 1 / 13]),  # 1 : 3 : 1/3 = 3 : 9 : 1
        ("sqrt_softplus", [0.832554611, 1.177410023, 0.536360021]),  # √ln 2, √ln 4, √ln(4/3)
    ],
)
def test_score_functions_by_hand(function, expected):
    """Logits 0, ln 3, −ln 3. Sigmoid and √softplus: STRATEGIES §2; softmax: §3."""
    strategy = build("none", 3, 1, score=function)
    routing, _ = route(strategy, [[0.0, np.log(3), -np.log(3)]])
    np.testing.assert_allclose(routing.scores_TE.detach().numpy(), [expected], rtol=1e-5)
    assert routing.expert_A.tolist() == [1]
    np.testing.assert_allclose(routing.gate_A.detach().numpy(), [expected[1]], rtol=1e-5)  # K = 1: not normalised


@pytest.mark.parametrize("function", SCORES)
@pytest.mark.parametrize(("experts", "k"), SIZES)
def test_top_k_and_gates(experts, k, function):
    """STRATEGIES §1 [P]: gate = chosen score / Σ chosen scores × route_scale; §10.1: never normalised for k = 1."""
    logits = draw(40, experts, seed=experts + k)
    scores = scores_of(logits, function)
    for normalize in (True, False):
        strategy = build("none", experts, k, score=function, normalize=normalize, scale=2.448)
        routing, _ = route(strategy, logits)
        expected = gated(scores, best(logits, k), normalize=normalize and k > 1, scale=2.448)
        np.testing.assert_allclose(gates_of(routing, 40, experts), expected, rtol=2e-5, atol=1e-7)
        np.testing.assert_allclose(routing.scores_TE.detach().numpy(), scores, rtol=2e-5, atol=1e-7)
        assert routing.per_token == k
        assert routing.losses == {}


@pytest.mark.parametrize("function", SCORES)
@pytest.mark.parametrize("k", [1, 3])
def test_gradient_of_the_gates(k, function):
    """d(Σ w · gate)/d logits against central differences of the NumPy gates, the choice held fixed."""
    logits = draw(5, 6, seed=k)
    weight = np.random.default_rng(1).normal(size=(5, 6))
    mask = best(logits, k)
    routing, hidden = route(build("none", 6, k, score=function), logits)
    (torch.tensor(weight)[routing.token_A, routing.expert_A] * routing.gate_A).sum().backward()

    def task(x):
        return np.nansum(weight * gated(scores_of(x, function), mask, normalize=k > 1))

    np.testing.assert_allclose(hidden.grad.numpy(), slope(task, logits), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", sorted(set(registry.available()) - {"dense"}))
def test_the_layers_scale_multiplies_every_gate(name):
    """STRATEGIES §1 [P]: gate × route_scale (Trinity's 2.448); the same choice, the same for every rule."""
    counts = torch.arange(1.0, 41.0)
    plain, scaled = (
        gates_of(route(build(name, 8, 2, scale=scale, counts=counts), draw(16, 8))[0], 16, 8) for scale in (1.0, 2.448)
    )
    np.testing.assert_allclose(scaled, 2.448 * plain, rtol=1e-6)


@pytest.mark.parametrize(("experts", "k"), [(4, 1), (16, 4), (64, 8)])
def test_dense_sends_every_token_to_all_of_its_experts(experts, k):
    """STRATEGIES' roster: equal active FLOPs, so K experts with gate 1 for every token, in training and at eval."""
    spec = LayerSpec(width=8, num_experts=experts, top_k=k, vocab_size=9)
    cls = registry.get("dense")
    assert cls.experts_to_build(spec) == k
    strategy = registry.build(cls, spec)
    assert list(strategy.parameters()) == []
    for mode in (True, False):
        strategy.train(mode)
        routing = strategy(torch.randn(7, 8), torch.zeros(7, dtype=torch.int64), RouteContext(sequence_length=7))
        np.testing.assert_array_equal(gates_of(routing, 7, k), np.ones((7, k)))
