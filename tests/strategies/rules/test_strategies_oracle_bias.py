"""Oracles of the bias rules: sign, proportional, SMEBU; their selection, their steps, their fading out."""

import numpy as np
import pytest
import torch
from oracle_lab import SCORES, SIZES, best, build, draw, gated, gates_of, route, scores_of

RULES = ["sign_bias", "proportional_bias", "smebu"]


class Sign:
    """STRATEGIES §2, Algorithm 1 [P]: b_j += u · sign(n̄ − n_j); centred as torchtitan does on demand."""

    def __init__(self, experts, rate=1e-3, center=False):
        self.bias, self.rate, self.center = np.zeros(experts), rate, center

    def step(self, load, rate=None):
        move = (rate or self.rate) * np.sign(load.mean() - load)
        self.bias = self.bias + move - (move.mean() if self.center else 0)


class Proportional(Sign):
    """STRATEGIES §2, variant u · e [P] with e over n̄ [T]."""

    def step(self, load, rate=None):
        move = (rate or self.rate) * (load.mean() - load) / load.mean()
        self.bias = self.bias + move - (move.mean() if self.center else 0)


class Smebu:
    """STRATEGIES §1 [S]: v = (n̄ − n)/n̄, Δ = λ tanh(κ v), centred, m ← β m + (1 − β) Δ, b ← b + m; m = 0 at first."""

    def __init__(self, experts, rate=5e-4, kappa=2.0, momentum=0.5):
        self.bias, self.moment = np.zeros(experts), np.zeros(experts)
        self.rate, self.kappa, self.momentum = rate, kappa, momentum

    def step(self, load, rate=None):
        move = (rate or self.rate) * np.tanh(self.kappa * (load.mean() - load) / load.mean())
        move = move - move.mean()
        self.moment = self.momentum * self.moment + (1 - self.momentum) * move
        self.bias = self.bias + self.moment


ORACLES = {"sign_bias": Sign, "proportional_bias": Proportional, "smebu": Smebu}


def loads(experts, steps, seed=0):
    """Random counts of very different sizes, one step after another."""
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        yield rng.multinomial(64 * experts, rng.dirichlet(np.full(experts, 0.5))).astype(np.float64)


def rebalance(strategy, load):
    strategy.rebalance(torch.tensor(load, dtype=torch.float32), {})


def assert_bias(strategy, expected, scale):
    np.testing.assert_allclose(strategy.selection_bias().numpy(), expected, rtol=1e-4, atol=1e-4 * scale)


def test_sign_bias_by_hand():
    """STRATEGIES §2: loads (7 4 4 1), n̄ = 4: −u, 0, 0, +u. Then (4 6 4 2): +0, −u, 0, +u."""
    strategy = build("sign_bias", 4, 1)
    rebalance(strategy, [7, 4, 4, 1])
    assert strategy.selection_bias().tolist() == pytest.approx([-1e-3, 0, 0, 1e-3])
    rebalance(strategy, [4, 6, 4, 2])
    assert strategy.selection_bias().tolist() == pytest.approx([-1e-3, -1e-3, 0, 2e-3])
    centred = build("sign_bias", 4, 1, center=True)
    rebalance(centred, [1, 1, 1, 13])  # u · (1 1 1 −1) less its mean u/2
    assert centred.selection_bias().tolist() == pytest.approx([0.5e-3, 0.5e-3, 0.5e-3, -1.5e-3])


def test_proportional_bias_by_hand():
    """STRATEGIES §2: loads (8 4 3 1), n̄ = 4: u · (−1, 0, 1/4, 3/4). LongCat: μ (1/4 − n/16): a fourth of it."""
    strategy = build("proportional_bias", 4, 2, rate=0.01)
    rebalance(strategy, [8, 4, 3, 1])
    assert strategy.selection_bias().tolist() == pytest.approx([-0.01, 0, 0.0025, 0.0075], abs=1e-8)
    longcat = build("proportional_bias", 4, 2, rate=0.01, form="longcat")
    rebalance(longcat, [8, 4, 3, 1])
    assert longcat.selection_bias().tolist() == pytest.approx([-0.0025, 0, 0.000625, 0.001875], abs=1e-8)


def test_smebu_by_hand():
    """STRATEGIES §1: loads (8 4 2 2), n̄ = 4, v = (−1, 0, ½, ½).

    tanh 2v = (−.9640276, 0, .7615942, .7615942), mean .1397902; centred (−1.1038178, −.1397902, .6218040, .6218040).
    Times λ = 5e-4: Δ; m = Δ/2; b = m. A balanced load next: Δ = 0, m = Δ/4, b = Δ/2 + Δ/4 = ¾ Δ.
    """
    strategy = build("smebu", 4, 1)
    move = 5e-4 * np.array([-1.1038178, -0.1397902, 0.6218040, 0.6218040])
    rebalance(strategy, [8, 4, 2, 2])
    assert strategy.selection_bias().tolist() == pytest.approx(list(move / 2), rel=1e-5)
    rebalance(strategy, [4, 4, 4, 4])
    assert strategy.selection_bias().tolist() == pytest.approx(list(0.75 * move), rel=1e-5)


@pytest.mark.parametrize("experts", [4, 16, 64, 256])
@pytest.mark.parametrize("name", RULES)
def test_bias_over_steps_of_random_loads(name, experts):
    """STRATEGIES §§1, 2: thirty updates from random loads, defaults and a rate thirty times larger."""
    for rate in (ORACLES[name](experts).rate, 0.03):
        strategy, oracle = build(name, experts, 2, rate=rate), ORACLES[name](experts, rate=rate)
        for load in loads(experts, 30, seed=experts):
            rebalance(strategy, load)
            oracle.step(load)
            assert_bias(strategy, oracle.bias, rate)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("kappa", [0.5, 2.0, 10.0])
def test_smebu_parameters(kappa, momentum):
    """STRATEGIES §1: the EMA form has gain 1, so for a constant load the bias ends up moving by Δ a step."""
    strategy = build("smebu", 16, 4, rate=0.01, kappa=kappa, momentum=momentum)
    oracle = Smebu(16, rate=0.01, kappa=kappa, momentum=momentum)
    for load in loads(16, 12, seed=1):
        rebalance(strategy, load)
        oracle.step(load)
        assert_bias(strategy, oracle.bias, 0.01)
    held = np.arange(1.0, 17.0)
    delta = 0.01 * np.tanh(kappa * (8.5 - held) / 8.5)
    delta -= delta.mean()
    for _ in range(150):
        before = strategy.selection_bias().clone()
        rebalance(strategy, held)
    np.testing.assert_allclose((strategy.selection_bias() - before).numpy(), delta, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", ["sign_bias", "proportional_bias"])
def test_centred_steps(name):
    """STRATEGIES §2, torchtitan [P]: the update less its mean."""
    strategy, oracle = build(name, 16, 2, center=True, rate=0.01), ORACLES[name](16, center=True, rate=0.01)
    for load in loads(16, 10, seed=2):
        rebalance(strategy, load)
        oracle.step(load)
        assert_bias(strategy, oracle.bias, 0.01)
        assert abs(strategy.selection_bias().mean().item()) < 1e-7


def test_longcat_form():
    """STRATEGIES §2, LongCat [S×2] with K_e = K: Δb = μ (1/E − n_j/(k T)), k T all assignments."""
    strategy, expected = build("proportional_bias", 64, 4, rate=0.5, form="longcat"), np.zeros(64)
    for load in loads(64, 10, seed=3):
        rebalance(strategy, load)
        expected += 0.5 * (1 / 64 - load / load.sum())
        assert_bias(strategy, expected, 0.01)


@pytest.mark.parametrize("name", RULES)
def test_rate_fades_to_zero(name):
    """STRATEGIES §2 and §10.6: from `decay_from` on the rate falls, linearly, to 0 at the end; 1 − p over 1 − from."""
    strategy, oracle = build(name, 8, 2, rate=0.01, decay_from=0.6), ORACLES[name](8, rate=0.01)
    progress = [0.0, 0.3, 0.6, 0.7, 0.8, 0.9, 0.95]
    factor = [1, 1, 1, 0.75, 0.5, 0.25, 0.125]
    for at, share, load in zip(progress, factor, loads(8, 7, seed=4), strict=True):
        strategy.schedule(at)
        rebalance(strategy, load)
        oracle.step(load, rate=0.01 * share)
        assert_bias(strategy, oracle.bias, 0.01)


@pytest.mark.parametrize("name", RULES)
def test_rate_stays_unless_told(name):
    """Published rules have a constant rate: late in training a step is as large as at the start."""
    strategy, oracle = build(name, 8, 2), ORACLES[name](8)
    for at, load in zip([0.0, 0.5, 0.99], loads(8, 3, seed=5), strict=True):
        strategy.schedule(at)
        rebalance(strategy, load)
        oracle.step(load)
        assert_bias(strategy, oracle.bias, 1e-3)


@pytest.mark.parametrize("function", SCORES)
@pytest.mark.parametrize(("experts", "k"), SIZES)
def test_bias_chooses_and_scores_gate(experts, k, function):
    """STRATEGIES §1, HF afmoe [P]: top-k of s + b; gates are the unbiased scores. The same at eval()."""
    logits = draw(32, experts, seed=experts + k)
    scores = scores_of(logits, function)
    bias = scores.std() * np.random.default_rng(k).normal(size=experts).astype(np.float32)
    expected = gated(scores, best(scores + bias, k), normalize=k > 1)
    for name in RULES:
        strategy = build(name, experts, k, score=function)
        with torch.no_grad():
            strategy.bias_E.copy_(torch.tensor(bias))
        for mode in (True, False):
            routing, _ = route(strategy.train(mode), logits)
            np.testing.assert_allclose(gates_of(routing, 32, experts), expected, rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("function", SCORES)
def test_multiplicative_form(function):
    """STRATEGIES §2, variant [P]: top-k of s · b, b = 1 at first, the same step; gates unbiased."""
    logits = draw(64, 16, seed=6, skew=2)
    scores = scores_of(logits, function)
    strategy, oracle = build("sign_bias", 16, 4, score=function, form="multiplicative", rate=0.05), Sign(16, rate=0.05)
    for _ in range(12):
        mask = best(scores * (1 + oracle.bias), 4)
        routing, _ = route(strategy, logits)
        np.testing.assert_allclose(gates_of(routing, 64, 16), gated(scores, mask, normalize=True), rtol=2e-5, atol=1e-7)
        rebalance(strategy, mask.sum(0))
        oracle.step(mask.sum(0))
        assert_bias(strategy, oracle.bias, 0.05)
    assert (best(scores, 4) != best(scores * (1 + oracle.bias), 4)).any()


@pytest.mark.parametrize(("name", "rate"), [("sign_bias", 0.01), ("proportional_bias", 0.02), ("smebu", 0.02)])
def test_closed_loop(name, rate):
    """STRATEGIES §§1, 2: routing, counting and updating for 25 steps, each rule beside its NumPy simulation."""
    strategy, oracle = build(name, 16, 2, rate=rate), ORACLES[name](16, rate=rate)
    first = last = None
    for step in range(25):
        logits = draw(128, 16, seed=100 + step, skew=0) + np.linspace(-1, 1, 16, dtype=np.float32)
        scores = scores_of(logits, "sigmoid")
        load = best(scores + oracle.bias, 2).sum(0)
        routing, _ = route(strategy, logits)
        assert np.bincount(routing.expert_A.numpy(), minlength=16).tolist() == load.tolist()
        rebalance(strategy, load)
        oracle.step(load)
        assert_bias(strategy, oracle.bias, rate)
        first, last = first if first is not None else load, load
    assert last.max() < first.max()
