"""Oracles of the load measures: numbers worked by hand, plain loops, brute-force simulation, and their symmetries."""

import math
from fractions import Fraction
from itertools import combinations, product
from statistics import fmean, pstdev

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from suite.training.measures import (
    bias_health,
    coefficient_of_variation,
    dead_by_norm,
    dead_by_share,
    dead_in_window,
    efficiency,
    entropy,
    fluctuation,
    gini,
    max_vio,
    min_max,
    noise_floor,
    overflow,
    saturation,
    specialisation,
    tail_length,
)

counts = st.lists(st.integers(0, 10_000), min_size=1, max_size=24).filter(any)
quick = settings(max_examples=60, deadline=None, derandomize=True)

OF_COUNTS = {
    "max_vio": max_vio,
    "entropy": entropy,
    "cv": coefficient_of_variation,
    "gini": gini,
    "min_max": min_max,
    "efficiency": efficiency,
    "overflow": lambda load: overflow(load, 1.25),
}


def by_loops(load):
    """Every measure of one layer's counts, from its definition in words, in plain Python."""
    mean, experts, total = fmean(load), len(load), sum(load)
    present = [n / total for n in load if n]
    kept = math.ceil(Fraction(5, 4) * Fraction(total, experts))
    return {
        "max_vio": (max(load) - mean) / mean,
        "entropy": -sum(p * math.log(p) for p in present) / math.log(experts) if experts > 1 else 1.0,
        "cv": pstdev(load) / mean,
        "gini": sum(abs(a - b) for a in load for b in load) / (2 * experts**2 * mean),
        "min_max": min(load) / max(load),
        "efficiency": mean / max(load),
        "overflow": sum(max(0, n - kept) for n in load) / total,
    }


@pytest.mark.parametrize(
    ("load", "expected"),
    [
        # n̄ = 5; entropy of (.5 .3 .1 .1): 1.168282/ln 4; σ² = (25 + 1 + 9 + 9)/4 = 11;
        # Σ|a − b| = 2 · (4 + 8 + 8 + 4 + 4 + 0) = 56 over 2 · 16 · 5; 1.25 · 5 → 7 kept: 3 of 20 lost
        ([10, 6, 2, 2], (1.0, 0.842738, math.sqrt(11) / 5, 0.35, 0.2, 0.5, 0.15)),
        ([7, 7, 7, 7], (0, 1, 0, 0, 1, 1, 0)),
        # one expert for all: E − 1, 0, √(E − 1), (E − 1)/E, 0, 1/E; 1.25 · 3 → 4 kept: 8 of 12 lost
        ([0, 12, 0, 0], (3, 0, math.sqrt(3), 0.75, 0, 0.25, 8 / 12)),
        ([9], (0, 1, 0, 0, 1, 1, 0)),
    ],
)
def test_by_hand(load, expected):
    """MEASURES, load table."""
    assert [float(measure(load)) for measure in OF_COUNTS.values()] == pytest.approx(list(expected), abs=1e-6)


@quick
@given(counts)
def test_against_loops(load):
    """MEASURES, load table: each definition in plain Python."""
    expected = by_loops(load)
    for name, measure in OF_COUNTS.items():
        assert float(measure(load)) == pytest.approx(expected[name], abs=1e-9), name


@quick
@given(counts, st.sampled_from([1.0, 1.25, 1.5, 2.0]))
def test_overflow_at_each_capacity(load, factor):
    """MEASURES: Σ max(0, n_j − ceil(cf · n̄))/Σ n_j; in fractions, so that no ceiling is a rounding error's."""
    kept = math.ceil(Fraction(factor) * Fraction(sum(load), len(load)))
    expected = sum(max(0, n - kept) for n in load) / sum(load)
    assert float(overflow(load, factor)) == pytest.approx(expected, abs=1e-12)
    assert float(overflow(load, 2.0)) <= float(overflow(load, factor)) <= float(overflow(load, 1.0))


@quick
@given(counts, st.integers(2, 50), st.randoms(use_true_random=False))
def test_symmetries_and_bounds(load, factor, random):
    """Which expert is which changes nothing; nor, capacities aside, does the number of tokens."""
    shuffled = random.sample(load, len(load))
    for name, measure in OF_COUNTS.items():
        value = float(measure(load))
        assert float(measure(shuffled)) == pytest.approx(value, abs=1e-12), name
        if name != "overflow":
            assert float(measure([factor * n for n in load])) == pytest.approx(value, abs=1e-9), name
    experts = len(load)
    assert 0 <= float(max_vio(load)) <= experts - 1
    assert 0 <= float(gini(load)) <= (experts - 1) / experts + 1e-12
    assert -1e-12 <= float(entropy(load)) <= 1 + 1e-12
    assert 1 / experts - 1e-12 <= float(efficiency(load)) <= 1
    assert float(efficiency(load)) == pytest.approx(1 / (1 + float(max_vio(load))))


@quick
@given(counts, st.data())
def test_moving_a_token_to_a_poorer_expert_never_unbalances(load, data):
    """Schur-convexity: from a richer to a poorer expert, inequality falls and entropy rises."""
    rich, poor = data.draw(st.integers(0, len(load) - 1)), data.draw(st.integers(0, len(load) - 1))
    assume(load[rich] > load[poor] + 1)
    after = list(load)
    after[rich], after[poor] = load[rich] - 1, load[poor] + 1
    for name, sign in (("max_vio", 1), ("cv", 1), ("gini", 1), ("overflow", 1), ("entropy", -1), ("efficiency", -1)):
        assert sign * float(OF_COUNTS[name](after)) <= sign * float(OF_COUNTS[name](load)) + 1e-12, name


def test_over_leading_dimensions():
    """Any leading dimensions, each row as if alone; a row without load is balanced, not an error."""
    load = np.random.default_rng(0).integers(0, 50, size=(3, 2, 8))
    for measure in OF_COUNTS.values():
        found = np.asarray(measure(load))
        assert found.shape == (3, 2)
        for step, layer in product(range(3), range(2)):
            assert found[step, layer] == pytest.approx(float(measure(load[step, layer])))
    balanced = dict(zip(OF_COUNTS, (0, 1, 0, 0, 1, 1, 0), strict=True))
    with np.errstate(all="raise"):
        for name, measure in OF_COUNTS.items():
            found = np.asarray(measure([[0, 0, 0, 0], [4, 4, 4, 4]]), dtype=float)
            np.testing.assert_allclose(found, [balanced[name]] * 2, atol=1e-12)


def test_counts_as_they_are_recorded():
    """Recorded counts are uint32: differences below zero must not wrap round."""
    load = np.array([[1, 3, 4_000_000_000]], dtype=np.uint32)
    expected = by_loops([1, 3, 4_000_000_000])
    for name, measure in OF_COUNTS.items():
        assert float(np.asarray(measure(load))[0]) == pytest.approx(expected[name]), name


def test_efficiency_is_the_readings_of_the_press():
    """MEASURES: 92 % ⇔ MaxVio 0.087, 78 % ⇔ 0.28. Mean 1000, largest 1087 and 1282."""
    assert float(efficiency([1087, 1000, 913])) == pytest.approx(0.92, abs=5e-4)
    assert float(efficiency([1282, 1000, 718])) == pytest.approx(0.78, abs=5e-4)


def test_dead_in_window():
    """MEASURES: zero tokens in the last W steps. Two layers of three: expert 0 of layer 0 died, 2 of layer 1 as well.

    Layer 1's expert 1 had a token three steps ago: alive in a window of three, dead in one of two.
    """
    load = np.ones((6, 2, 3), dtype=np.uint32)
    load[2:, 0, 0] = 0
    load[:, 1, 2] = 0
    load[4:, 1, 1] = 0
    assert dead_in_window(load, window=3) == pytest.approx(2 / 6)
    assert dead_in_window(load, window=2) == pytest.approx(3 / 6)
    assert dead_in_window(load, window=6) == pytest.approx(1 / 6)
    assert dead_in_window(load, window=100) == pytest.approx(1 / 6)
    assert dead_in_window(load) == pytest.approx(1 / 6)


def test_dead_by_share():
    """MEASURES: load < 1 % of n̄, layer by layer. (1, 2, 397, 0): n̄ = 100, only 0 is below 1; 1 is at it."""
    assert dead_by_share([[1, 2, 397, 0]]) == pytest.approx(1 / 4)
    assert dead_by_share([[1, 2, 397, 0], [5, 5, 5, 5]]) == pytest.approx(1 / 8)
    assert dead_by_share([[1, 2, 396, 2], [100, 9900, 9999, 1]]) == pytest.approx(2 / 8)  # means 100.25 and 5000


def test_dead_by_norm():
    """MEASURES: norm < 10 % of the layer's median. Median of (.2 .31 2 3 4) 2: .2 is at a tenth, .19 below it."""
    assert dead_by_norm([[0.2, 0.31, 2.0, 3.0, 4.0]]) == 0
    assert dead_by_norm([[0.19, 0.31, 2.0, 3.0, 4.0]]) == pytest.approx(1 / 5)
    # the median is each layer's own: .5 is dead beside 100, alive beside 1
    assert dead_by_norm([[0.5, 100, 100], [0.5, 1, 1]]) == pytest.approx(1 / 6)


def sampled_max_vio(tokens, experts, k, draws, seed=0):
    """Mean and standard error of MaxVio when every token draws one of all C(E, k) sets, counted set by set."""
    sets = list(combinations(range(experts), k))
    member = np.zeros((len(sets), experts))
    for row, chosen in enumerate(sets):
        member[row, list(chosen)] = 1
    load = np.random.default_rng(seed).multinomial(tokens, np.full(len(sets), 1 / len(sets)), size=draws) @ member
    vio = load.max(1) / load.mean(1) - 1
    return vio.mean(), vio.std() / math.sqrt(draws)


@pytest.mark.parametrize(
    ("tokens", "experts", "k"),
    [
        (16, 4, 1),
        (64, 16, 2),
        (256, 8, 3),
        (2048, 16, 3),
        (4096, 64, 1),
        (20_000, 16, 2),
        (1_000_000, 64, 1),
        (1_000_000, 8, 4),
        (50_000_000, 32, 2),
        (512, 256, 1),
        (2048, 256, 1),
    ],
)
def test_noise_floor_against_brute_force(tokens, experts, k):
    """MEASURES: MaxVio that i.i.d. sampling alone gives for this T, k, E; four standard errors of both simulations."""
    draws = 400 if tokens < 10_000 else 1000
    expected, error = sampled_max_vio(tokens, experts, k, 4000)
    spread = error * math.sqrt(4000)
    assert noise_floor(tokens, experts, k, draws=draws) == pytest.approx(
        expected, abs=4 * spread * math.sqrt(1 / draws + 1 / 4000)
    )


def test_noise_floor_exactly():
    """Two tokens, two experts, top-1: together (MaxVio 1) or apart (0), each with probability ½.

    One token: MaxVio E/k − 1 for sure. k = E, or a single expert: 0.
    """
    assert noise_floor(2, 2, 1, draws=4000) == pytest.approx(0.5, abs=0.04)
    assert noise_floor(1, 8, 2) == pytest.approx(3)
    assert noise_floor(100, 8, 8) == 0
    assert noise_floor(100, 1, 1) == 0


def test_noise_floor_near_its_estimate():
    """MEASURES: ≈ √(2 ln E/n̄), an upper estimate for k ≪ E; and the same call gives the same figure."""
    for experts, k in ((64, 1), (256, 4)):
        estimate = math.sqrt(2 * math.log(experts) / (k * 100_000 / experts))
        assert 0.7 * estimate < noise_floor(100_000, experts, k) < 1.05 * estimate
    assert noise_floor(4096, 64, 4) == noise_floor(4096, 64, 4)


def test_fluctuation_by_hand():
    """STRATEGIES §4: last probe whose expert is not the final one, as a share of training; tokens beyond 20/50/80 %.

    Probes at .1 .3 .6 .9 1. Token a never changes; b differs last at .1; c at .3; d at .6, having been right before;
    e at .9. Beyond .2: c d e; beyond .5: d e; beyond .8: e.
    """
    top = np.array([[4, 0, 7, 1, 0], [4, 2, 0, 2, 0], [4, 2, 7, 1, 0], [4, 2, 7, 2, 5], [4, 2, 7, 2, 3]])
    found = fluctuation(top, [0.1, 0.3, 0.6, 0.9, 1.0])
    assert found == pytest.approx({"0.2": 0.6, "0.5": 0.4, "0.8": 0.2})


@quick
@given(st.integers(1, 8), st.integers(1, 12), st.integers(0, 1000))
def test_fluctuation_against_loops(probes, tokens, seed):
    """STRATEGIES §4, token by token."""
    rng = np.random.default_rng(seed)
    top = rng.integers(0, 3, size=(probes, tokens))
    progress = np.sort(rng.random(probes))
    for share, value in fluctuation(top, progress, (0.2, 0.5)).items():
        last = [
            max((at for at, row in zip(progress, top, strict=True) if row[t] != top[-1][t]), default=-1.0)
            for t in range(tokens)
        ]
        assert value == pytest.approx(np.mean([at > float(share) for at in last]))


def test_saturation():
    """STRATEGIES §8, OLMoE: mean |S(t) ∩ S(final)|/k. Sets {0 1} {2 3}; then {0 2} {2 3}; finally {0 3} {2 3}.

    First probe: (1 + 2)/2 over 2 tokens = .75; second likewise; the last is the final one.
    """
    chosen = np.zeros((3, 2, 4), dtype=bool)
    for probe, sets in enumerate([((0, 1), (2, 3)), ((0, 2), (2, 3)), ((0, 3), (2, 3))]):
        for token, experts in enumerate(sets):
            chosen[probe, token, list(experts)] = True
    assert saturation(chosen, 2) == pytest.approx([0.75, 0.75, 1.0])
    chosen[0, 1] = [True, True, False, False]
    assert saturation(chosen, 2) == pytest.approx([0.25, 0.75, 1.0])


def mutual_information(joint):
    """Σ p(d, e) log p(d, e)/(p(d) p(e)) over H(d), term by term."""
    total = sum(map(sum, joint))
    domain = [sum(row) / total for row in joint]
    expert = [sum(column) / total for column in zip(*joint, strict=True)]
    information = sum(
        n / total * math.log(n / total / (domain[d] * expert[e]))
        for d, row in enumerate(joint)
        for e, n in enumerate(row)
        if n
    )
    return information / -sum(p * math.log(p) for p in domain if p)


def test_specialisation_by_hand():
    """MEASURES: mutual information of domain and expert over the domains' entropy.

    Two domains of 4: (3 1) and (1 3): I = ln 2 − H(¼) = ln 2 − .562335 = .130812; over ln 2: .188722.
    """
    assert specialisation([[3, 1], [1, 3]]) == pytest.approx(0.188722, abs=1e-6)
    assert specialisation([[5, 5, 0, 0], [0, 0, 1, 1]]) == pytest.approx(1)
    assert specialisation([[2, 4, 6], [1, 2, 3]]) == pytest.approx(0, abs=1e-12)
    assert specialisation([[3, 4]]) == 0
    assert specialisation([[0, 0], [0, 0]]) == 0


@quick
@given(st.lists(st.lists(st.integers(0, 100), min_size=4, max_size=4), min_size=2, max_size=5))
def test_specialisation_against_loops(joint):
    """The same term by term; between 0 and 1; blind to names and to the number of tokens."""
    assume(sum(any(row) for row in joint) >= 2)
    found = specialisation(joint)
    assert found == pytest.approx(mutual_information(joint), abs=1e-9)
    assert -1e-9 <= found <= 1 + 1e-9
    turned = [[7 * row[at] for at in (2, 0, 3, 1)] for row in reversed(joint)]
    assert specialisation(turned) == pytest.approx(found, abs=1e-9)


def test_bias_health_by_hand():
    """MEASURES: max|b|, common mode, mean |Δb|, sign flips of Δb, temporal std; here over the last four of six steps.

    One layer, experts opposite: b = ±(9, 9, 1, 3, 2, 4). Moves in the tail ±(2, −1, 2): mean 5/3, both pairs flip.
    Its std: mean 2.5, squares 2.25 .25 .25 2.25, σ = √1.25. Size 4 and common mode 0 at the end.
    """
    path = np.array([9, 9, 1, 3, 2, 4.0])
    found = bias_health(np.stack([path, -path], axis=-1)[:, None, :], 4)
    assert found["max_abs"] == pytest.approx(4)
    assert found["common"] == pytest.approx(0)
    assert found["mean_abs_step"] == pytest.approx(5 / 3)
    assert found["flip_rate"] == pytest.approx(1)
    assert found["tail_std"] == pytest.approx(math.sqrt(1.25))


def test_bias_health_tells_drift_from_oscillation():
    """A bias that drifts together has a common mode and no flips; one that oscillates flips always, and stays small."""
    steps = np.arange(40)
    drift = bias_health(np.broadcast_to(0.01 * steps[:, None, None], (40, 2, 4)), 8)
    assert drift["common"] == pytest.approx(0.39)
    assert drift["max_abs"] == pytest.approx(0.39)
    assert drift["flip_rate"] == 0
    assert drift["mean_abs_step"] == pytest.approx(0.01)
    swing = 0.001 * (-1.0) ** steps[:, None, None] * np.array([1, -1, 1, -1])
    found = bias_health(swing, 8)
    assert found["flip_rate"] == 1
    assert found["common"] == pytest.approx(0)
    assert found["max_abs"] == pytest.approx(0.001)
    assert found["mean_abs_step"] == pytest.approx(0.002)
    assert found["tail_std"] == pytest.approx(0.001)


def test_bias_health_averages_over_layers_and_experts():
    """Half of the experts swing, half climb: moves 1 everywhere, half of the consecutive pairs flip."""
    steps = np.arange(12)
    bias = np.zeros((12, 2, 2))
    bias[:, 0] = (steps % 2)[:, None] * np.array([1.0, -1.0])
    bias[:, 1] = steps[:, None] * np.array([1.0, -1.0])
    found = bias_health(bias, 12)
    assert found["flip_rate"] == pytest.approx(0.5)
    assert found["mean_abs_step"] == pytest.approx(1)
    assert found["max_abs"] == 11
    assert found["tail_std"] == pytest.approx((0.5 + math.sqrt((12**2 - 1) / 12)) / 2)


@pytest.mark.parametrize(("steps", "expected"), [(1, 1), (3, 1), (5, 1), (10, 2), (100, 20), (6000, 1200)])
def test_tail_is_a_fifth_of_training(steps, expected):
    """MEASURES: the last 20 % of steps, at least one."""
    assert tail_length(steps) == expected


def test_the_brute_force_itself():
    """Two tokens, three experts, k = 2, nine pairs of sets: equal ones load (2 2 0), others (2 1 1); n̄ = 4/3.

    MaxVio is ½ either way, so its mean is ½ and its spread nothing.
    """
    assert sampled_max_vio(2, 3, 2, 100) == (pytest.approx(0.5), pytest.approx(0))
