"""Rules that move a bias against the load: formulas by hand and by NumPy."""

import math

import numpy as np
import pytest
import torch
from strategy_lab import batch, best, chosen, layer, logits_of, route, sigmoid, table

from strategies.framework.histogram import histogram, quantile
from strategies.proportional_bias import ProportionalBias
from strategies.quantile import Quantile
from strategies.sign_bias import SignBias
from strategies.smebu import Smebu

LOAD_E = torch.tensor([0.0, 2.0, 4.0, 2.0])  # mean 2: v = (n̄ − n)/n̄ = 1, 0, −1, 0


def moved(strategy, load_E=LOAD_E):
    """The bias after one step from where it is."""
    strategy.rebalance(load_E, {})
    return strategy.bias_E.tolist()


def test_sign_rule_moves_by_the_rate():  # 2408.15664, Algorithm 1, u = 0.001
    strategy = SignBias(layer(num_experts=4))
    assert moved(strategy) == pytest.approx([0.001, 0.0, -0.001, 0.0])
    assert moved(strategy, torch.tensor([0.0, 5.0, 1.0, 2.0])) == pytest.approx([0.002, -0.001, 0.0, 0.0])


def test_proportional_rule_moves_by_rate_times_error():
    assert moved(ProportionalBias(layer(num_experts=4))) == pytest.approx([0.001, 0.0, -0.001, 0.0])
    load_E = torch.tensor([1.0, 2.0, 4.0, 5.0])  # mean 3
    expected = [1e-3 * x for x in (2 / 3, 1 / 3, -1 / 3, -2 / 3)]
    assert moved(ProportionalBias(layer(num_experts=4)), load_E) == pytest.approx(expected)


def test_longcat_form_is_its_published_expression():  # Δb = μ (K_e/K · 1/N − T_i/(K · T_all)), K_e = K
    config = ProportionalBias.Config(rate=0.5, form="longcat")
    strategy = ProportionalBias(layer(num_experts=4, top_k=2), config)
    load_E = torch.tensor([1.0, 2.0, 4.0, 5.0])  # 12 assignments of 6 tokens
    expected = [0.5 * (1 / 4 - n / (2 * 6)) for n in (1, 2, 4, 5)]
    assert moved(strategy, load_E) == pytest.approx(expected)


def test_smebu_over_three_steps():
    strategy = Smebu(layer(num_experts=4))
    bias, momentum = np.zeros(4), np.zeros(4)
    for load in ([0, 2, 4, 2], [1, 1, 1, 5], [3, 1, 0, 4]):
        load = np.array(load, float)
        delta = 5e-4 * np.tanh(2.0 * (load.mean() - load) / load.mean())  # λ tanh(κ v)
        delta -= delta.mean()
        momentum = 0.5 * momentum + 0.5 * delta
        bias = bias + momentum
        strategy.rebalance(torch.tensor(load, dtype=torch.float32), {})
    assert strategy.bias_E.numpy() == pytest.approx(bias, rel=1e-5)


def test_smebu_first_step_by_hand():
    # v = 1, 0, −1, 0; tanh 2 = 0.9640276; half of 5e-4 times that; the mean is zero already
    assert moved(Smebu(layer(num_experts=4))) == pytest.approx([2.410069e-4, 0, -2.410069e-4, 0], abs=1e-9)


def test_centring_takes_the_mean_from_the_update_not_from_the_bias():
    strategy = SignBias(layer(num_experts=4), SignBias.Config(rate=1.0, center=True))
    strategy.bias_E += 10
    load_E = torch.tensor([0.0, 3.0, 3.0, 2.0])  # signs +, −, −, 0: mean −1/4
    assert moved(strategy, load_E) == pytest.approx([11.25, 9.25, 9.25, 10.25])


def test_rate_falls_linearly_to_zero_from_the_share_given():
    strategy = SignBias(layer(num_experts=4), SignBias.Config(rate=0.8, decay_from=0.5))
    rates = []
    for progress in (0.0, 0.49, 0.5, 0.75, 0.9):
        strategy.schedule(progress)
        rates.append(strategy.rate.item())
    assert rates == pytest.approx([0.8, 0.8, 0.8, 0.4, 0.16])


def test_an_empty_batch_moves_nothing():
    for cls in (SignBias, ProportionalBias, Smebu):
        assert moved(cls(layer(num_experts=4)), torch.zeros(4)) == [0.0] * 4


def test_bias_chooses_and_gates_stay_unbiased():
    strategy = SignBias(layer())
    strategy.bias_E += torch.linspace(-1, 1, 8)
    hidden_TD, tokens_T = batch()
    routing = route(strategy, hidden_TD, tokens_T)
    scores_TE = sigmoid(logits_of(strategy, hidden_TD))
    experts_TK = best(scores_TE + np.linspace(-1, 1, 8), 2)
    assert (chosen(routing) == experts_TK).all()
    gates_TK = np.take_along_axis(scores_TE, experts_TK, 1)
    gates_TK /= gates_TK.sum(1, keepdims=True)
    assert routing.gate_A.view(-1, 2).detach().numpy() == pytest.approx(gates_TK, rel=1e-5)


def test_multiplicative_form_scales_scores():
    strategy = SignBias(layer(), SignBias.Config(form="multiplicative"))
    strategy.bias_E += torch.linspace(-0.5, 0.5, 8)
    hidden_TD, tokens_T = batch()
    scores_TE = sigmoid(logits_of(strategy, hidden_TD))
    assert (chosen(route(strategy, hidden_TD, tokens_T)) == best(scores_TE * np.linspace(0.5, 1.5, 8), 2)).all()


def test_gate_of_a_single_expert_is_its_score():
    strategy = SignBias(layer(top_k=1, route_scale=2.5))
    hidden_TD, tokens_T = batch()
    gates = table(route(strategy, hidden_TD, tokens_T), 64, 8)
    scores_TE = sigmoid(logits_of(strategy, hidden_TD))
    assert np.nanmax(gates, axis=1) == pytest.approx(2.5 * scores_TE.max(axis=1), rel=1e-5)


def test_rounded_bias_would_swallow_updates_so_it_is_float32_under_autocast():
    strategy = SignBias(layer())
    hidden_TD, tokens_T = batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        routing = route(strategy, hidden_TD.bfloat16(), tokens_T)
    strategy.rebalance(torch.arange(8.0), routing.pooled)
    assert strategy.bias_E.dtype == routing.gate_A.dtype == routing.scores_TE.dtype == torch.float32


# Quantile balancing


def test_histogram_and_quantile_against_numpy():
    values_TE = torch.rand(5000, 3, generator=torch.Generator().manual_seed(1)) * torch.tensor([1.0, 0.5, 0.1])
    counts_EN = histogram(values_TE, -1.0, 1.0)
    for expert in range(3):
        expected = np.histogram(values_TE[:, expert].numpy(), bins=1000, range=(-1, 1))[0]
        assert np.abs(np.cumsum(counts_EN[expert].numpy() - expected)).max() <= 3  # float32 at the edges of bins
    for share in (0.01, 0.25, 0.9, 1.0):
        exact_E = np.quantile(values_TE.numpy(), share, axis=0)
        assert quantile(counts_EN, -1.0, 1.0, share).numpy()[0] == pytest.approx(exact_E[0], abs=0.0021)
        assert quantile(counts_EN, -1.0, 1.0, share).numpy()[2] == pytest.approx(exact_E[2], abs=0.0021)


def test_quantile_inside_a_bin_is_linear():
    counts_EN = torch.zeros(1, 1000)
    counts_EN[0, 500] = 4  # the bin [0.5, 0.501) of [0, 1]
    assert quantile(counts_EN, 0.0, 1.0, 0.25).item() == pytest.approx(0.50025, abs=1e-7)
    assert quantile(counts_EN, 0.0, 1.0, 1.0).item() == pytest.approx(0.501, abs=1e-7)


def test_histogram_leaves_out_what_is_not_finite_and_clamps_the_rest():
    values_TE = torch.tensor([[float("nan")], [float("inf")], [-5.0], [5.0], [0.5]])
    counts_EN = histogram(values_TE, 0.0, 1.0)
    assert counts_EN.sum() == 3
    assert counts_EN[0, 0] == counts_EN[0, 999] == counts_EN[0, 500] == 1


@pytest.mark.parametrize("ema", [0.0, 0.75])
def test_quantile_balancing_solves_for_the_published_bias(ema):
    strategy = Quantile(layer(), Quantile.Config(ema=ema))
    old_E = np.linspace(-0.2, 0.2, 8)
    strategy.bias_E += torch.tensor(old_E, dtype=torch.float32)
    hidden_TD, tokens_T = batch(num_tokens=4096)
    pooled = {}
    for h, t in zip(hidden_TD.chunk(4), tokens_T.chunk(4), strict=True):  # pooled over micro-batches
        for name, value in route(strategy, h, t).pooled.items():
            pooled[name] = pooled.get(name, 0) + value
    strategy.rebalance(torch.zeros(8), pooled)

    scores_TE = sigmoid(logits_of(strategy, hidden_TD))
    alpha_T = np.sort(scores_TE + old_E, axis=1)[:, -3]  # the (k+1)-th largest, k = 2
    solved_E = np.quantile(alpha_T[:, None] - scores_TE, 2 / 8, axis=0)
    expected_E = ema * old_E + (1 - ema) * solved_E
    assert strategy.bias_E.numpy() == pytest.approx(expected_E - expected_E.mean(), abs=2.4 / 1000)


def test_quantile_balancing_balances_the_batch_it_saw():
    strategy = Quantile(layer(num_experts=16))
    hidden_TD, tokens_T = batch(num_tokens=4096)
    hidden_TD += 1.0  # a shared direction: a skewed router
    for _ in range(5):
        routing = route(strategy, hidden_TD, tokens_T)
        load_E = torch.bincount(routing.expert_A, minlength=16)
        strategy.rebalance(load_E.float(), routing.pooled)
    assert load_E.max() / load_E.float().mean() - 1 < 0.1


def test_quantile_balancing_needs_an_expert_to_leave_out():
    with pytest.raises(ValueError, match=r"quantile: top_k = 4 leaves no expert out"):
        Quantile(layer(num_experts=4, top_k=4))


@pytest.mark.parametrize(
    ("cls", "values", "words"),
    [
        (SignBias, {"rate": -1.0}, "rate: -1.0 is negative"),
        (SignBias, {"decay_from": 1.5}, "decay_from: 1.5"),
        (Smebu, {"decay_from": -0.1}, "decay_from: -0.1"),
        (Quantile, {"ema": 1.0}, "ema: 1.0 is impossible"),
    ],
)
def test_impossible_values_are_refused(cls, values, words):
    with pytest.raises(ValueError, match=words):
        cls.Config(**values)


def test_nan_in_one_token_leaves_the_others_and_the_state_alone():
    hidden_TD, tokens_T = batch()
    broken_TD = hidden_TD.clone()
    broken_TD[5] = math.nan
    for cls in (SignBias, Quantile):
        whole, broken = route(cls(layer()), hidden_TD, tokens_T), route(cls(layer()), broken_TD, tokens_T)
        others = [t for t in range(64) if t != 5]
        assert (chosen(whole)[others] == chosen(broken)[others]).all()
        for value in broken.pooled.values():
            assert value.isfinite().all()
