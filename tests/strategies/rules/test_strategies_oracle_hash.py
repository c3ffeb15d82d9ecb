"""Oracles of hash layers: which row of the map a token reads, how even the map is, and the gates."""

import numpy as np
import pytest
import torch
from oracle_lab import SIZES, build, chosen_of, gates_of, route

LENGTH = 8


def zipf(vocab, exponent=1.0):
    return torch.tensor(np.round(1e6 / np.arange(1, vocab + 1) ** exponent), dtype=torch.float32)


def ids_of(tokens, vocab, seed=0):
    return np.random.default_rng(seed).integers(0, vocab, size=tokens)


def choices(strategy, ids, experts, length=LENGTH):
    """The experts of every token as a tuple, and the gates as a table."""
    routing, _ = route(strategy, np.zeros((len(ids), experts)), tokens=ids, sequence_length=length)
    mask = chosen_of(routing, len(ids), experts)
    return [tuple(np.flatnonzero(row)) for row in mask], gates_of(routing, len(ids), experts)


def previous_of(ids, vocab, length=LENGTH):
    """The token before, within its sequence; V before the first."""
    before = np.roll(ids.reshape(-1, length), 1, axis=1)
    before[:, 0] = vocab
    return before.reshape(-1)


@pytest.mark.parametrize("variant", ["random", "balanced", "previous_token", "bigram"])
@pytest.mark.parametrize(("experts", "k"), SIZES)
def test_k_distinct_experts_with_equal_gates(experts, k, variant):
    """STRATEGIES §6: hard gate 1; for more experts per token (documented) 1/K each, times the layer's scale."""
    ids = ids_of(64, 500)
    strategy = build("hash", experts, k, variant=variant, vocab=500, counts=zipf(500), scale=2.0)
    found, gates = choices(strategy, ids, experts)
    assert all(len(chosen) == k for chosen in found)
    np.testing.assert_allclose(gates[~np.isnan(gates)], 2.0 / k, rtol=1e-6)
    assert list(strategy.parameters()) == []
    assert choices(strategy.eval(), ids, experts)[0] == found


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize(
    ("variant", "key"),
    [
        ("random", lambda ids: list(ids)),
        ("balanced", lambda ids: list(ids)),
        ("previous_token", lambda ids: list(previous_of(ids, 30))),
        ("bigram", lambda ids: list(zip(previous_of(ids, 30), ids, strict=True))),
    ],
)
def test_what_the_map_looks_at(variant, key, k):
    """STRATEGIES §6: the id; the id; the id before; both. Equal keys share their experts, others usually do not.

    32 sequences of 8 tokens out of 30 ids. Two random choices of k among 16 agree with probability 1/C(16, k) ≤ 1/16.
    """
    ids = ids_of(256, 30, seed=1)
    found, _ = choices(build("hash", 16, k, variant=variant, vocab=30, counts=zipf(30)), ids, 16)
    rows = {}
    for row, chosen in zip(key(ids), found, strict=True):
        assert rows.setdefault(row, chosen) == chosen
    keys = list(rows)
    same = [rows[a] == rows[b] for index, a in enumerate(keys) for b in keys[:index]]
    assert np.mean(same) < 0.15
    assert len(set(rows.values())) > 12


def test_bigrams_that_share_a_token_are_mapped_apart():
    """Both ids matter alike: (a, x) against (a, y), (x, b) against (y, b), (a, b) against (b, a); chance is 1/16."""
    pairs = np.array([[a, b] for a in range(24) for b in range(24)])
    found, _ = choices(build("hash", 16, 1, variant="bigram", vocab=24), pairs.reshape(-1), 16, length=2)
    table = np.array([chosen[0] for chosen in found[1::2]]).reshape(24, 24)
    off = ~np.eye(24, dtype=bool)
    for same in (
        (table[:, :, None] == table[:, None, :])[:, off],
        (table[:, None, :] == table[None, :, :])[off],
        (table == table.T)[off],
    ):
        assert 0.02 < same.mean() < 0.13
    assert np.bincount(table.reshape(-1), minlength=16).max() < 3 * 36


def test_no_sequence_sees_the_one_before():
    """Contract: sequences one after another; the first token of each has the reserved id before it."""
    strategy = build("hash", 64, 2, variant="previous_token", vocab=30)
    found, _ = choices(strategy, ids_of(64, 30, seed=2), 64)
    assert len({found[at] for at in range(0, 64, LENGTH)}) == 1


@pytest.mark.parametrize("experts", [4, 16, 64, 256])
def test_random_map_is_uniform(experts):
    """STRATEGIES §6, random: V ids fall on E experts like V throws of a die; χ² within 5 deviations of E − 1."""
    vocab = 40 * experts
    found, _ = choices(build("hash", experts, 1, vocab=vocab), np.arange(vocab), experts)
    load = np.bincount([chosen[0] for chosen in found], minlength=experts)
    chi2 = ((load - 40) ** 2 / 40).sum()
    assert abs(chi2 - (experts - 1)) < 5 * np.sqrt(2 * (experts - 1))


@pytest.mark.parametrize("experts", [4, 16, 64])
def test_balanced_map_is_the_greedy_one(experts):
    """STRATEGIES §6, balanced: the most frequent token to the emptiest expert. Loads as the greedy rule's, sorted."""
    counts = zipf(1000, exponent=0.8)
    shuffled = counts[torch.randperm(1000, generator=torch.Generator().manual_seed(0))]
    expected = np.zeros(experts)
    for count in np.sort(shuffled.double().numpy())[::-1]:
        expected[expected.argmin()] += count
    found, _ = choices(
        build("hash", experts, 1, variant="balanced", vocab=1000, counts=shuffled), np.arange(1000), experts
    )
    load = np.bincount([chosen[0] for chosen in found], weights=shuffled.double().numpy(), minlength=experts)
    np.testing.assert_allclose(np.sort(load), np.sort(expected), rtol=1e-5)


def test_balanced_map_by_hand():
    """STRATEGIES §6: counts 5 4 3 3 1 on two experts: 5 | 4, 3 to the 4, 3 to the 5, then 7 | 8: 1 to the 7. 8 | 8."""
    counts = torch.tensor([3.0, 5.0, 1.0, 4.0, 3.0])
    found, _ = choices(build("hash", 2, 1, variant="balanced", vocab=5, counts=counts), np.arange(5), 2, length=5)
    expert = [chosen[0] for chosen in found]
    load = np.bincount(expert, weights=counts.numpy(), minlength=2)
    assert load.tolist() == [8.0, 8.0]
    assert expert[1] != expert[3]


def test_balanced_maps_for_several_experts():
    """Documented: K tables that agree on no token. Each greedy, so together far more even than as many random ones."""
    vio = {}
    for variant in ("balanced", "random"):
        strategy = build("hash", 16, 4, variant=variant, vocab=1000, counts=zipf(1000, exponent=0.8))
        found, _ = choices(strategy, np.arange(1000), 16)
        load = np.zeros(16)
        for count, chosen in zip(zipf(1000, exponent=0.8).tolist(), found, strict=True):
            load[list(chosen)] += count
        vio[variant] = load.max() / load.mean() - 1
    assert vio["balanced"] < 0.02 < 0.2 < vio["random"]


def test_a_frequent_token_caps_balance():
    """STRATEGIES §6 [T]: with the commonest token at frequency p, MaxVio ≥ pE − 1; greedy meets it when p is large."""
    counts = torch.cat([torch.tensor([300.0]), torch.ones(700)])  # p = .3, E = 16: 3.8
    found, _ = choices(
        build("hash", 16, 1, variant="balanced", vocab=701, counts=counts), np.arange(701), 16, length=701
    )
    load = np.bincount([chosen[0] for chosen in found], weights=counts.numpy(), minlength=16)
    assert load.max() / load.mean() - 1 == pytest.approx(0.3 * 16 - 1)


def test_seeds_draw_different_maps():
    """Contract: the map comes from the trial's seed; the same seed gives the same map."""
    ids = np.arange(200)
    first, again, other = (choices(build("hash", 16, 2, vocab=200, seed=seed), ids, 16)[0] for seed in (0, 0, 1))
    assert first == again
    assert np.mean([a == b for a, b in zip(first, other, strict=True)]) < 0.1
