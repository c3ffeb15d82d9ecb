"""Oracles of StableMoE: both losses, both stages, the frozen table."""

import numpy as np
import pytest
import torch
from oracle_lab import SCORES, VOCABULARY, best, build, draw, gated, gates_of, route, scores_of, slope

SHAPES = [(4, 1), (16, 1), (16, 4), (64, 2), (256, 8)]


def distilled(strategy):
    """The distilled router as a float64 table of scores per token id, (V, E): ŝ = Ê D(x)."""
    table = strategy.distilled_table_VC.detach().double().numpy()
    return table @ strategy.distilled_centroid_EC.detach().double().numpy().T


def spread_out(strategy):
    """Larger distilled weights, so that its scores are far from ties."""
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        strategy.distilled_table_VC.normal_(generator=rng)
        strategy.distilled_centroid_EC.normal_(generator=rng)
    return strategy


def balance_loss(scores, mask, k):
    """STRATEGIES §4 (eq. 4) over T: Σ_i (n_i − n̄)/n̄ Σ_{t∈A_i} s_ti / T, n̄ = kT/E."""
    tokens, experts = scores.shape
    mean = k * tokens / experts
    excess = (mask.sum(0) - mean) / mean
    return (excess * np.where(mask, scores, 0).sum(0)).sum() / tokens


def distillation_loss(table, ids, mask, k):
    """STRATEGIES §4: cross-entropy of softmax ŝ against the chosen set, uniform over it; mean over tokens."""
    logits = table[ids]
    log_probability = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return -(np.where(mask, log_probability, 0).sum(-1) / k).mean()


def test_balance_loss_by_hand():
    """STRATEGIES §4, α = 0.3: logits 0 or ±ln 3, so σ = ½, ¾. Four tokens, two experts, n̄ = 2.

    Three tokens (ln 3, 0) choose expert 0 with σ = ¾, one (0, ln 3) expert 1: excess (½, −½),
    ½ · 3 · ¾ − ½ · ¾ = ¾; over T: 3/16; times .3: .05625.
    """
    logits = np.log([[3.0, 1], [3, 1], [3, 1], [1, 3]])
    routing, _ = route(build("stable_moe", 2, 1), logits)
    assert routing.losses["balance"].item() == pytest.approx(0.05625, rel=1e-5)
    assert routing.gate_A.tolist() == pytest.approx([0.75] * 4)


@pytest.mark.parametrize("function", SCORES)
@pytest.mark.parametrize(("experts", "k"), SHAPES)
def test_stage_one(experts, k, function):
    """STRATEGIES §4: the backbone chooses, gates are its scores, both losses; the table learns the choice."""
    ids = np.random.default_rng(k).integers(0, VOCABULARY, size=48)
    logits = draw(48, experts, seed=experts + k, skew=2)
    strategy = spread_out(build("stable_moe", experts, k, score=function, balance=0.7, distill_factor=0.3))
    strategy.schedule(0.0)
    routing, _ = route(strategy, logits, tokens=ids)
    scores, mask = scores_of(logits, function), best(logits, k)
    np.testing.assert_allclose(
        gates_of(routing, 48, experts), gated(scores, mask, normalize=False), rtol=2e-5, atol=1e-7
    )
    assert set(routing.losses) == {"balance", "distillation"}
    assert routing.losses["balance"].item() == pytest.approx(0.7 * balance_loss(scores, mask, k), rel=1e-4, abs=1e-6)
    expected = 0.3 * distillation_loss(distilled(strategy), ids, mask, k)
    assert routing.losses["distillation"].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("experts", "k"), [(5, 1), (6, 2)])
def test_gradients_of_the_losses(experts, k):
    """STRATEGIES §4: balance through σ alone to the backbone; distillation to D and Ê alone. Central differences."""
    ids = np.array([0, 3, 3, 1, 2, 0])
    logits = draw(6, experts, seed=k, skew=2)
    mask = best(logits, k)
    strategy = spread_out(build("stable_moe", experts, k, vocab=4, embedding_width=3))
    routing, hidden = route(strategy, logits, tokens=ids)
    routing.losses["balance"].backward(retain_graph=True)
    expected = slope(lambda x: 0.3 * balance_loss(scores_of(x, "sigmoid"), mask, k), logits)
    np.testing.assert_allclose(hidden.grad.numpy(), expected, rtol=1e-3, atol=1e-6)
    assert strategy.distilled_table_VC.grad is None
    before = hidden.grad.clone()
    routing.losses["distillation"].backward()
    assert torch.equal(hidden.grad, before)
    table, centroid = (
        parameter.detach().double().numpy()
        for parameter in (strategy.distilled_table_VC, strategy.distilled_centroid_EC)
    )
    expected = slope(lambda x: distillation_loss(x @ centroid.T, ids, mask, k), table)
    np.testing.assert_allclose(strategy.distilled_table_VC.grad.numpy(), expected, rtol=1e-3, atol=1e-5)
    expected = slope(lambda x: distillation_loss(table @ x.T, ids, mask, k), centroid)
    np.testing.assert_allclose(strategy.distilled_centroid_EC.grad.numpy(), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("function", SCORES)
@pytest.mark.parametrize(("experts", "k"), SHAPES)
def test_stage_two(experts, k, function):
    """STRATEGIES §4: the frozen distilled router chooses, the gate stays the backbone's score; the task loss only."""
    ids = np.random.default_rng(k).integers(0, VOCABULARY, size=48)
    logits = draw(48, experts, seed=experts + k)
    strategy = spread_out(build("stable_moe", experts, k, score=function))
    strategy.schedule(0.5)
    mask = best(distilled(strategy), k)[ids]
    expected = gated(scores_of(logits, function), mask, normalize=False)
    for mode in (True, False):
        routing, hidden = route(strategy.train(mode), logits, tokens=ids)
        np.testing.assert_allclose(gates_of(routing, 48, experts), expected, rtol=2e-5, atol=1e-7)
        assert routing.losses == {}
    routing.gate_A.sum().backward()
    assert (hidden.grad.numpy()[mask] != 0).all()
    trainable = {name for name, parameter in strategy.named_parameters() if parameter.requires_grad}
    assert trainable == {"router.weight_ED"}


@pytest.mark.parametrize("share", [0.1, 0.35])
def test_the_freeze_comes_after_its_share_of_training(share):
    """STRATEGIES §4: 6K of 60K steps are stage 1. With N steps, progress s/N: step share · N is the first frozen."""
    strategy = build("stable_moe", 4, 1, **({} if share == 0.1 else {"stage_one": share}))
    for step in range(100):
        strategy.schedule(step / 100)
        routing, _ = route(strategy, draw(8, 4))
        assert bool(routing.losses) == (step < round(100 * share))
        assert strategy.distilled_table_VC.requires_grad == (step < round(100 * share))


def test_inference_before_the_freeze():
    """STRATEGIES §4, code fact: eval uses the distilled router even in stage 1; "backbone" is the other reading."""
    ids = np.arange(24)
    logits = draw(24, 16, seed=1)
    for config, by_table in (({}, True), ({"stage_one_eval": "backbone"}, False)):
        strategy = spread_out(build("stable_moe", 16, 2, **config)).eval()
        mask = best(distilled(strategy), 2)[ids] if by_table else best(logits, 2)
        expected = gated(scores_of(logits, "sigmoid"), mask, normalize=False)
        np.testing.assert_allclose(gates_of(route(strategy, logits, tokens=ids)[0], 24, 16), expected, rtol=2e-5)


def test_distilled_router_has_the_papers_width():
    """STRATEGIES §4: 50 dimensions, 2.51M more parameters for a vocabulary of 50,257: 50,257 × 50 = 2,512,850."""
    strategy = build("stable_moe", 4, 1, vocab=50257)
    assert strategy.distilled_table_VC.numel() == 2_512_850
    assert tuple(strategy.distilled_centroid_EC.shape) == (4, 50)
