"""Rules by which experts pick tokens: expert choice and expert threshold, by NumPy."""

import numpy as np
import pytest
import torch
from strategy_lab import batch, best, chosen, layer, logits_of, route, sigmoid, softmax, table

from strategies.expert_choice import ExpertChoice
from strategies.expert_threshold import ExpertThreshold


def step(strategy, hidden_TD, tokens_T, parts=1):
    """One optimizer step in `parts` micro-batches, without an optimizer."""
    pooled = {}
    for h, t in zip(hidden_TD.chunk(parts), tokens_T.chunk(parts), strict=True):
        for name, value in route(strategy, h, t).pooled.items():
            pooled[name] = pooled.get(name, 0) + value
    strategy.rebalance(torch.zeros(8), pooled)


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("score", ["sigmoid", "softmax"])
def test_expert_choice_takes_each_experts_best_tokens(factor, score):
    strategy = ExpertChoice(layer(score=score, route_scale=2.0), ExpertChoice.Config(capacity_factor=factor))
    hidden_TD, tokens_T = batch()
    scores_TE = {"sigmoid": sigmoid, "softmax": softmax}[score](logits_of(strategy, hidden_TD))
    gates_TE = table(route(strategy, hidden_TD, tokens_T), 64, 8)
    capacity = int(factor * 64 * 2 / 8)
    for expert in range(8):
        taken = np.argsort(-scores_TE[:, expert])[:capacity]
        expected = np.full(64, np.nan)
        expected[taken] = 2 * scores_TE[taken, expert]
        assert gates_TE[:, expert] == pytest.approx(expected, rel=1e-5, nan_ok=True)


@pytest.mark.parametrize("num_tokens", [1, 3, 50])
def test_expert_choice_never_spends_more_than_the_budget_but_every_expert_works(num_tokens):
    routing = route(ExpertChoice(layer()), *batch(num_tokens=num_tokens), sequence_length=1)
    load_E = torch.bincount(routing.expert_A, minlength=8)
    assert (load_E == max(1, num_tokens * 2 // 8)).all()


@pytest.mark.parametrize("score", ["sigmoid", "softmax", "sqrt_softplus"])
@pytest.mark.parametrize("cls", [ExpertChoice, ExpertThreshold])
def test_thresholds_are_moving_averages_of_the_pooled_quantile(cls, score):
    strategy = cls(layer(score=score), cls.Config(ema=0.75))
    expected_E = None
    for seed in range(3):
        hidden_TD, tokens_T = batch(num_tokens=2048, seed=seed)
        hidden_TD += seed
        step(strategy, hidden_TD, tokens_T, parts=4)
        logits_TE = logits_of(strategy, hidden_TD)
        heights_TE = sigmoid(np.log(8 * softmax(logits_TE)) if score == "softmax" else logits_TE)
        cut_E = np.quantile(heights_TE, 1 - 2 / 8, axis=0)  # passed by a share k/E
        expected_E = cut_E if expected_E is None else 0.75 * expected_E + 0.25 * cut_E
    assert strategy.threshold_E.numpy() == pytest.approx(expected_E, abs=1.5e-3)  # a bin is 1/1000


@pytest.mark.parametrize("score", ["sigmoid", "softmax", "sqrt_softplus"])
@pytest.mark.parametrize(
    ("cls", "training"), [(ExpertChoice, False), (ExpertThreshold, False), (ExpertThreshold, True)]
)
def test_a_token_goes_to_every_expert_whose_threshold_it_passes(cls, training, score):
    strategy = cls(layer(score=score))
    hidden_TD, tokens_T = batch(num_tokens=2048)
    step(strategy, hidden_TD, tokens_T)
    routing = route(strategy.train(training), hidden_TD, tokens_T)
    logits_TE = logits_of(strategy, hidden_TD)
    functions = {"sigmoid": sigmoid, "softmax": softmax, "sqrt_softplus": lambda x: np.sqrt(np.log1p(np.exp(x)))}
    heights_TE = sigmoid(np.log(8 * softmax(logits_TE)) if score == "softmax" else logits_TE)
    expected_TE = np.where(heights_TE > strategy.threshold_E.numpy(), functions[score](logits_TE), np.nan)
    assert table(routing, 2048, 8) == pytest.approx(expected_TE, rel=1e-4, nan_ok=True)
    assert len(routing.token_A) / 2048 == pytest.approx(2, rel=0.02)  # k on average, and balanced:
    assert torch.bincount(routing.expert_A, minlength=8) / 512 == pytest.approx(np.ones(8), rel=0.05)
    assert len(set(torch.bincount(routing.token_A, minlength=2048).tolist())) > 2  # the number does vary by token


@pytest.mark.parametrize("cls", [ExpertChoice, ExpertThreshold])
def test_before_the_first_step_a_decoder_takes_the_k_best(cls):
    strategy = cls(layer()).eval()
    hidden_TD, tokens_T = batch()
    assert (chosen(route(strategy, hidden_TD, tokens_T)) == best(logits_of(strategy, hidden_TD), 2)).all()


def test_expert_choice_can_infer_by_top_k():
    strategy = ExpertChoice(layer(), ExpertChoice.Config(inference="top_k"))
    hidden_TD, tokens_T = batch()
    step(strategy, hidden_TD, tokens_T)
    routing = route(strategy.eval(), hidden_TD, tokens_T)
    scores_TE = sigmoid(logits_of(strategy, hidden_TD))
    assert (chosen(routing) == best(scores_TE, 2)).all()
    expected = np.take_along_axis(scores_TE, best(scores_TE, 2), 1)
    assert routing.gate_A.view(-1, 2).detach().numpy() == pytest.approx(expected, rel=1e-5)


def test_expert_threshold_warms_up_by_expert_choice():
    strategy = ExpertThreshold(layer(), ExpertThreshold.Config(warmup=0.5))
    hidden_TD, tokens_T = batch()
    load = []
    for progress in (0.0, 0.49, 0.5):
        strategy.schedule(progress)
        routing = route(strategy, hidden_TD + progress, tokens_T)
        load.append(torch.bincount(routing.expert_A, minlength=8).tolist())
        strategy.rebalance(torch.zeros(8), routing.pooled)
    assert load[0] == load[1] == [16] * 8
    assert load[2] != [16] * 8


def test_an_empty_batch_teaches_nothing():
    strategy = ExpertThreshold(layer())
    step(strategy, *batch())
    before_E = strategy.threshold_E.clone()
    strategy.rebalance(torch.zeros(8), {"heights_EN": torch.zeros(8, 1000)})
    assert torch.equal(strategy.threshold_E, before_E)


@pytest.mark.parametrize(
    ("cls", "values", "words"),
    [
        (ExpertChoice, {"capacity_factor": 0.0}, "capacity_factor: 0.0 is impossible"),
        (ExpertChoice, {"ema": 1.0}, "ema: 1.0 is impossible"),
        (ExpertThreshold, {"warmup": 2.0}, "warmup: 2.0"),
    ],
)
def test_impossible_values_are_refused(cls, values, words):
    with pytest.raises(ValueError, match=words):
        cls.Config(**values)
