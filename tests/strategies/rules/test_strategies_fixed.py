"""Rules without a learned choice: none, dense and the hash variants."""

import numpy as np
import pytest
import torch
from strategy_lab import batch, best, chosen, layer, logits_of, route, sigmoid, softmax

from strategies.dense import Dense
from strategies.hash import PRIME, Hash, balanced_map
from strategies.none import NoBalancing


@pytest.mark.parametrize(
    ("score", "oracle"),
    [("sigmoid", sigmoid), ("softmax", softmax), ("sqrt_softplus", lambda x: np.sqrt(np.log1p(np.exp(x))))],
)
@pytest.mark.parametrize("top_k", [1, 3])
@pytest.mark.parametrize("normalize", [True, False])
def test_none_is_plain_top_k(score, oracle, top_k, normalize):
    spec = layer(top_k=top_k, score=score, normalize_gates=normalize, route_scale=1.5)
    strategy = NoBalancing(spec)
    hidden_TD, tokens_T = batch()
    routing = route(strategy, hidden_TD, tokens_T)
    scores_TE = oracle(logits_of(strategy, hidden_TD))
    picks_TK = best(scores_TE, top_k)
    gates_TK = np.take_along_axis(scores_TE, picks_TK, 1)
    if normalize and top_k > 1:
        gates_TK /= gates_TK.sum(1, keepdims=True)
    assert (chosen(routing) == picks_TK).all()
    assert routing.gate_A.view(-1, top_k).detach().numpy() == pytest.approx(1.5 * gates_TK, rel=1e-5)
    assert routing.token_A.tolist() == [t for t in range(64) for _ in range(top_k)]


def test_dense_builds_k_experts_and_sends_every_token_to_all():
    spec = layer(num_experts=8, top_k=3, route_scale=2.0)
    routing = route(Dense(spec), *batch(num_tokens=16))
    assert Dense.experts_to_build(spec) == 3
    assert (chosen(routing) == [0, 1, 2]).all()
    assert (routing.gate_A == 1).all()
    assert routing.logits_TE is None


@pytest.mark.parametrize("variant", ["random", "balanced", "previous_token", "bigram"])
@pytest.mark.parametrize("top_k", [1, 3])
def test_hash_names_k_distinct_experts_with_gates_that_add_up_to_one(variant, top_k):
    strategy = Hash(layer(top_k=top_k, token_counts_V=torch.arange(50)), Hash.Config(variant=variant))
    routing = route(strategy, *batch())
    assert all(len(set(row)) == top_k for row in chosen(routing).tolist())
    assert routing.gate_A.tolist() == pytest.approx([1 / top_k] * (64 * top_k))
    assert not list(strategy.parameters())


@pytest.mark.parametrize(
    ("variant", "features"),
    [
        ("random", lambda previous, current: current),
        ("balanced", lambda previous, current: current),
        ("previous_token", lambda previous, current: previous),
        ("bigram", lambda previous, current: (previous, current)),
    ],
)
def test_hash_depends_on_its_feature_and_on_nothing_else(variant, features):
    strategy = Hash(layer(top_k=2, vocab_size=5, token_counts_V=torch.ones(5).long()), Hash.Config(variant=variant))
    hidden_TD, tokens_T = batch(num_tokens=512, vocab_size=5)
    picks_TK = chosen(route(strategy, hidden_TD, tokens_T))
    experts_of = {}
    for t, token in enumerate(tokens_T.tolist()):
        previous = "start" if t % 16 == 0 else tokens_T[t - 1].item()
        experts_of.setdefault(features(previous, token), set()).add(tuple(picks_TK[t]))
    assert all(len(experts) == 1 for experts in experts_of.values())
    assert len({next(iter(experts)) for experts in experts_of.values()}) > 2  # and it does tell features apart


def test_bigram_row_is_a_universal_hash():
    strategy = Hash(layer(top_k=1), Hash.Config(variant="bigram"))
    tokens_T = torch.tensor([7, 3, 9, 3])
    a, b, c = strategy.mixer.tolist()
    rows = [(a * previous + b * current + c) % PRIME % 65536 for previous, current in ((50, 7), (7, 3), (3, 9), (9, 3))]
    expected = [strategy.experts_RK[row, 0].item() for row in rows]
    assert route(strategy, torch.zeros(4, 16), tokens_T, sequence_length=4).expert_A.tolist() == expected


def test_hash_spreads_bigrams_and_random_tokens_evenly():
    for variant in ("random", "bigram"):
        spec = layer(num_experts=8, top_k=1, vocab_size=20000)
        routing = route(Hash(spec, Hash.Config(variant=variant)), *batch(num_tokens=20000, vocab_size=20000))
        load_E = np.bincount(routing.expert_A.numpy(), minlength=8)
        assert np.abs(load_E / 2500 - 1).max() < 0.1  # five standard deviations of a binomial


def test_hash_depends_on_the_seed_and_the_layer_only():
    def experts(**changes):
        return Hash(layer(top_k=2, **changes)).experts_RK

    torch.manual_seed(1)
    first = experts()
    torch.manual_seed(2)
    assert torch.equal(first, experts())
    assert not torch.equal(first, experts(seed=1))
    assert not torch.equal(first, experts(layer=1))


def test_balanced_map_by_hand():
    # From the most frequent: 5 → A, 3 → B, 2 → B (3 < 5), 2 → A or B (5 = 5, fewer tokens: A), 1 → B
    counts_V = torch.tensor([1, 5, 2, 3, 2])
    map_V = balanced_map(counts_V, 2, 1, torch.Generator().manual_seed(0))[:, 0].tolist()
    a, b = map_V[1], map_V[3]
    assert a != b
    assert sorted([map_V[2], map_V[4]]) == sorted([a, b])
    assert map_V[0] == b
    load = {a: 0, b: 0}
    for token, expert in enumerate(map_V):
        load[expert] += counts_V[token].item()
    assert sorted(load.values()) == [6, 7]


@pytest.mark.parametrize("top_k", [1, 2])
def test_balanced_map_is_the_greedy_one(top_k):
    """A slow greedy with full scans; it names experts otherwise, so loads are compared."""
    counts_V = torch.from_numpy(np.random.default_rng(0).integers(1, 10**12, 200))
    map_VK = balanced_map(counts_V, 6, top_k, torch.Generator().manual_seed(0)).numpy()
    load, taken = np.zeros(6, int), [set() for _ in range(200)]
    for _ in range(top_k):
        for token in np.argsort(-counts_V.numpy()):
            expert = min((e for e in range(6) if e not in taken[token]), key=lambda e: load[e])
            load[expert] += counts_V[token]
            taken[token].add(expert)
    ours = np.bincount(map_VK.ravel(), np.repeat(counts_V.numpy(), top_k), minlength=6)
    assert sorted(ours) == sorted(load)


def test_balanced_map_spreads_tokens_that_training_never_sees():
    map_V = balanced_map(torch.zeros(80).long(), 8, 1, torch.Generator().manual_seed(0))[:, 0]
    assert torch.bincount(map_V, minlength=8).tolist() == [10] * 8


def test_balanced_beats_random_on_a_skewed_vocabulary():
    counts_V = (1e6 / torch.arange(10, 1010)).long()

    def max_vio(variant):
        spec = layer(num_experts=8, top_k=1, vocab_size=1000, token_counts_V=counts_V)
        experts_V = Hash(spec, Hash.Config(variant=variant)).experts_RK[:, 0]
        load_E = torch.bincount(experts_V, counts_V.double(), minlength=8)
        return load_E.max() / load_E.mean() - 1

    assert max_vio("balanced") < 0.01 < max_vio("random")


def test_balanced_needs_counts():
    with pytest.raises(ValueError, match=r"hash.variant: 'balanced' needs the token counts"):
        Hash(layer(), Hash.Config(variant="balanced"))
