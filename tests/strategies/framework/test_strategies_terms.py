"""Auxiliary terms against loops in NumPy and numbers worked by hand."""

import math

import numpy as np
import pytest
import torch
from strategy_lab import batch, best, layer, logits_of, route, sigmoid, softmax

from strategies.dense import Dense
from strategies.hash import Hash
from strategies.none import NoBalancing
from strategies.sign_bias import SignBias


def test_z_loss_is_the_mean_squared_logsumexp():
    strategy = NoBalancing(layer(num_experts=2, top_k=1, width=2), terms={"z_loss": 0.5})
    strategy.router.weight_ED.data = torch.eye(2)
    hidden_TD = torch.tensor([[0.0, 0.0], [math.log(3), math.log(5)]])  # logits are the hidden state
    routing = route(strategy, hidden_TD, torch.zeros(2, dtype=torch.long), sequence_length=2)
    # logsumexp: ln 2 and ln 8; 0.5 · (ln² 2 + ln² 8)/2
    assert routing.losses["z_loss"].item() == pytest.approx(0.25 * (math.log(2) ** 2 + math.log(8) ** 2))


@pytest.mark.parametrize("score", ["sigmoid", "softmax", "sqrt_softplus"])
@pytest.mark.parametrize("top_k", [1, 3])
def test_sequence_loss_follows_deepseek_v3(score, top_k):
    strategy = NoBalancing(layer(top_k=top_k, score=score), terms={"sequence_loss": 0.01})
    hidden_TD, tokens_T = batch(num_tokens=48)
    value = route(strategy, hidden_TD, tokens_T).losses["sequence_loss"].item()

    logits_TE = logits_of(strategy, hidden_TD)
    functions = {"sigmoid": sigmoid, "softmax": softmax, "sqrt_softplus": lambda x: np.sqrt(np.log1p(np.exp(x)))}
    scores_TE = functions[score](logits_TE)
    losses = []
    for start in (0, 16, 32):
        scores_SE = scores_TE[start : start + 16]
        loss = 0.0
        for expert in range(8):
            f = 8 / (top_k * 16) * sum(expert in row for row in best(scores_SE, top_k))  # eq. 18
            p = np.mean([row[expert] / row.sum() for row in scores_SE])  # eqs. 19 and 20
            loss += f * p  # eq. 17
        losses.append(loss)
    assert value == pytest.approx(0.01 * np.mean(losses), rel=1e-5)


def test_sequence_loss_counts_the_unbiased_choice():
    terms = {"sequence_loss": 1.0}
    plain, biased = NoBalancing(layer(), terms=terms), SignBias(layer(), terms=terms)
    biased.bias_E += torch.linspace(-5, 5, 8)
    hidden_TD, tokens_T = batch()
    a, b = route(plain, hidden_TD, tokens_T), route(biased, hidden_TD, tokens_T)
    assert not torch.equal(a.expert_A, b.expert_A)
    assert a.losses["sequence_loss"].item() == b.losses["sequence_loss"].item()


def test_terms_reach_the_router_and_are_absent_at_inference():
    strategy = NoBalancing(layer(), terms={"z_loss": 1.0, "sequence_loss": 1.0})
    hidden_TD, tokens_T = batch()
    for loss in route(strategy, hidden_TD, tokens_T).losses.values():
        (gradient_ED,) = torch.autograd.grad(loss, strategy.router.weight_ED, retain_graph=True)
        assert gradient_ED.abs().sum() > 0
    assert route(strategy.eval(), hidden_TD, tokens_T).losses == {}


def test_terms_are_means_so_that_micro_batches_average_to_the_batch():
    strategy = NoBalancing(layer(), terms={"z_loss": 1.0, "sequence_loss": 1.0})
    hidden_TD, tokens_T = batch()
    whole = route(strategy, hidden_TD, tokens_T).losses
    parts = [route(strategy, h, t).losses for h, t in zip(hidden_TD.chunk(4), tokens_T.chunk(4), strict=True)]
    for name, value in whole.items():
        assert value.item() == pytest.approx(sum(part[name].item() for part in parts) / 4, rel=1e-5)


@pytest.mark.parametrize(
    ("cls", "terms", "words"),
    [
        (NoBalancing, {"z_los": 0.1}, "none.terms.z_los: no such term.*z_loss"),
        (NoBalancing, {"z_loss": -0.1}, "none.terms.z_loss: -0.1 is impossible"),
        (NoBalancing, {"z_loss": math.inf}, "none.terms.z_loss: inf is impossible"),
        (NoBalancing, {"z_loss": True}, "none.terms.z_loss: True is not a number"),
        (NoBalancing, {"z_loss": "0.1"}, "none.terms.z_loss: '0.1' is not a number"),
        (Dense, {"z_loss": 0.1}, "dense.terms.z_loss: .*no router scores"),
        (Hash, {"sequence_loss": 0.1}, "hash.terms.sequence_loss: .*no router scores"),
    ],
)
def test_impossible_terms_are_refused(cls, terms, words):
    with pytest.raises(ValueError, match=words):
        cls(layer(), terms=terms)
