"""Oracles of the rules that solve an assignment over the batch: BASE and Sinkhorn."""

from itertools import combinations

import numpy as np
import pytest
import torch
from oracle_lab import SCORES, assert_best, best, build, chosen_of, draw, gated, gates_of, route, scores_of
from scipy.optimize import linear_sum_assignment

from strategies import registry
from strategies.assignment import balanced_assignment
from strategies.framework.contract import LayerSpec


def optimal(values_TE, capacity_E):
    """The best assignment by scipy on the matrix with one column per place."""
    columns = np.repeat(np.arange(values_TE.shape[1]), capacity_E)
    rows, places = linear_sum_assignment(values_TE[:, columns], maximize=True)
    return columns[places][np.argsort(rows)]


def optimal_any_extra(values_TE):
    """T not divisible by E: the best over every choice of experts that take one token more."""
    tokens, experts = values_TE.shape
    candidates = []
    for extra in combinations(range(experts), tokens % experts):
        capacity = np.full(experts, tokens // experts)
        capacity[list(extra)] += 1
        chosen = optimal(values_TE, capacity)
        candidates.append((values_TE[np.arange(tokens), chosen].sum(), chosen))
    return max(candidates, key=lambda candidate: candidate[0])[1]


def test_base_by_hand():
    """STRATEGIES §5: both tokens score expert 0 higher; one has to leave it, and it is the one that loses less.

    Scores (3, 1) and (2, 1.5): 3 + 1.5 = 4.5 beats 1 + 2 = 3, so token 1 goes to expert 1 with gate σ(1.5).
    At eval both take expert 0, with gates σ(3) = .9525741 and σ(2) = .8807971.
    """
    strategy = build("base", 2, 1)
    routing, _ = route(strategy, [[3.0, 1.0], [2.0, 1.5]])
    np.testing.assert_allclose(gates_of(routing, 2, 2), [[0.9525741, np.nan], [np.nan, 0.8175745]], rtol=1e-6)
    routing, _ = route(strategy.eval(), [[3.0, 1.0], [2.0, 1.5]])
    np.testing.assert_allclose(gates_of(routing, 2, 2), [[0.9525741, np.nan], [0.8807971, np.nan]], rtol=1e-6)


@pytest.mark.parametrize("function", SCORES)
@pytest.mark.parametrize("experts", [4, 16, 64])
def test_base_training_is_the_optimal_assignment(experts, function):
    """STRATEGIES §5, fairseq [P]: every expert T/E tokens, the largest Σ h · w_e; gate the token's own score."""
    tokens = 4 * experts
    logits = draw(tokens, experts, seed=experts, skew=2)
    expected = np.zeros((tokens, experts), dtype=bool)
    expected[np.arange(tokens), optimal(logits.astype(np.float64), np.full(experts, 4))] = True
    routing, _ = route(build("base", experts, 1, score=function), logits)
    found = gates_of(routing, tokens, experts)
    np.testing.assert_array_equal(~np.isnan(found), expected)
    np.testing.assert_allclose(found, gated(scores_of(logits, function), expected, normalize=False), rtol=2e-5)


def test_base_maximises_scores_not_gates():
    """STRATEGIES §5: the sum of h · w_e, before σ; four tokens where the two optima differ.

    Scores (9, 6), (1, −1), each twice; two tokens must take expert 1. By h · w_e a (9, 6) token loses 3 there, a
    (1, −1) token 2, so the second pair goes. By σ the losses would be .0024 and .462, and the first pair would go.
    """
    routing, _ = route(build("base", 2, 1), [[9.0, 6.0], [9.0, 6.0], [1.0, -1.0], [1.0, -1.0]])
    assert routing.expert_A.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("tokens", [5, 7, 10, 23])
def test_base_when_tokens_do_not_divide(tokens):
    """Documented: T // E each, and one more for the T mod E experts that gain most by it."""
    logits = draw(tokens, 4, seed=tokens, skew=2)
    routing, _ = route(build("base", 4, 1), logits)
    assert routing.expert_A.tolist() == optimal_any_extra(logits.astype(np.float64)).tolist()


@pytest.mark.parametrize(("experts", "k"), [(4, 2), (16, 2), (16, 4), (64, 8)])
def test_base_with_several_experts_per_token(experts, k):
    """Documented generalisation: K assignments in turn, each without the experts a token already has; gates σ(s)."""
    tokens = 2 * experts
    logits = draw(tokens, experts, seed=experts + k, skew=2).astype(np.float64)
    taken = np.zeros((tokens, experts), dtype=bool)
    for _ in range(k):
        chosen = optimal(np.where(taken, -1e6, logits), np.full(experts, 2))
        assert not taken[np.arange(tokens), chosen].any()
        taken[np.arange(tokens), chosen] = True
    strategy = build("base", experts, k)
    found = gates_of(route(strategy, logits)[0], tokens, experts)
    scores = scores_of(logits, "sigmoid")
    np.testing.assert_allclose(found, gated(scores, taken, normalize=False), rtol=2e-5)
    found = gates_of(route(strategy.eval(), logits)[0], tokens, experts)
    np.testing.assert_allclose(found, gated(scores, best(logits, k), normalize=False), rtol=2e-5)


def test_base_gate_is_the_only_path_to_the_router():
    """STRATEGIES §5: no gradient through the assignment: d gate/d logits is σ(1 − σ) at the chosen entry, else 0."""
    logits = draw(8, 4, seed=1)
    routing, hidden = route(build("base", 4, 1), logits)
    routing.gate_A.sum().backward()
    sigma = scores_of(logits, "sigmoid")
    expected = np.where(chosen_of(routing, 8, 4), sigma * (1 - sigma), 0)
    np.testing.assert_allclose(hidden.grad.numpy(), expected, rtol=1e-4, atol=1e-7)


def test_base_takes_broken_scores_for_the_smallest_finite_one():
    """STRATEGIES §5, fairseq [P]: one token is NaN; its row counts as the smallest finite score everywhere."""
    logits = draw(16, 4, seed=2, skew=2)
    logits[5] = np.nan
    repaired = np.where(np.isnan(logits), np.nanmin(logits), logits).astype(np.float64)
    expected = optimal(repaired, np.full(4, 4))
    assert route(build("base", 4, 1), logits)[0].expert_A.tolist() == expected.tolist()


def test_base_centroids_are_orthogonal():
    """STRATEGIES §5, fairseq [P]: centroids orthogonal with gain 0.1: W Wᵀ = 0.01 · I."""
    for name in ("base", "stable_moe"):
        spec = LayerSpec(width=32, num_experts=16, top_k=1, vocab_size=9)
        weight = dict(registry.build(registry.get(name), spec).named_parameters())["router.weight_ED"]
        weight = weight.detach().double().numpy()
        np.testing.assert_allclose(weight @ weight.T, 0.01 * np.eye(16), atol=1e-7)


@pytest.mark.parametrize(("tokens", "experts"), [(24, 4), (96, 16), (160, 40)])
def test_balanced_assignment_is_optimal(tokens, experts):
    """The solver alone, with equal and with given capacities: total score as scipy's on the expanded matrix."""
    rng = np.random.default_rng(tokens)
    values = rng.normal(size=(tokens, experts)).astype(np.float32)
    capacity = rng.multinomial(tokens, rng.dirichlet(np.full(experts, 0.5)))
    for given in (None, capacity):
        expected = optimal(values.astype(np.float64), np.full(experts, tokens // experts) if given is None else given)
        found = balanced_assignment(torch.tensor(values), None if given is None else torch.tensor(given)).numpy()
        assert np.bincount(found, minlength=experts).tolist() == np.bincount(expected, minlength=experts).tolist()
        rows = np.arange(tokens)
        assert values[rows, found].sum(dtype=np.float64) == pytest.approx(
            values[rows, expected].sum(dtype=np.float64), abs=1e-5
        )


def plan(logits_TE, temperature, tolerance=1e-4, limit=100):
    """STRATEGIES §5, Megatron's `sinkhorn` [P]: d1 · exp(logits) · d0 once d1 moves by less than the tolerance."""
    cost = np.exp(logits_TE.astype(np.float64) / temperature)
    tokens, experts = cost.shape
    d1 = np.ones(experts)
    for _ in range(limit):
        d0 = (1 / tokens) / ((d1 * cost).sum(1) + 1e-8)
        moved = (1 / experts) / ((d0[:, None] * cost).sum(0) + 1e-8)
        change, d1 = np.abs(moved - d1).mean(), moved
        if change < tolerance:
            break
    return d1 * cost * d0[:, None]


@pytest.mark.parametrize("temperature", [0.3, 1.0, 3.0])
@pytest.mark.parametrize(("experts", "k"), [(4, 1), (16, 2), (64, 4), (256, 8)])
def test_sinkhorn_training_chooses_by_the_plan(experts, k, temperature):
    """STRATEGIES §5: top-k of the plan in training, of the scores at eval; gates are the layer's own in both."""
    logits = min(1, temperature) * draw(4 * experts, experts, seed=experts + k, skew=2)
    transported = plan(logits, temperature)
    strategy = build("sinkhorn", experts, k, temperature=temperature)
    found = gates_of(route(strategy, logits)[0], 4 * experts, experts)
    relative = temperature * np.log(transported / transported.max(1, keepdims=True))
    assert_best(~np.isnan(found), relative, k, slack=1e-4)
    assert (~np.isnan(found) != best(logits, k)).any()
    scores = scores_of(logits, "sigmoid")
    np.testing.assert_allclose(found, gated(scores, ~np.isnan(found), normalize=k > 1), rtol=2e-5, atol=1e-7)
    found = gates_of(route(strategy.eval(), logits)[0], 4 * experts, experts)
    np.testing.assert_allclose(found, gated(scores, best(logits, k), normalize=k > 1), rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_sinkhorn_stops_at_its_limit(limit):
    """The iteration in order: tokens first, then experts, `max_iterations` times, from d1 = 1."""
    logits = draw(64, 8, seed=limit, skew=3)
    transported = plan(logits, 0.5, tolerance=0, limit=limit)
    strategy = build("sinkhorn", 8, 1, temperature=0.5, tolerance=1e-30, max_iterations=limit)
    mask = chosen_of(route(strategy, logits)[0], 64, 8)
    assert_best(mask, np.log(transported), 1, slack=1e-4)
    assert (mask != best(np.log(plan(logits, 0.5, tolerance=1e-9, limit=1000)), 1)).any()


def test_sinkhorn_by_hand():
    """Two tokens, two experts, exp(logits) = (8 2), (4 2): both prefer expert 0.

    A balanced plan has x₀₀ x₁₁ / (x₀₁ x₁₀) = 8 · 2/(2 · 4) = 2 and both margins ½: x₀₀ = x₁₁ = a, the rest ½ − a,
    a² = 2 (½ − a)², a = ½ √2/(1 + √2) = .2929 > ¼. So token 0 takes expert 0 and token 1 expert 1.
    """
    routing, _ = route(build("sinkhorn", 2, 1, tolerance=1e-7), np.log([[8.0, 2.0], [4.0, 2.0]]))
    assert routing.expert_A.tolist() == [0, 1]


def test_sinkhorn_has_no_gradient_through_the_plan():
    """STRATEGIES §5 [P]: the choice is a constant; d gate/d logits is σ(1 − σ) at the chosen entry, else 0."""
    logits = draw(12, 4, seed=3, skew=2)
    routing, hidden = route(build("sinkhorn", 4, 1), logits)
    routing.gate_A.sum().backward()
    sigma = scores_of(logits, "sigmoid")
    expected = np.where(chosen_of(routing, 12, 4), sigma * (1 - sigma), 0)
    np.testing.assert_allclose(hidden.grad.numpy(), expected, rtol=1e-4, atol=1e-7)
