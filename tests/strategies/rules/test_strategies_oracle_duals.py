"""Oracles of the rules that solve for prices of the experts: quantile balancing and BIP."""

import numpy as np
import pytest
import torch
from oracle_lab import SCORES, SIZES, assert_best, best, build, draw, gated, gates_of, route, scores_of

from strategies.framework.histogram import histogram, quantile

BINS = 1000


def kth(values, rank, axis):
    """The rank-th largest, counted from 1."""
    return -np.partition(-values, rank - 1, axis=axis).take(rank - 1, axis=axis)


def pooled_step(strategy, parts):
    """One optimizer step over micro-batches, its sums added up as the engine does."""
    pooled, load = {}, 0
    for part in parts:
        routing, _ = route(strategy, part)
        load = load + torch.bincount(routing.expert_A, minlength=part.shape[1]).float()
        for key, value in routing.pooled.items():
            pooled[key] = pooled.get(key, 0) + value
    strategy.rebalance(load, pooled)


def quantile_bias(scores, bias, k):
    """STRATEGIES §7: b_j ← the k/E quantile of α_i − s_ij, α_i the (k+1)-th largest of s_i + b; then centred."""
    required = kth(scores + bias, k + 1, axis=1)[:, None] - scores
    solved = np.quantile(required, k / scores.shape[1], axis=0)
    return solved - solved.mean()


def histogram_bias(scores, bias, k):
    """The same through 1000 bins on [min b − 1, max b + 1], linear within the bin."""
    required = kth(scores + bias, k + 1, axis=1)[:, None] - scores
    edges = np.linspace(bias.min() - 1, bias.max() + 1, BINS + 1)
    solved = []
    for column in required.T:
        below = np.concatenate([[0], np.cumsum(np.histogram(column, edges)[0])])
        target = k / scores.shape[1] * len(column)
        at = np.searchsorted(below, target, side="left")
        solved.append(edges[at - 1] + (edges[1] - edges[0]) * (target - below[at - 1]) / (below[at] - below[at - 1]))
    return np.array(solved) - np.mean(solved)


@pytest.mark.parametrize(("experts", "k"), [(4, 1), (16, 2), (64, 4), (64, 8)])
def test_quantile_bias_over_steps(experts, k):
    """STRATEGIES §7 (Su; Kimi K3): three steps, each of three micro-batches pooled.

    Beside the exact quantile of the pooled tokens within the histogram's resolution, beside the binned one closely.
    """
    strategy, bias = build("quantile", experts, k), np.zeros(experts)
    for step in range(3):
        logits = draw(1500, experts, seed=step, skew=0) + 1.5 * draw(1, experts, seed=99)
        scores = scores_of(logits, "sigmoid")
        exact, binned = quantile_bias(scores, bias, k), histogram_bias(scores, bias, k)
        pooled_step(strategy, np.split(logits, [400, 900]))
        found = strategy.selection_bias().double().numpy()
        width = (np.ptp(bias) + 2) / BINS
        np.testing.assert_allclose(found, exact, atol=3 * width)
        np.testing.assert_allclose(found, binned, atol=0.1 * width)
        bias = found


def test_quantile_bias_by_hand():
    """STRATEGIES §7: two experts, top-1, b = 0. α_i is the smaller score, so r is 0 or minus the margin.

    Six tokens like expert 0 by σ(2) − σ(−2) = .7616, two like expert 1 by as much. The half quantile (four of eight)
    of r_·0 = (six of −.7616, two of 0) is −.7616, of r_·1 = (two of −.7616, six of 0) is 0, both up to a bin of .002.
    Centred: ∓.3808.
    """
    strategy = build("quantile", 2, 1)
    pooled_step(strategy, [np.array([[2, -2]] * 6 + [[-2, 2]] * 2, dtype=np.float32)])
    np.testing.assert_allclose(strategy.selection_bias().numpy(), [-0.3808, 0.3808], atol=0.003)


def test_quantile_moving_average():
    """STRATEGIES §7, Megatron's `ema`: that share of the old bias stays."""
    strategy, bias = build("quantile", 16, 2, ema=0.75), np.zeros(16)
    for step in range(4):
        logits = draw(2000, 16, seed=step, skew=0) + 1.5 * draw(1, 16, seed=98)
        bias = 0.75 * bias + 0.25 * quantile_bias(scores_of(logits, "sigmoid"), bias, 2)
        pooled_step(strategy, [logits])
        np.testing.assert_allclose(strategy.selection_bias().numpy(), bias, atol=0.008)


@pytest.mark.parametrize("function", ["sigmoid", "softmax"])
def test_quantile_balances_the_batch_it_solved_for(function):
    """STRATEGIES §9: the rule is at MaxVio < 0.5 within 2 steps of the toy (E = 32, k = 2, T = 2048)."""
    logits = draw(2048, 32, seed=7)
    strategy = build("quantile", 32, 2, score=function)
    for _ in range(2):
        pooled_step(strategy, [logits])
    load = np.bincount(route(strategy, logits)[0].expert_A.numpy(), minlength=32)
    plain = best(scores_of(logits, function), 2).sum(0)
    assert load.max() / load.mean() - 1 < 0.5 < plain.max() / plain.mean() - 1


@pytest.mark.parametrize("function", SCORES)
@pytest.mark.parametrize(("experts", "k"), SIZES)
def test_quantile_selection(experts, k, function):
    """STRATEGIES §7: top-k of s + b, gate unbiased, the same at inference with the bias frozen."""
    logits = draw(24, experts, seed=experts + k)
    scores = scores_of(logits, function)
    bias = scores.std() * np.random.default_rng(k).normal(size=experts).astype(np.float32)
    strategy = build("quantile", experts, k, score=function)
    with torch.no_grad():
        strategy.bias_E.copy_(torch.tensor(bias))
    expected = gated(scores, best(scores + bias, k), normalize=k > 1)
    for mode in (True, False):
        found = gates_of(route(strategy.train(mode), logits)[0], 24, experts)
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-7)


def test_histogram_and_its_quantile_by_hand():
    """Four values in [0, 1] under 1000 bins: each is found in its bin, half way up for a share half way through."""
    values = torch.tensor([[0.0105], [0.2505], [0.2506], [0.9995], [float("nan")]])
    counts = histogram(values, 0.0, 1.0)
    assert counts.shape == (1, BINS)
    assert counts.sum().item() == 4
    assert [counts[0, at].item() for at in (10, 250, 999)] == [1, 2, 1]
    for share, expected in ((0.125, 0.0105), (0.5, 0.2505), (0.75, 0.251), (1.0, 1.0)):
        assert quantile(counts, 0.0, 1.0, share).item() == pytest.approx(expected, abs=1e-6)


def bip_prices(scores, price, k, iterations):
    """STRATEGIES §7 [M]: p_i = max(0, (k+1)-th of s_i − q), q_j = max(0, (kT/E + 1)-th of s_j − p)."""
    capacity = k * len(scores) // scores.shape[1]
    for _ in range(iterations):
        p = np.maximum(0, kth(scores - price, k + 1, axis=1))
        price = np.maximum(0, kth(scores - p[:, None], capacity + 1, axis=0))
    return price


def assert_priced(routing, scores, price, k):
    """The k best of s − q, gates from s alone. A price makes its marginal token indifferent: there either choice is."""
    found = gates_of(routing, *scores.shape)
    assert_best(~np.isnan(found), scores - price, k)
    np.testing.assert_allclose(found, gated(scores, ~np.isnan(found), normalize=k > 1), rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("iterations", [1, 4, 14])
@pytest.mark.parametrize("function", SCORES)
@pytest.mark.parametrize(("experts", "k"), [(4, 1), (16, 2), (64, 4), (64, 8), (256, 8)])
def test_bip_routes_by_the_prices_of_its_own_batch(experts, k, function, iterations):
    """STRATEGIES §7 [M, LP S]: from q = 0, T dual iterations, then top-k of s − q on the same batch; gates are s."""
    tokens = 2 * experts
    logits = draw(tokens, experts, seed=experts + k, skew=2)
    scores = scores_of(logits, function)
    price = bip_prices(scores, np.zeros(experts), k, iterations)
    assert (price > 0).any()
    routing, _ = route(build("bip", experts, k, score=function, iterations=iterations), logits)
    assert_priced(routing, scores, price, k)


def test_bip_by_hand():
    """STRATEGIES §7: four tokens, two experts, top-1, so two tokens each; scores (s₀, s₁) as probabilities:

    (.9 .1), (.8 .2), (.7 .3), (.6 .4); everybody wants expert 0. p = second best = .1, .2, .3, .4;
    s₀ − p = .8, .6, .4, .2: third largest .4 = q₀; s₁ − p = 0: q₁ = 0. s − q: .5 > .1, .4 > .2, .3 = .3, .2 < .4.
    The third token is at the price itself; the others are settled: two, or one, and one.
    """
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
    routing, _ = route(build("bip", 2, 1, score="softmax", iterations=1), np.log(probabilities))
    experts = routing.expert_A.tolist()
    assert experts[:2] == [0, 0]
    assert experts[3] == 1


def test_bip_keeps_prices_between_steps():
    """The documented reading: one dual iteration a step from the kept prices, on the pooled batch, by histogram.

    Training starts from the kept prices; inference chooses the k best of s minus them.
    """
    strategy, price = build("bip", 16, 2, iterations=2), np.zeros(16)
    for step in range(4):
        logits = draw(2048, 16, seed=step, skew=0) + 1.5 * draw(1, 16, seed=97)
        scores = scores_of(logits, "sigmoid")
        batch = bip_prices(scores, price, 2, iterations=2)
        assert_priced(route(strategy, logits)[0], scores, batch, 2)
        pooled_step(strategy, np.split(logits, 4))
        kept = -strategy.selection_bias().double().numpy()
        np.testing.assert_allclose(kept, bip_prices(scores, price, 2, iterations=1), atol=0.006)
        price = kept
        assert_priced(route(strategy.eval(), logits)[0], scores, kept, 2)
        strategy.train()
