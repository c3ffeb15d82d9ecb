"""Oracles of the rules with any number of experts per token: expert choice, expert threshold, ReMoE."""

import numpy as np
import pytest
import torch
from oracle_lab import SCORES, best, build, draw, gated, gates_of, route, scores_of, sigmoid, slope

SHAPES = [(4, 1), (16, 2), (64, 4), (64, 8), (256, 8)]
BIN = 1e-3


def columns_best(values_TE, count):
    return best(values_TE.T, count).T


def heights_of(logits, function):
    """Documented: σ(logit); for softmax scores p, σ(log E·p) = E·p/(1 + E·p)."""
    if function != "softmax":
        return sigmoid(logits)
    scaled = logits.shape[1] * scores_of(logits, function)
    return scaled / (1 + scaled)


def step(strategy, parts):
    """One optimizer step over micro-batches, sums added up as the engine does."""
    pooled, load = {}, 0
    for part in parts:
        routing, _ = route(strategy, part)
        load = load + torch.bincount(routing.expert_A, minlength=part.shape[1]).float()
        for key, value in routing.pooled.items():
            pooled[key] = pooled.get(key, 0) + value
    strategy.rebalance(load, pooled)


def assert_passing(routing, logits, function, threshold, scale=1.0):
    """Token t goes to expert j iff its height is above c_j; gates are the scores."""
    heights = heights_of(logits, function)
    found = gates_of(routing, *logits.shape)
    settled = np.abs(heights - threshold) > 1e-6
    np.testing.assert_array_equal((~np.isnan(found))[settled], (heights > threshold)[settled])
    expected = gated(scores_of(logits, function), ~np.isnan(found), normalize=False, scale=scale)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-7)


def test_expert_choice_by_hand():
    """STRATEGIES §7: four tokens, two experts, K = 1: C = 2. Expert 0 takes tokens 0, 1; expert 1 tokens 0, 2.

    Token 0 has two experts, token 3 none.
    """
    logits = np.log([[4.0, 3.0], [3.0, 1.0], [2.0, 2.0], [1.0, 0.5]])  # σ(log a) = a/(1 + a)
    routing, _ = route(build("expert_choice", 2, 1), logits)
    expected = [[0.8, 0.75], [0.75, np.nan], [np.nan, 2 / 3], [np.nan, np.nan]]
    np.testing.assert_allclose(gates_of(routing, 4, 2), expected, rtol=1e-6)
    assert routing.per_token is None


@pytest.mark.parametrize("function", SCORES)
@pytest.mark.parametrize("factor", [0.75, 1.0, 2.0])
@pytest.mark.parametrize(("experts", "k"), SHAPES)
def test_expert_choice_training(experts, k, factor, function):
    """STRATEGIES §7, 2202.09368: each expert takes its top cf · kT/E tokens of the micro-batch; gates are scores."""
    tokens = 2 * experts
    logits = draw(tokens, experts, seed=experts + k, skew=2)
    strategy = build("expert_choice", experts, k, capacity_factor=factor, score=function, scale=1.5)
    routing, _ = route(strategy, logits)
    scores = scores_of(logits, function)
    mask = columns_best(scores, int(factor * tokens * k / experts))
    expected = gated(scores, mask, normalize=False, scale=1.5)
    np.testing.assert_allclose(gates_of(routing, tokens, experts), expected, rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["expert_choice", "expert_threshold"])
@pytest.mark.parametrize("function", SCORES)
@pytest.mark.parametrize(("experts", "k"), [(4, 1), (16, 2), (64, 8)])
def test_thresholds_over_steps(name, experts, k, function):
    """STRATEGIES §7, 2603.11535 [S]: c_j is the moving average of what a share K/E of the global batch passes.

    Four steps of three micro-batches each; the first step sets c. Exact quantiles within the histogram's bins of
    1/1000. Tokens that lie close together make the quantile itself uncertain by less than that.
    """
    strategy, expected = build(name, experts, k, score=function, ema=0.6), None
    for at in range(4):
        logits = draw(3000, experts, seed=at, skew=0) + draw(1, experts, seed=96)
        exact = np.quantile(heights_of(logits, function), 1 - k / experts, axis=0)
        expected = exact if expected is None else 0.6 * expected + 0.4 * exact
        step(strategy, np.split(logits, [700, 1900]))
        found = strategy.threshold_E.double().numpy()
        np.testing.assert_allclose(found, expected, atol=2.5 * BIN)
        assert_passing(route(strategy.eval(), logits)[0], logits, function, found)
        strategy.train()


@pytest.mark.parametrize("function", SCORES)
def test_expert_threshold_routes_by_the_threshold_in_training(function):
    """STRATEGIES §7: z_ij = 1[r_ij > c_j], no capacity, gates the scores; about K per token on such data."""
    strategy = build("expert_threshold", 16, 2, score=function, scale=1.5)
    logits = [draw(2000, 16, seed=at) for at in range(2)]
    step(strategy, logits[:1])
    routing, _ = route(strategy, logits[0])
    assert_passing(routing, logits[0], function, strategy.threshold_E.double().numpy(), scale=1.5)
    assert len(routing.token_A) / 2000 == pytest.approx(2, abs=0.1)
    load = np.bincount(routing.expert_A.numpy(), minlength=16)
    assert load.max() / load.mean() - 1 < 0.1
    routing, _ = route(strategy, logits[1])
    assert_passing(routing, logits[1], function, strategy.threshold_E.double().numpy(), scale=1.5)
    assert len(set(np.bincount(routing.token_A.numpy(), minlength=2000).tolist())) > 2


@pytest.mark.parametrize("name", ["expert_choice", "expert_threshold"])
def test_before_the_first_step_the_k_best_are_chosen(name):
    """Documented: without a learned threshold, inference (and threshold training) takes each token's K best."""
    logits = draw(32, 16, seed=3)
    expected = gated(sigmoid(logits), best(logits, 4), normalize=False)
    strategy = build(name, 16, 4)
    found = [gates_of(route(strategy.eval(), logits)[0], 32, 16)]
    if name == "expert_threshold":
        found.append(gates_of(route(strategy.train(), logits)[0], 32, 16))
    for table in found:
        np.testing.assert_allclose(table, expected, rtol=2e-5)


def test_expert_choice_inference_by_top_k():
    """Documented alternative: a decoder takes each token's K best, whatever was learned."""
    strategy = build("expert_choice", 16, 2, inference="top_k")
    logits = draw(500, 16, seed=4)
    step(strategy, [logits])
    expected = gated(sigmoid(logits), best(logits, 2), normalize=False)
    np.testing.assert_allclose(gates_of(route(strategy.eval(), logits)[0], 500, 16), expected, rtol=2e-5)


def test_expert_threshold_warms_up_by_expert_choice():
    """STRATEGIES §7: EC warm-up for the first part of training, then thresholds, learned meanwhile."""
    strategy = build("expert_threshold", 8, 2, warmup=0.3)
    logits = draw(64, 8, seed=5)
    for progress in (0.0, 0.1, 0.29):
        strategy.schedule(progress)
        found = gates_of(route(strategy, logits)[0], 64, 8)
        expected = gated(sigmoid(logits), columns_best(logits, 16), normalize=False)
        np.testing.assert_allclose(found, expected, rtol=2e-5)
        step(strategy, [logits])
    strategy.schedule(0.3)
    other = draw(64, 8, seed=6)
    assert_passing(route(strategy, other)[0], other, "sigmoid", strategy.threshold_E.double().numpy())


def relu_loss(logits, k, mask=None):
    """STRATEGIES §7, official code [P], without λ: E/(k T²) Σ_j n_j Σ_i r_ij."""
    active = logits > 0 if mask is None else mask
    relu = np.where(active, logits, 0.0)
    return logits.shape[1] / (k * len(logits) ** 2) * (active.sum(0) * relu.sum(0)).sum()


def test_remoe_by_hand():
    """STRATEGIES §7: two tokens, two experts, k = 1; logits (2, −1), (1, 3): n = (2, 1), Σ r = (3, 3).

    L = λ · 2/(1 · 4) · (2 · 3 + 1 · 3) = 4.5 λ. Three of four pairs active: sparsity ¼ < ½, so λ grows by 1.2.
    """
    strategy = build("remoe", 2, 1, coefficient=0.1)
    routing, _ = route(strategy, [[2.0, -1.0], [1.0, 3.0]])
    np.testing.assert_allclose(gates_of(routing, 2, 2), [[2, np.nan], [1, 3]])
    assert routing.losses["sparsity"].item() == pytest.approx(0.45)
    step(strategy, [np.array([[2.0, -1.0], [1.0, 3.0]])])
    routing, _ = route(strategy, [[2.0, -1.0], [1.0, 3.0]])
    assert routing.losses["sparsity"].item() == pytest.approx(0.54)
    step(strategy, [np.array([[2.0, -1.0], [-1.0, 3.0]])])  # sparsity ½ is not less than 1 − 1/2: back to 0.1
    routing, _ = route(strategy, [[2.0, -1.0], [1.0, 3.0]])
    assert routing.losses["sparsity"].item() == pytest.approx(0.45)


@pytest.mark.parametrize(("experts", "k"), SHAPES)
def test_remoe(experts, k):
    """STRATEGIES §7: every positive logit is an assignment with itself as gate; the penalty; the same at eval."""
    logits = draw(40, experts, seed=experts + k, skew=2)
    strategy = build("remoe", experts, k, coefficient=0.3)
    expected = np.where(logits > 0, logits, np.nan)
    routing, _ = route(strategy, logits)
    np.testing.assert_allclose(gates_of(routing, 40, experts), expected, rtol=1e-6)
    assert routing.losses["sparsity"].item() == pytest.approx(0.3 * relu_loss(logits.astype(np.float64), k), rel=1e-4)
    np.testing.assert_allclose(gates_of(route(strategy.eval(), logits)[0], 40, experts), expected, rtol=1e-6)


def test_remoe_gradient():
    """Counts are constants: d L/d logit = λ E n_j/(k T²) where active, 0 elsewhere. By central differences as well."""
    logits = draw(6, 5, seed=1)
    active = logits > 0
    routing, hidden = route(build("remoe", 5, 2, coefficient=2.0), logits)
    routing.losses["sparsity"].backward()
    worked = np.where(active, 2.0 * 5 * active.sum(0) / (2 * 36), 0)
    np.testing.assert_allclose(hidden.grad.numpy(), worked, rtol=1e-5)
    np.testing.assert_allclose(slope(lambda x: 2 * relu_loss(x, 2, active), logits), worked, atol=1e-8)


@pytest.mark.parametrize(("experts", "k"), [(4, 1), (16, 4), (64, 8)])
def test_remoe_coefficient_follows_the_global_sparsity(experts, k):
    """STRATEGIES §7: λ × 1.2 if the global batch is less sparse than 1 − k/E, else ÷ 1.2; once a step; λ₀ = 1e-8.

    Micro-batches of unlike sparsity: the first alone, or most of them, would say the opposite of all together.
    """
    rng = np.random.default_rng(experts)
    strategy, expected = build("remoe", experts, k), 1e-8
    probe = draw(8, experts, seed=9).astype(np.float64)
    for shares in (
        (2.0, 2.0, 2.0),
        (2.2, 0.2, 0.2),
        (0.1, 0.8, 2.6),
        (0.2, 1.6, 1.6),
        (0.5, 0.5, 0.5),
        (1.4, 1.2, 0.1),
    ):
        parts = [np.where(rng.random((60, experts)) < share * k / experts, 1.0, -1.0) for share in shares]
        step(strategy, parts)
        active = np.mean([(part > 0).mean() for part in parts])
        expected = expected * 1.2 if active > k / experts else expected / 1.2
        loss = route(strategy, probe)[0].losses["sparsity"].item()
        assert loss == pytest.approx(expected * relu_loss(probe.astype(np.float32).astype(np.float64), k), rel=1e-4)
