"""Expert reset: when it is due, who is dead, and what becomes of the router; by hand and by NumPy."""

import numpy as np
import pytest
import torch
from strategy_lab import layer

from strategies import REDRAWN
from strategies.conformance import check
from strategies.expert_reset import ExpertReset

LOAD_E = [40.0, 0.0, 60.0, 20.0]  # mean 30
EVEN_E = [30.0] * 4


def build(**config):
    return ExpertReset(layer(num_experts=4, top_k=1), ExpertReset.Config(**config))


@torch.no_grad()
def step(strategy, progress, load_E=LOAD_E):
    strategy.schedule(progress)
    strategy.rebalance(torch.tensor(load_E), {})
    return strategy.experts_to_reset()


@pytest.mark.parametrize(("steps", "every", "due"), [(20, 0.1, range(2, 20, 2)), (10, 0.3, [3, 6, 9]), (7, 1.0, [])])
def test_it_is_due_once_in_every_part_of_training(steps, every, due):
    """3 · 0.3 is no number a float is equal to; the step at which it has passed is the ninth tenth all the same."""
    strategy = build(every=every)
    assert [s for s in range(steps) if step(strategy, s / steps) is not None] == list(due)


def test_who_is_dead_by_hand():
    """Two steps since the start, loads 80, 0, 120, 40, mean 60: under half of it is expert 1; under 0.7 also expert 3.

    Then the count begins again: 40, 0, 60, 20 twice more and 1,000 for expert 1 leave expert 3 alone, with 40 of 310.
    """
    for below, dead in ((0.01, [1]), (0.5, [1]), (2 / 3 + 0.01, [1, 3]), (0.0, [])):
        strategy = build(every=0.2, below=below)
        assert step(strategy, 0.0) is None
        reset = step(strategy, 0.2)
        assert reset.source_E.tolist() == [2 if expert in dead else expert for expert in range(4)]  # 2 has the most
    strategy = build(every=0.2, below=0.2)
    for progress in (0.0, 0.2, 0.3):
        step(strategy, progress)
    assert step(strategy, 0.4, [40.0, 1000.0, 60.0, 20.0]).source_E.tolist() == [0, 1, 2, 1]


def test_a_layer_without_load_has_no_dead_experts():
    strategy = build(every=0.5)
    step(strategy, 0.0, [0.0] * 4)
    assert step(strategy, 0.5, [0.0] * 4).source_E.tolist() == [0, 1, 2, 3]


def test_a_split_router_row_is_the_busiest_one_with_noise():
    strategy = build(every=0.5, noise=0.2)
    before_ED = strategy.router.weight_ED.detach().numpy().copy()
    drawn_ED = torch.empty(4, 16).normal_(generator=strategy.spec.generator("reset 1")).numpy()
    reset = step(strategy, 0.5)
    expected_ED = before_ED.copy()
    expected_ED[1] = before_ED[2] + 0.2 * np.sqrt((before_ED[2] ** 2).mean()) * drawn_ED[1]
    np.testing.assert_allclose(strategy.router.weight_ED.detach().numpy(), expected_ED, rtol=1e-6)
    assert reset.noise == 0.2
    assert len(reset.rows) == 1
    assert reset.rows[0] is strategy.router.weight_ED


def test_a_fresh_router_row_is_one_of_the_start():
    strategy = build(every=0.5, weights="fresh")
    before_ED = strategy.router.weight_ED.detach().numpy().copy()
    drawn_ED = torch.empty(4, 16).normal_(generator=strategy.spec.generator("reset 1")).numpy()
    reset = step(strategy, 0.5)
    assert reset.source_E.tolist() == [0, REDRAWN, 2, 3]
    expected_ED = before_ED.copy()
    expected_ED[1] = 0.25 * drawn_ED[1]  # the layer's router_std
    np.testing.assert_allclose(strategy.router.weight_ED.detach().numpy(), expected_ED, rtol=1e-6)


def test_every_reset_layer_and_seed_draws_anew():
    def row(progress, **changes):
        strategy = ExpertReset(
            layer(num_experts=4, top_k=1, **changes), ExpertReset.Config(every=0.25, weights="fresh")
        )
        step(strategy, progress)
        return strategy.router.weight_ED[1].tolist()

    assert row(0.25) == row(0.25)
    others = [row(0.25), row(0.5), row(0.25, seed=1), row(0.25, layer=1)]
    assert len({tuple(other) for other in others}) == 4


def test_nothing_moves_between_resets():
    strategy = build(every=0.5)
    before = {name: value.clone() for name, value in strategy.state_dict().items() if name != "since_E"}
    for progress in (0.0, 0.2, 0.4):
        assert step(strategy, progress) is None
    assert all(torch.equal(strategy.state_dict()[name], value) for name, value in before.items())
    assert strategy.since_E.tolist() == [120, 0, 180, 60]


def test_it_counts_where_float32_no_longer_does():
    strategy = build(every=0.5)
    step(strategy, 0.0, [2.0**25] * 4)
    step(strategy, 0.1, [1.0] * 4)
    assert strategy.since_E.tolist() == [2**25 + 1] * 4


def test_a_saved_state_goes_on_with_its_counts_and_its_round():
    strategy, resumed = build(every=0.2), build(every=0.2)
    for progress in (0.0, 0.1, 0.2, 0.3):
        step(strategy, progress)
    resumed.load_state_dict(strategy.state_dict())
    assert step(resumed, 0.35) is None  # a restart that forgot its round would find itself due
    assert step(resumed, 0.4, EVEN_E).source_E.tolist() == [0, 1, 2, 3]  # 30 of 90 is not dead
    step(strategy, 0.35)
    step(strategy, 0.4, EVEN_E)
    assert torch.equal(resumed.router.weight_ED, strategy.router.weight_ED)


@pytest.mark.parametrize("weights", ["split", "fresh"])
def test_conforms_when_it_resets_often_and_much(weights):
    config = ExpertReset.Config(every=0.02, below=0.5, weights=weights)
    outcomes = check(ExpertReset, config)
    # two or three steps' resets of every other expert are no way to balance; the default keeps the promise
    assert [str(o) for o in outcomes if o.status == "failed" and o.rule.id != "balances"] == []


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"every": 0.0}, "every: 0.0 is not a share of training"),
        ({"below": 1.0}, "below: 1.0 is not a share of the mean load"),
        ({"noise": -0.1}, "noise: -0.1 is negative"),
    ],
)
def test_impossible_values_are_refused(values, words):
    with pytest.raises(ValueError, match=words):
        ExpertReset.Config(**values)
