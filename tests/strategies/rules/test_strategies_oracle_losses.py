"""Oracles of everything that is added to the objective: aux loss in its scopes, SimBal, z-loss, sequence loss."""

import numpy as np
import pytest
import torch
from oracle_lab import SCORES, SIZES, best, build, draw, route, scores_of, slope

from strategies import registry
from strategies.framework.contract import LayerSpec, RouteContext

UPHILL = np.log([0.1, 0.2, 0.3, 0.4])  # as logits of a softmax: those probabilities
DOWNHILL = np.log([0.4, 0.3, 0.2, 0.1])


def switch_loss(logits, k, function, *, mask=None, counted=None):
    """E · Σ f_j P_j without the coefficient; `counted`: the choices f is taken of, if not these tokens' own."""
    scores = scores_of(logits, function)
    share = best(scores, k) if mask is None else mask
    share = share if counted is None else counted
    mean_share_E = share.mean(0) / k
    mean_probability_E = (scores / scores.sum(-1, keepdims=True)).mean(0)
    return scores.shape[1] * (mean_share_E * mean_probability_E).sum()


def by_sequence(loss, logits, length, masks=None):
    parts = [slice(start, start + length) for start in range(0, len(logits), length)]
    return np.mean([loss(logits[part], None if masks is None else masks[part]) for part in parts])


def test_aux_loss_by_hand():
    """STRATEGIES §3, Megatron's form [P]: L = α E Σ f_j P_j, f = n/(kT).

    Three tokens (.4 .3 .2 .1), one (.1 .2 .3 .4), top-1: f = (3/4, 0, 0, 1/4), P = (.325 .275 .225 .175),
    Σ f P = .24375 + .04375 = .2875, L = .01 · 4 · .2875 = .0115.
    In sequences of two: 4 · .4 = 1.6 for the first; f = (1/2, 0, 0, 1/2), P = 1/4 each, so 1 for the second;
    L = .01 · 1.3 = .013.
    """
    logits = [DOWNHILL, DOWNHILL, DOWNHILL, UPHILL]
    routing, _ = route(build("aux_loss", 4, 1, score="softmax"), logits)
    assert routing.losses["balance"].item() == pytest.approx(0.0115, rel=1e-5)
    routing, _ = route(build("aux_loss", 4, 1, score="softmax", scope="sequence"), logits, sequence_length=2)
    assert routing.losses["balance"].item() == pytest.approx(0.013, rel=1e-5)


def test_aux_loss_over_the_global_batch_by_hand():
    """STRATEGIES §3, Megatron's `global_aux_loss` [P]: f of all micro-batches so far, P of this one.

    First micro-batch up, down: f = (1/2, 0, 0, 1/2), P = 1/4, so α · 1. Second down, down: f of all four tokens
    = (3/4, 0, 0, 1/4), P = (.4 .3 .2 .1), 4 · (.3 + .025) = 1.3. After a step the count begins again: 4 · .4 = 1.6.
    """
    strategy = build("aux_loss", 4, 1, score="softmax", scope="global_batch", coefficient=0.01)
    first = route(strategy, [UPHILL, DOWNHILL])[0].losses["balance"].item()
    second = route(strategy, [DOWNHILL, DOWNHILL])[0].losses["balance"].item()
    strategy.rebalance(torch.tensor([3.0, 0, 0, 1.0]), {})
    third = route(strategy, [DOWNHILL, DOWNHILL])[0].losses["balance"].item()
    assert [first, second, third] == pytest.approx([0.01, 0.013, 0.016], rel=1e-5)


@pytest.mark.parametrize("function", SCORES)
@pytest.mark.parametrize(("experts", "k"), SIZES)
def test_aux_loss(experts, k, function):
    """STRATEGIES §3: the top-k form, for any score function P_j = mean of s/Σs."""
    logits = draw(48, experts, seed=experts + k)
    routing, _ = route(build("aux_loss", experts, k, score=function, coefficient=0.3), logits, sequence_length=12)
    expected = 0.3 * switch_loss(logits, k, function)
    assert routing.losses["balance"].item() == pytest.approx(expected, rel=1e-4)
    strategy = build("aux_loss", experts, k, score=function, coefficient=0.3, scope="sequence")
    routing, _ = route(strategy, logits, sequence_length=12)
    expected = 0.3 * by_sequence(lambda x, _: switch_loss(x, k, function), logits, 12)
    assert routing.losses["balance"].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("experts", [4, 16, 64])
def test_aux_loss_is_its_coefficient_where_routing_is_uniform(experts):
    """STRATEGIES §3: uniform value = α for every k. Each token prefers the next experts in turn, all equally often."""
    base = np.linspace(2, -2, experts)
    logits = np.stack([np.roll(base, shift) for shift in range(experts)])
    for k in (1, 2, 4):
        routing, _ = route(build("aux_loss", experts, k, coefficient=0.7), logits)
        assert routing.losses["balance"].item() == pytest.approx(0.7, rel=1e-5)


@pytest.mark.parametrize("scope", ["micro_batch", "sequence", "global_batch"])
@pytest.mark.parametrize("function", SCORES)
def test_aux_loss_gradient(function, scope):
    """STRATEGIES §3: gradient only through P. Central differences of the NumPy loss, f held fixed."""
    logits = draw(6, 5, seed=3)
    mask = best(logits, 2)
    routing, hidden = route(
        build("aux_loss", 5, 2, score=function, coefficient=2.0, scope=scope), logits, sequence_length=3
    )
    routing.losses["balance"].backward()

    def loss(x):
        if scope == "sequence":
            return 2 * by_sequence(lambda part, held: switch_loss(part, 2, function, mask=held), x, 3, mask)
        return 2 * switch_loss(x, 2, function, mask=mask)

    np.testing.assert_allclose(hidden.grad.numpy(), slope(loss, logits), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("experts", "k"), [(4, 1), (16, 2), (64, 8)])
def test_aux_loss_over_the_global_batch(experts, k):
    """STRATEGIES §3, global-batch form: over two ranks and three micro-batches f is of everything so far, P local.

    The other rank's run is recorded first: whatever this one sums over ranks is added to what the other one summed.
    """
    logits = [[draw(16, experts, seed=10 * rank + micro) for micro in range(3)] for rank in range(2)]
    config = {"score": "softmax", "scope": "global_batch", "coefficient": 1.0}
    recorded = []

    def record(value):
        recorded.append(value.clone())
        return value

    other = build("aux_loss", experts, k, **config)
    for part in logits[1]:
        route(other, part, total=record)
    replay = iter(recorded)
    strategy = build("aux_loss", experts, k, **config)
    for micro in range(3):
        routing, _ = route(strategy, logits[0][micro], total=lambda value: value + next(replay))
        seen = np.concatenate([best(part, k) for rank in range(2) for part in logits[rank][: micro + 1]])
        expected = switch_loss(logits[0][micro], k, "softmax", counted=seen)
        assert routing.losses["balance"].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("experts", [4, 16, 256])
def test_z_loss(experts):
    """STRATEGIES §3, ST-MoE: mean_t (logsumexp_j logits)². All logits ln a: logsumexp = ln(E a)."""
    routing, _ = route(build("none", experts, 2, terms={"z_loss": 1e-3}), np.full((3, experts), np.log(2)))
    assert routing.losses["z_loss"].item() == pytest.approx(1e-3 * np.log(2 * experts) ** 2, rel=1e-5)
    logits = draw(20, experts, seed=1)
    routing, _ = route(build("sign_bias", experts, 2, terms={"z_loss": 0.5}), logits)
    expected = 0.5 * np.mean(np.log(np.exp(logits.astype(np.float64)).sum(-1)) ** 2)
    assert routing.losses["z_loss"].item() == pytest.approx(expected, rel=1e-5)


def test_z_loss_gradient():
    """d/dx of mean (logsumexp)² against central differences."""
    logits = draw(4, 5, seed=2)
    routing, hidden = route(build("none", 5, 1, terms={"z_loss": 1.5}), logits)
    routing.losses["z_loss"].backward()
    expected = slope(lambda x: 1.5 * np.mean(np.log(np.exp(x).sum(-1)) ** 2), logits)
    np.testing.assert_allclose(hidden.grad.numpy(), expected, rtol=1e-3, atol=1e-6)


def test_sequence_loss_by_hand():
    """STRATEGIES §2, DeepSeek-V3: L = α Σ f_j P_j within a sequence, f_j = E/(k S) · chosen, averaged over sequences.

    Top-2 of four, sequence one (down, up): each expert chosen once, f = 4/(2·2) = 1, P = 1/4: 1.
    Sequence two (down, down): f = (2, 2, 0, 0), P = (.4 .3 .2 .1): 1.4. Average 1.2.
    """
    strategy = build("none", 4, 2, score="softmax", terms={"sequence_loss": 1e-4})
    routing, _ = route(strategy, [DOWNHILL, UPHILL, DOWNHILL, DOWNHILL], sequence_length=2)
    assert routing.losses["sequence_loss"].item() == pytest.approx(1.2e-4, rel=1e-5)


@pytest.mark.parametrize("function", SCORES)
@pytest.mark.parametrize(("experts", "k"), SIZES)
def test_sequence_loss_counts_the_unbiased_choice(experts, k, function):
    """STRATEGIES §2: TopK of s itself. SMEBU as published has it beside a bias that here overrules every score."""
    logits = draw(32, experts, seed=k)
    strategy = build("smebu", experts, k, score=function, terms={"sequence_loss": 0.2})
    with torch.no_grad():
        strategy.bias_E.copy_(5.0 * torch.arange(experts))
    routing, _ = route(strategy, logits, sequence_length=8)
    assert routing.expert_A.min() >= experts - k
    expected = 0.2 * by_sequence(lambda x, _: switch_loss(x, k, function), logits, 8)
    assert routing.losses["sequence_loss"].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", ["sinkhorn", "expert_choice", "base", "stable_moe", "quantile"])
def test_sequence_loss_beside_rules_that_choose_otherwise(name):
    """The term is the same function of the scores, whatever the rule it stands beside."""
    logits = draw(32, 16, seed=5, skew=2)
    strategy = build(name, 16, 2, terms={"sequence_loss": 1.0})
    routing, _ = route(strategy, logits, sequence_length=16)
    expected = by_sequence(lambda x, _: switch_loss(x, 2, "sigmoid"), logits, 16)
    assert routing.losses["sequence_loss"].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("function", SCORES)
def test_sequence_loss_gradient(function):
    """The choice is a count: gradient through P alone, against central differences."""
    logits = draw(6, 4, seed=4)
    mask = best(logits, 2)
    routing, hidden = route(
        build("none", 4, 2, score=function, terms={"sequence_loss": 1.0}), logits, sequence_length=2
    )
    routing.losses["sequence_loss"].backward()
    expected = slope(
        lambda x: by_sequence(lambda part, held: switch_loss(part, 2, function, mask=held), x, 2, mask), logits
    )
    np.testing.assert_allclose(hidden.grad.numpy(), expected, rtol=1e-3, atol=1e-6)


def test_terms_are_reported_one_by_one_and_only_in_training():
    """Contract: named terms, beside the rule's own; none while evaluating."""
    strategy = build("aux_loss", 4, 2, terms={"z_loss": 1e-3, "sequence_loss": 1e-4})
    assert set(route(strategy, draw(8, 4))[0].losses) == {"balance", "z_loss", "sequence_loss"}
    assert not {"z_loss", "sequence_loss"} & set(route(strategy.eval(), draw(8, 4))[0].losses)


def simbal(width, experts, weight_ED, coefficient):
    spec = LayerSpec(width=width, num_experts=experts, top_k=1, vocab_size=9)
    strategy = registry.build(registry.get("simbal"), spec, {"coefficient": coefficient})
    (weight,) = strategy.parameters()
    with torch.no_grad():
        weight.copy_(torch.tensor(weight_ED, dtype=torch.float32))
    hidden = torch.ones(2, width)
    routing = strategy(hidden, torch.zeros(2, dtype=torch.int64), RouteContext(sequence_length=2))
    return routing.losses["orthogonality"], weight


def test_simbal_by_hand():
    """STRATEGIES §7: ‖RᵀR − I_E‖₁, entries summed.

    Rows (3, 0), (1, 1): inner products 9, 3, 3, 2; minus I: 8, 3, 3, 1, together 15. Orthonormal rows: 0.
    Three unit rows e₁, e₂, e₁ in two dimensions: only the pair (1, 3) overlaps, twice 1: 2.
    """
    assert simbal(2, 2, [[3, 0], [1, 1]], 0.1)[0].item() == pytest.approx(1.5, rel=1e-6)
    assert simbal(3, 2, [[0, 1, 0], [0, 0, 1]], 0.1)[0].item() == 0
    assert simbal(2, 3, [[1, 0], [0, 1], [1, 0]], 0.1)[0].item() == pytest.approx(0.2, rel=1e-6)


@pytest.mark.parametrize(("width", "experts"), [(16, 4), (8, 16), (32, 64)])
def test_simbal(width, experts):
    """STRATEGIES §7: value and gradient, more experts than dimensions included."""
    weight = np.random.default_rng(experts).normal(size=(experts, width)) / np.sqrt(width)
    loss, parameter = simbal(width, experts, weight, 0.3)

    def norm(rows_ED):
        return 0.3 * np.abs(rows_ED @ rows_ED.T - np.eye(experts)).sum()

    assert loss.item() == pytest.approx(norm(weight), rel=1e-5)
    if experts <= 16:
        loss.backward()
        expected = slope(norm, parameter.detach().double().numpy(), step=1e-7)
        np.testing.assert_allclose(parameter.grad.numpy(), expected, rtol=1e-3, atol=1e-4)
