"""Growing sparsity: the schedule worked by hand, routing by NumPy."""

import numpy as np
import pytest
import torch
from strategy_lab import batch, best, chosen, layer, logits_of, route, sigmoid

from strategies.conformance import check
from strategies.growing_sparsity import GrowingSparsity


def at(progress, **config):
    """K in training at some progress, in a layer of 8 experts top-2."""
    strategy = GrowingSparsity(layer(), GrowingSparsity.Config(**config))
    strategy.schedule(progress)
    return route(strategy, *batch()).per_token


@pytest.mark.parametrize(
    ("progress", "k"), [(0.0, 4), (0.1249, 4), (0.125, 3), (0.2499, 3), (0.25, 2), (0.26, 2), (0.99, 2)]
)
def test_k_comes_down_in_equal_parts(progress, k):
    """From 4 to 2 over the first quarter: 4 in its first half, 3 in its second, then 2."""
    assert at(progress) == k


@pytest.mark.parametrize(
    ("config", "seen"),
    [
        ({"start": 2.5, "until": 1.0}, [5, 5, 5, 5, 4, 4, 4, 3, 3, 3]),  # ⌊5⌋ to 3 over thirds: until 1/3, 2/3, 1
        ({"start": 1.4, "until": 0.5}, [2] * 10),  # ⌊2.8⌋ is the layer's own
        ({"start": 100.0, "until": 0.1}, [8] + [2] * 9),  # no more than there are
        ({"start": 4.0, "until": 0.0}, [2] * 10),
        ({"start": 1.5, "until": 0.3}, [3, 3, 3, 2, 2, 2, 2, 2, 2, 2]),
    ],
)
def test_schedules_over_ten_steps(config, seen):
    assert [at(step / 10, **config) for step in range(10)] == seen


def test_a_stage_ends_where_it_is_computed_to_end():
    """8 down to 4 over four of twenty steps. In floats 4 · (1 − 0.15/0.2) is a little more than one."""
    strategy = GrowingSparsity(layer(top_k=4), GrowingSparsity.Config(start=2.0, until=0.2))
    seen = []
    for step in range(6):
        strategy.schedule(step / 20)
        seen.append(strategy.k)
    assert seen == [8, 7, 6, 5, 4, 4]


@pytest.mark.parametrize("steps", [100, 500, 531])
def test_what_it_spends_more_is_what_it_says(steps):
    strategy = GrowingSparsity(layer(num_experts=32, top_k=3), GrowingSparsity.Config(start=3.0, until=0.4))
    spent = []
    for step in range(steps):
        strategy.schedule(step / steps)
        spent.append(strategy.k)
    assert sorted(set(spent)) == list(range(3, 10))
    assert np.mean(spent) - 3 == pytest.approx((9 - 3 + 1) / 2 * 0.4, abs=7 / steps)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(("top_k", "active"), [(1, 2), (2, 4)])
def test_routing_in_training_and_at_inference(top_k, active, normalize):
    """The K best scores as gates, over their sum where the layer says so; never where its own K is 1."""
    strategy = GrowingSparsity(layer(top_k=top_k, normalize_gates=normalize, route_scale=1.5))
    hidden_TD, tokens_T = batch()
    scores_TE = sigmoid(logits_of(strategy, hidden_TD))
    for training, k in ((True, active), (False, top_k)):
        routing = route(strategy.train(training), hidden_TD, tokens_T)
        picks_TK = best(scores_TE, k)
        assert (chosen(routing) == picks_TK).all()
        gates_TK = np.take_along_axis(scores_TE, picks_TK, 1)
        if normalize and top_k > 1:
            gates_TK = gates_TK / gates_TK.sum(1, keepdims=True)
        assert routing.gate_A.detach().view(-1, k).numpy() == pytest.approx(1.5 * gates_TK, rel=1e-5)


@pytest.mark.parametrize("scope", ["micro_batch", "sequence", "global_batch"])
def test_the_loss_counts_all_assignments_there_are(scope):
    """α E Σ f_j P_j with f_j = n_j/(KT) and K the number in use: 4 here."""
    strategy = GrowingSparsity(layer(), GrowingSparsity.Config(coefficient=0.3, scope=scope))
    hidden_TD, tokens_T = batch()
    scores_TE = sigmoid(logits_of(strategy, hidden_TD))
    length = 16 if scope == "sequence" else 64
    losses = []
    for start in range(0, 64, length):
        part_TE = scores_TE[start : start + length]
        share_E = np.bincount(best(part_TE, 4).ravel(), minlength=8) / (4 * length)
        losses.append(0.3 * 8 * (share_E * (part_TE / part_TE.sum(1, keepdims=True)).mean(0)).sum())
    assert route(strategy, hidden_TD, tokens_T).losses["balance"].item() == pytest.approx(np.mean(losses), rel=1e-5)
    assert route(strategy.eval(), hidden_TD, tokens_T).losses == {}


def test_a_loaded_state_routes_on_with_its_own_k():
    strategy = GrowingSparsity(layer())
    strategy.schedule(0.2)
    resumed = GrowingSparsity(layer())
    resumed.load_state_dict(strategy.state_dict())
    assert route(resumed, *batch()).per_token == 3


def test_conforms_with_a_long_descent():
    outcomes = check(GrowingSparsity, GrowingSparsity.Config(start=3.0, until=0.97))
    assert [str(outcome) for outcome in outcomes if outcome.status == "failed"] == []


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"start": 0.5}, "start: 0.5 is no multiple"),
        ({"until": 1.5}, "until: 1.5 is not a share of training"),
        ({"coefficient": -1.0}, "coefficient: -1.0 is negative"),
    ],
)
def test_impossible_values_are_refused(values, words):
    with pytest.raises(ValueError, match=words):
        GrowingSparsity.Config(**values)


def test_gradients_reach_the_router_through_every_active_expert():
    strategy = GrowingSparsity(layer())
    gate_A = route(strategy, *batch()).gate_A
    (gradient_ED,) = torch.autograd.grad(gate_A.view(-1, 4)[:, 3].sum(), strategy.router.weight_ED)
    assert gradient_ED.abs().sum() > 0
