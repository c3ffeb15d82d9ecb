"""Rules that solve for the batch in hand: BASE, Sinkhorn, BIP. Oracles: scipy's solvers and NumPy."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment, linprog
from strategy_lab import batch, best, chosen, layer, logits_of, route, sigmoid, softmax

from strategies.base import Base, assign_in_turn
from strategies.bip import Bip
from strategies.sinkhorn import Sinkhorn, log_plan


def loads(routing, num_experts):
    return np.bincount(routing.expert_A.numpy(), minlength=num_experts)


# BASE


def test_base_training_is_the_best_assignment_with_equal_loads():
    strategy = Base(layer(num_experts=8, top_k=1), Base.Config(centroid_init="normal"))
    hidden_TD, tokens_T = batch()
    hidden_TD += 1.0
    logits_TE = logits_of(strategy, hidden_TD)
    routing = route(strategy, hidden_TD, tokens_T)
    assert (loads(routing, 8) == 8).all()
    rows, columns = linear_sum_assignment(np.repeat(logits_TE, 8, axis=1), maximize=True)  # each expert as 8 seats
    ours = logits_TE[np.arange(64), routing.expert_A.numpy()].sum()
    assert ours == pytest.approx(np.repeat(logits_TE, 8, axis=1)[rows, columns].sum(), rel=1e-6)
    expected = sigmoid(logits_TE[np.arange(64), routing.expert_A.numpy()])  # the gate σ(h · w_e)
    assert routing.gate_A.detach().numpy() == pytest.approx(expected, rel=1e-5)


def test_base_inference_is_greedy():
    strategy = Base(layer(num_experts=8, top_k=2)).eval()
    hidden_TD, tokens_T = batch()
    logits_TE = logits_of(strategy, hidden_TD)
    routing = route(strategy, hidden_TD, tokens_T)
    assert (chosen(routing) == best(logits_TE, 2)).all()
    expected = sigmoid(np.take_along_axis(logits_TE, best(logits_TE, 2), 1))  # not normalised
    assert routing.gate_A.view(-1, 2).detach().numpy() == pytest.approx(expected, rel=1e-5)


def test_base_gate_trains_the_router_and_the_assignment_does_not():
    strategy = Base(layer(top_k=1))
    hidden_TD, tokens_T = batch()
    routing = route(strategy, hidden_TD, tokens_T)
    routing.gate_A.sum().backward()
    gates_A = routing.gate_A.detach()
    expected_ED = torch.zeros(8, 16).index_add(0, routing.expert_A, (gates_A * (1 - gates_A))[:, None] * hidden_TD)
    assert torch.allclose(strategy.router.weight_ED.grad, expected_ED, atol=1e-5)


@pytest.mark.parametrize("num_tokens", [64, 70])
@pytest.mark.parametrize("k", [2, 3, 8])
def test_base_rounds_give_distinct_experts_and_balance(num_tokens, k):
    values_TE = torch.randn(num_tokens, 8, generator=torch.Generator().manual_seed(3)) + torch.arange(8)
    experts_TK = assign_in_turn(values_TE, k)
    assert all(len(set(row)) == k for row in experts_TK.tolist())
    load_E = torch.bincount(experts_TK.reshape(-1), minlength=8)
    if num_tokens % 8 == 0:
        assert (load_E == num_tokens * k // 8).all()
    elif k < 8:
        assert load_E.max() - load_E.min() <= k


def test_base_second_round_is_the_best_of_what_the_first_left():
    values_TE = torch.randn(16, 4, generator=torch.Generator().manual_seed(4)).double()
    experts_TK = assign_in_turn(values_TE, 2).numpy()
    left_TE = values_TE.numpy().copy()
    left_TE[np.arange(16), experts_TK[:, 0]] = -1e6
    seats = np.repeat(left_TE, 4, axis=1)
    rows, columns = linear_sum_assignment(seats, maximize=True)
    assert left_TE[np.arange(16), experts_TK[:, 1]].sum() == pytest.approx(seats[rows, columns].sum())


@pytest.mark.parametrize("k", [1, 6])
def test_base_survives_scores_that_are_not_finite(k):
    values_TE = torch.randn(64, 8, generator=torch.Generator().manual_seed(5)) + torch.arange(8)
    values_TE[3], values_TE[4, 2], values_TE[5, 1] = torch.nan, torch.inf, -torch.inf
    experts_TK = assign_in_turn(values_TE, k)
    smallest = values_TE[values_TE.isfinite()].min()
    replaced_TE = torch.where(values_TE.isfinite(), values_TE, smallest)
    assert torch.equal(experts_TK, assign_in_turn(replaced_TE, k))
    assert all(len(set(row)) == k for row in experts_TK.tolist())
    assert (torch.bincount(experts_TK.reshape(-1), minlength=8) == 8 * k).all()
    assert (assign_in_turn(torch.full((8, 8), torch.nan), k).sort(dim=0).values[:, 0] == torch.arange(8)).all()


def test_base_needs_a_token_per_expert():
    strategy = Base(layer(num_experts=8))
    with pytest.raises(ValueError, match=r"base: 4 tokens in a micro-batch cannot be shared among 8 experts"):
        route(strategy, *batch(num_tokens=4), sequence_length=4)
    route(strategy.eval(), *batch(num_tokens=4), sequence_length=4)


# Sinkhorn


def plan(logits_TE, tolerance=1e-4):
    """S-BASE's iteration as Megatron runs it, in float64 and without rescaling."""
    cost = np.exp(logits_TE)
    d1 = np.ones(cost.shape[1])
    for _ in range(1000):
        d0 = 1 / len(cost) / ((d1 * cost).sum(1) + 1e-8)
        new = 1 / cost.shape[1] / ((d0[:, None] * cost).sum(0) + 1e-8)
        change, d1 = np.abs(new - d1).mean(), new
        if change < tolerance:
            return d1 * cost * d0[:, None]
    raise AssertionError("the oracle itself does not converge")


@pytest.mark.parametrize("top_k", [1, 2])
@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_sinkhorn_training_is_top_k_of_the_plan(top_k, temperature):
    strategy = Sinkhorn(layer(top_k=top_k), Sinkhorn.Config(temperature=temperature))
    hidden_TD, tokens_T = batch(num_tokens=256)
    hidden_TD += 0.5
    logits_TE = logits_of(strategy, hidden_TD)
    picks_TK = chosen(route(strategy, hidden_TD, tokens_T))
    agreement = (np.sort(picks_TK) == np.sort(best(plan(logits_TE / temperature), top_k))).all(axis=1).mean()
    assert agreement > 0.99  # the two may stop one iteration apart, which moves a token on an edge
    assert (np.sort(picks_TK) != np.sort(best(logits_TE, top_k))).any(axis=1).mean() > 0.1


def test_sinkhorn_plan_has_its_marginals():
    logits_TE = np.random.default_rng(0).normal(size=(128, 8)) + np.arange(8) / 4
    mass_TE = plan(logits_TE, 1e-6)
    assert mass_TE.sum(0) == pytest.approx(np.full(8, 1 / 8), rel=1e-4)
    assert mass_TE.sum(1) == pytest.approx(np.full(128, 1 / 128), rel=1e-4)


def test_sinkhorn_gates_are_the_layers_and_inference_is_plain_top_k():
    strategy = Sinkhorn(layer(score="softmax"))
    hidden_TD, tokens_T = batch()
    scores_TE = softmax(logits_of(strategy, hidden_TD))
    routing = route(strategy, hidden_TD, tokens_T)
    gates_TK = np.take_along_axis(scores_TE, chosen(routing), 1)
    expected = gates_TK / gates_TK.sum(1, keepdims=True)
    assert routing.gate_A.view(-1, 2).detach().numpy() == pytest.approx(expected, rel=1e-5)
    assert (chosen(route(strategy.eval(), hidden_TD, tokens_T)) == best(scores_TE, 2)).all()


def test_sinkhorn_survives_logits_that_overflow_exp_and_a_token_of_nan():
    strategy = Sinkhorn(layer())
    hidden_TD, tokens_T = batch()
    logits_TE = torch.from_numpy(logits_of(strategy, hidden_TD)).float()
    shifted_TE = log_plan(logits_TE + torch.arange(64)[:, None] * 10, 1e-4, 100)  # d0 absorbs a token's constant
    assert (best(shifted_TE.numpy(), 2) == best(log_plan(logits_TE, 1e-4, 100).numpy(), 2)).all()
    hidden_TD[7] = torch.nan
    routing = route(strategy, hidden_TD, tokens_T)
    others = [a for a in range(128) if routing.token_A[a] != 7]
    assert routing.gate_A[others].isfinite().all()
    assert np.bincount(chosen(routing).ravel(), minlength=8).max() < 32


# BIP


def prices(scores_TE, price_E, k, iterations):
    num_tokens, num_experts = scores_TE.shape
    for _ in range(iterations):
        p_T = np.maximum(0, np.sort(scores_TE - price_E, axis=1)[:, -(k + 1)])
        price_E = np.maximum(0, np.sort(scores_TE - p_T[:, None], axis=0)[-(k * num_tokens // num_experts + 1)])
    return price_E


@pytest.mark.parametrize("iterations", [1, 4])
@pytest.mark.parametrize("num_tokens", [64, 80])
def test_bip_chooses_by_the_prices_of_its_own_batch(iterations, num_tokens):
    strategy = Bip(layer(num_experts=6, top_k=2), Bip.Config(iterations=iterations))
    strategy.price_E += torch.linspace(0, 0.1, 6)
    hidden_TD, tokens_T = batch(num_tokens=num_tokens)
    scores_TE = sigmoid(logits_of(strategy, hidden_TD))
    price_E = prices(scores_TE, np.linspace(0, 0.1, 6), 2, iterations)
    routing = route(strategy, hidden_TD, tokens_T)
    left_TE = scores_TE - price_E  # prices put some tokens exactly between two experts, so values are compared
    left_TK = np.take_along_axis(left_TE, chosen(routing), 1)
    assert left_TK == pytest.approx(np.take_along_axis(left_TE, best(left_TE, 2), 1), abs=1e-6)
    assert (chosen(routing) != best(scores_TE, 2)).any()
    gates_TK = np.take_along_axis(scores_TE, chosen(routing), 1)
    expected = gates_TK / gates_TK.sum(1, keepdims=True)  # prices never enter a gate
    assert routing.gate_A.view(-1, 2).detach().numpy() == pytest.approx(expected, rel=1e-5)


def test_bip_reaches_the_value_of_its_linear_program():
    """max Σ s x, Σ_j x ≤ k, Σ_i x ≤ kT/E, 0 ≤ x ≤ 1, by HiGHS: the dual prices bound it and come near."""
    strategy = Bip(layer(num_experts=4, top_k=2), Bip.Config(iterations=64))
    hidden_TD, tokens_T = batch(num_tokens=40)
    hidden_TD += 0.5
    scores_TE = sigmoid(logits_of(strategy, hidden_TD))
    rows = np.kron(np.eye(40), np.ones((1, 4)))
    columns = np.kron(np.ones((1, 40)), np.eye(4))
    optimum = -linprog(
        -scores_TE.ravel(), np.vstack([rows, columns]), np.r_[np.full(40, 2), np.full(4, 20)], bounds=(0, 1)
    ).fun
    picks_TK = chosen(route(strategy, hidden_TD, tokens_T))
    value = np.take_along_axis(scores_TE, picks_TK, 1).sum()
    assert np.bincount(picks_TK.ravel(), minlength=4).max() <= 22
    assert value == pytest.approx(optimum, rel=0.01)


def test_bip_keeps_one_pooled_dual_iteration_for_inference():
    strategy = Bip(layer(num_experts=8, top_k=2))
    old_E = np.linspace(0, 0.1, 8)
    strategy.price_E += torch.tensor(old_E, dtype=torch.float32)
    hidden_TD, tokens_T = batch(num_tokens=4096)
    scores_TE = sigmoid(logits_of(strategy, hidden_TD))
    pooled = sum(
        route(strategy, h, t).pooled["seen_EN"]
        for h, t in zip(hidden_TD.chunk(4), tokens_T.chunk(4), strict=True)  # the same whatever the split
    )
    strategy.rebalance(torch.zeros(8), {"seen_EN": pooled})
    expected_E = prices(scores_TE, old_E, 2, 1)
    assert strategy.price_E.numpy() == pytest.approx(expected_E, abs=1.2e-3)  # a bin is 1/1000
    assert strategy.selection_bias().tolist() == (-strategy.price_E).tolist()
    inferred = chosen(route(strategy.eval(), hidden_TD, tokens_T))
    assert (inferred == best(scores_TE - strategy.price_E.numpy(), 2)).all()


@pytest.mark.parametrize(
    ("cls", "values", "words"),
    [
        (Sinkhorn, {"temperature": 0.0}, "temperature: 0.0 is impossible"),
        (Sinkhorn, {"max_iterations": 0}, "max_iterations: 0 is impossible"),
        (Bip, {"iterations": 0}, "iterations: 0 is impossible"),
    ],
)
def test_impossible_values_are_refused(cls, values, words):
    with pytest.raises(ValueError, match=words):
        cls.Config(**values)


def test_bip_needs_an_expert_to_leave_out():
    with pytest.raises(ValueError, match=r"bip: top_k = 4 leaves no expert out"):
        Bip(layer(num_experts=4, top_k=4))
