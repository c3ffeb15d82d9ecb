"""The router bench: its floor by enumeration, its measures by hand, its runs by an independent NumPy version.

Shapes: S steps, T tokens, N recorded tokens, E experts, K experts per token, D features.
"""

from __future__ import annotations

import itertools
import statistics

import numpy as np
import pytest
import torch

from strategies import Routing, Strategy
from strategies.bench import noise_floor, run
from strategies.bench.__main__ import main
from strategies.bench.source import Synthetic
from strategies.bench.studies import MEASURES, find, markdown, run_study, studies
from strategies.framework.contract import LayerSpec
from strategies.registry import get, make_config


def enumerated_floor(tokens, top_k, experts):
    """The expected MaxVio, over all equally likely choices of all tokens."""
    sets = list(itertools.combinations(range(experts), top_k))
    violations = []
    for choices in itertools.product(sets, repeat=tokens):
        load = np.bincount(np.concatenate(choices), minlength=experts)
        violations.append(load.max() / load.mean() - 1)
    return statistics.fmean(violations)


@pytest.mark.parametrize(("tokens", "top_k", "experts"), [(2, 1, 2), (3, 2, 3), (4, 1, 5), (3, 2, 5), (2, 3, 6)])
def test_noise_floor_is_the_enumerated_expectation(tokens, top_k, experts):
    exact = enumerated_floor(tokens, top_k, experts)
    assert noise_floor(tokens, top_k, experts, repetitions=4000) == pytest.approx(exact, rel=0.05)


def test_noise_floor_by_hand():
    # three tokens leave out one of three experts each: all different with probability 6/27 (MaxVio 0), else 3/2 − 1
    assert noise_floor(3, 2, 3, repetitions=4000) == pytest.approx(0.5 * 21 / 27, rel=0.05)
    assert noise_floor(10, 4, 4) == 0.0


class Scripted(Strategy):
    """Sends as many of eight tokens to expert 0 as it is told, and shows the biases it is told."""

    name = title = "scripted"
    has_router = False
    first = (8, 8, 8, 8, 7, 6, 6, 8, 6, 6, 6, 6, 6, 6, 6, 6, 5, 4, 3, 6)
    biases = (*[0.0] * 16, 1.0, 3.0, 2.0, 2.5)

    def __init__(self, spec, config=None, terms=None):
        super().__init__(spec, config, terms)
        self.step = 0
        self.bias_E = torch.zeros(2)

    def route(self, hidden_TD, tokens_T, context):
        expert_T1 = (torch.arange(8) >= self.first[self.step]).long()[:, None]
        return Routing.top_k(expert_T1, torch.ones(8, 1))

    def rebalance(self, load_E, pooled):
        assert load_E.tolist() == [self.first[self.step], 8 - self.first[self.step]]
        self.bias_E.copy_(self.biases[self.step] * torch.tensor([1.0, 0.5]))
        self.step += 1


def test_measures_by_hand():
    result = run(Scripted, experts=2, top_k=1, tokens=8, steps=20)
    # MaxVio is max(n, 8 − n)/4 − 1; the tail is the last four steps: 0.25, 0, 0.25, 0.5
    assert result.curve[:6] == [1, 1, 1, 1, 0.75, 0.5]
    assert result.max_vio == pytest.approx(0.25)
    assert result.max_vio_global == pytest.approx(18 / 16 - 1)  # 5 + 4 + 3 + 6 of 32
    assert result.peak == 1.0
    assert result.steps_to_balance == 16  # 0.5 is not yet balanced
    assert result.steps_to_recover is None
    # b_0 in the tail 1, 3, 2, 2.5, b_1 half of it: moves 2, −1, 0.5 and half of them, and each pair of moves a flip
    assert result.bias_step == pytest.approx(0.75 * (2 + 1 + 0.5) / 3)
    assert result.flip_rate == 1.0
    # without the common mode, each expert is a quarter of b_0 from the middle
    assert result.bias_std == pytest.approx(np.std([1, 3, 2, 2.5]) / 4)
    assert result.bias_max == 2.5


def test_recovery_is_counted_from_the_shift_and_the_peak_leaves_out_the_beginning():
    result = run(Scripted, experts=2, top_k=1, tokens=8, steps=20, drift="shift")
    assert result.steps_to_balance is None  # never before the shift at step 10
    assert result.steps_to_recover == 6

    class LateScript(Scripted):
        first = (8, 8, *[6] * 18)

    assert run(LateScript, experts=2, top_k=1, tokens=8, steps=20).peak == 0.5


def numpy_run(rule, hidden_STD, weight_ED, top_k, rate):
    """A sigmoid router with the sign rule (Wang et al., algorithm 1) or quantities of SMEBU, written independently."""
    experts = len(weight_ED)
    bias, momentum, curve = np.zeros(experts), np.zeros(experts), []
    for hidden_TD in hidden_STD:
        scores = 1 / (1 + np.exp(-hidden_TD @ weight_ED.T))
        chosen = np.argsort(-(scores + bias), axis=1)[:, :top_k]
        load = np.bincount(chosen.ravel(), minlength=experts)
        curve.append(load.max() / load.mean() - 1)
        if rule == "sign_bias":
            bias = bias + rate * np.sign(load.mean() - load)
        else:
            delta = rate * np.tanh(2 * (1 - load / load.mean()))
            momentum = 0.5 * momentum + 0.5 * (delta - delta.mean())
            bias = bias + momentum
    return curve, bias


@pytest.mark.parametrize("rule", ["sign_bias", "smebu"])
@pytest.mark.parametrize("drift", ["static", "drifting", "shift"])
def test_a_run_is_that_of_an_independent_simulation(rule, drift):
    steps, tokens, rate = 60, 128, 0.01
    cls = get(rule)
    result = run(cls, make_config(cls, {"rate": rate}), experts=8, tokens=tokens, steps=steps, drift=drift, seed=3)
    source = Synthetic(tokens, steps, drift, seed=3, skew=0.6, speed=0.0175)
    hidden_STD = [source.hidden(step).double().numpy() for step in range(steps)]
    spec = LayerSpec(width=64, num_experts=8, top_k=2, vocab_size=1, router_std=1 / 8, seed=3)
    weight_ED = torch.empty(8, 64).normal_(std=1 / 8, generator=spec.generator("router")).double().numpy()
    curve, bias = numpy_run(rule, hidden_STD, weight_ED, 2, rate)
    np.testing.assert_allclose(result.curve, curve, atol=2 / 32 + 1e-6)  # one tie broken otherwise, at most
    assert np.mean(np.abs(np.subtract(result.curve, curve)) > 1e-6) < 0.05
    assert result.bias_max == pytest.approx(np.abs(bias).max(), abs=2e-3)


def common_directions(source, steps):
    return [source.hidden(step).mean(0) / source.skew for step in range(steps)]


def test_synthetic_hidden_states_are_what_they_say():
    source = Synthetic(20_000, 3, "static", seed=1, skew=2.0, speed=0.1)
    hidden_TD = source.hidden(0)
    torch.testing.assert_close(hidden_TD.std(0), torch.ones(64), atol=0.03, rtol=0)
    first, second = common_directions(Synthetic(20_000, 2, "static", 1, 2.0, 0.1), 2)
    torch.testing.assert_close(first, second, atol=0.03, rtol=0)
    before, after = (common_directions(Synthetic(20_000, 2, "shift", 1, 2.0, 0.1), 2))[:2]
    assert torch.corrcoef(torch.stack([before, after]))[0, 1].abs() < 0.5


def test_drift_keeps_the_skew_and_turns_at_its_speed():
    speed, steps = 0.1, 400
    source = Synthetic(1, steps, "drifting", seed=1, skew=1.0, speed=speed)
    directions = []
    for step in range(steps):
        source.hidden(step)
        directions.append(source._common_D)
    walk_SD = torch.stack(directions)
    assert walk_SD.square().mean() == pytest.approx(1.0, abs=0.15)
    assert (walk_SD[1:] - walk_SD[:-1]).square().mean() == pytest.approx(2 * (1 - (1 - speed**2) ** 0.5), rel=0.05)


def test_the_same_seed_gives_the_same_run_and_centring_changes_no_routing():
    sign = get("sign_bias")
    runs = [
        run(sign, make_config(sign, {"rate": 2**-8, "center": center}), experts=8, tokens=256, steps=100, seed=seed)
        for center, seed in ((False, 0), (False, 0), (True, 0), (False, 1))
    ]
    assert runs[0].curve == runs[1].curve
    assert runs[0].curve == runs[2].curve
    assert runs[0].curve != runs[3].curve


def test_recorded_logits_are_routed_as_they_are():
    logits_NE = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))
    result = run(get("none"), experts=8, top_k=2, tokens=16, steps=5, scores=logits_NE)
    assert result.regime == "recorded"
    expected = []
    for step in range(5):
        rows = [row % 40 for row in range(16 * step, 16 * step + 16)]
        load = np.bincount(np.argsort(-logits_NE[rows].numpy(), axis=1)[:, :2].ravel(), minlength=8)
        expected.append(load.max() / load.mean() - 1)
    assert result.curve == pytest.approx(expected)


@pytest.mark.parametrize("name", ["sign_bias", "stable_moe", "base", "quantile"])
def test_recorded_logits_reach_every_rule_with_a_router(name):
    assert run(get(name), experts=8, tokens=64, steps=3, scores=torch.randn(64, 8)).steps == 3


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("none", {"drift": "drifing"}, r"drift: 'drifing' is unknown; .* nearest is drifting$"),
        ("none", {"tokens": 0}, r"tokens: 0 is impossible; expected a positive integer$"),
        (
            "none",
            {"scores": torch.randn(10, 8)},
            r"scores: shape \[10, 8\]; expected \(N, experts\) with N at least 16$",
        ),
        ("none", {"scores": torch.full((16, 8), torch.nan)}, r"scores: some are NaN or infinite"),
        ("none", {"scores": torch.randn(16, 9)}, r"experts: 8 does not match scores with 9 columns$"),
        ("hash", {"scores": torch.randn(16, 8)}, r"scores: hash has no linear router"),
    ],
)
def test_bad_input_is_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        run(get(name), **{"experts": 8, "tokens": 16, "steps": 2, **options})


def test_a_thousand_experts():
    result = run(get("sign_bias"), experts=1024, tokens=512, steps=3)
    assert result.floor > 1
    assert len(result.curve) == 3


@pytest.mark.parametrize("name", ["smebu", "quantile"])
def test_large_batches_in_parts_are_the_same_run(name, monkeypatch):
    whole = run(get(name), experts=8, tokens=256, steps=20)
    monkeypatch.setattr("strategies.bench.simulate.CACHED", 512)
    parts = run(get(name), experts=8, tokens=256, steps=20)
    assert parts.curve == whole.curve
    assert parts.bias_max == pytest.approx(whole.bias_max, rel=1e-5)


def test_rows_are_plain_values():
    row = run(get("none"), experts=8, tokens=64, steps=5).row()
    assert row["strategy"] == "none"
    assert row["bias_step"] is None
    assert "curve" not in row


def test_every_study_names_known_strategies_parameters_and_settings():
    found = studies()
    assert {"toy", "momentum", "kappa", "rate", "experts"} <= set(found)
    for study in found.values():
        assert set(study.columns) <= set(MEASURES)
        for case in study.cases:
            assert case.published.keys() <= set(study.columns)
            make_config(get(case.strategy), case.config)
            assert case.settings["tokens"] * case.settings["top_k"] >= case.settings["experts"]
    toy = found["toy"]
    assert sum("max_vio" in case.published for case in toy.cases) == len(toy.cases) == 24


def test_a_study_is_summed_up_over_seeds():
    study = find("experts")
    case = study.cases[0]
    case.settings.update(tokens=64, steps=10)
    small = type(study)("small", "Small", "experts", ["max_vio", "flip_rate"], [case])
    (row,) = run_study(small, seeds=[0, 1])
    values = [case.run(seed).max_vio for seed in (0, 1)]
    assert row["label"] == "sign_bias rate=0.001"
    assert row["n"] == 2
    assert row["max_vio"] == pytest.approx(sum(values) / 2)
    assert row["max_vio_sd"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    table = markdown(small, [row]).splitlines()
    assert table[0] == "| label | experts | n | MaxVio_batch | flip rate |"
    assert table[2].startswith("| sign_bias rate=0.001 | 8 | 2 | ")
    assert f"{row['max_vio']:.3g} ± " in table[2]


def test_cells_keep_their_significant_digits():
    study = find("kappa")
    row = {"label": "x", "drift": "static", "n": 3}
    for measure in MEASURES:
        row |= {measure: 1234.5, f"{measure}_sd": 41.7, f"{measure}_published": None}
    row |= {"floor": None, "bias_step": 9.637e-4, "bias_step_sd": None, "bias_step_published": 9.6e-4}
    cells = markdown(study, [row]).splitlines()[2]
    assert cells == "| x | static | 3 | 1230 ± 40 | – | 1230 ± 40 | 0.000964 | 0.00096 | 1230 ± 40 | 1230 ± 40 |"


def test_an_unknown_study_is_a_usage_error(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["bench", "momentun"])
    assert main() == 2
    assert "nearest is momentum" in capsys.readouterr().err
