"""Rules that balance by a loss: aux_loss in its scopes, ReMoE, SimBal. Oracles are loops in NumPy."""

import numpy as np
import pytest
import torch
from strategy_lab import batch, best, layer, logits_of, route, sigmoid, softmax

from strategies.aux_loss import AuxLoss
from strategies.remoe import ReMoE
from strategies.simbal import SimBal


def switch(scores_TE, counted_TK, k):
    """α = 1: E Σ f_j P_j with f_j = n_j/(kT) over the tokens counted and P_j over the tokens given."""
    num_experts = scores_TE.shape[1]
    total = 0.0
    for expert in range(num_experts):
        f = sum(expert in row for row in counted_TK) / (k * len(counted_TK))
        p = np.mean([row[expert] / row.sum() for row in scores_TE])
        total += f * p
    return num_experts * total


@pytest.mark.parametrize(("score", "oracle"), [("sigmoid", sigmoid), ("softmax", softmax)])
@pytest.mark.parametrize("top_k", [1, 2])
def test_micro_batch_scope_is_switch_with_the_share_of_assignments(score, oracle, top_k):
    strategy = AuxLoss(layer(top_k=top_k, score=score), AuxLoss.Config(coefficient=0.3))
    hidden_TD, tokens_T = batch()
    scores_TE = oracle(logits_of(strategy, hidden_TD))
    expected = 0.3 * switch(scores_TE, best(scores_TE, top_k), top_k)
    assert route(strategy, hidden_TD, tokens_T).losses["balance"].item() == pytest.approx(expected, rel=1e-5)


def test_balanced_value_is_the_coefficient_for_every_k():
    for top_k in (1, 2, 4):
        strategy = AuxLoss(layer(num_experts=4, top_k=top_k), AuxLoss.Config(coefficient=0.7))
        strategy.router.weight_ED.data.zero_()  # all scores alike: P is uniform, whatever f is
        assert route(strategy, *batch()).losses["balance"].item() == pytest.approx(0.7, rel=1e-6)


def test_collapse_by_hand():
    strategy = AuxLoss(layer(num_experts=4, top_k=1, width=4, score="softmax"), AuxLoss.Config(coefficient=1.0))
    strategy.router.weight_ED.data = torch.eye(4)
    hidden_TD = torch.tensor([[3.0, 0.0, 0.0, 0.0]]).repeat(16, 1)  # everything to expert 0
    # f = (1, 0, 0, 0), P_0 = e³/(e³ + 3): 4 · P_0
    expected = 4 * np.exp(3) / (np.exp(3) + 3)
    assert route(strategy, hidden_TD, torch.zeros(16, dtype=torch.long)).losses["balance"].item() == pytest.approx(
        expected
    )


def test_sequence_scope_is_the_mean_over_sequences():
    strategy = AuxLoss(layer(), AuxLoss.Config(coefficient=1.0, scope="sequence"))
    hidden_TD, tokens_T = batch()
    scores_TE = sigmoid(logits_of(strategy, hidden_TD))
    parts = [scores_TE[start : start + 16] for start in range(0, 64, 16)]
    expected = np.mean([switch(part, best(part, 2), 2) for part in parts])
    assert route(strategy, hidden_TD, tokens_T).losses["balance"].item() == pytest.approx(expected, rel=1e-5)


def test_global_scope_counts_all_ranks_and_the_step_so_far():
    strategy = AuxLoss(layer(), AuxLoss.Config(coefficient=1.0, scope="global_batch"))
    first, second, elsewhere = batch(seed=1), batch(seed=2), batch(seed=3)
    scores = [sigmoid(logits_of(strategy, hidden_TD)) for hidden_TD, _ in (first, second, elsewhere)]
    picks = [best(s, 2) for s in scores]
    there_E = torch.bincount(
        torch.from_numpy(picks[2].ravel()), minlength=8
    )  # the other rank routes the same each time

    def sum_over_ranks(value):
        return value + there_E

    losses = [route(strategy, *one, sum_over_ranks=sum_over_ranks).losses["balance"].item() for one in (first, second)]
    assert losses[0] == pytest.approx(switch(scores[0], np.concatenate([picks[0], picks[2]]), 2), rel=1e-5)
    so_far = np.concatenate([picks[0], picks[2], picks[1], picks[2]])
    assert losses[1] == pytest.approx(switch(scores[1], so_far, 2), rel=1e-5)

    strategy.rebalance(torch.zeros(8), {})  # a new step starts from nothing
    again = route(strategy, *first, sum_over_ranks=sum_over_ranks).losses["balance"].item()
    assert again == losses[0]


def test_global_counts_are_not_saved_because_they_are_zero_between_steps():
    strategy = AuxLoss(layer(), AuxLoss.Config(scope="global_batch"))
    route(strategy, *batch())
    assert strategy.seen_E.sum() == 128
    strategy.rebalance(torch.zeros(8), {})
    assert strategy.seen_E.sum() == 0
    assert "seen_E" not in strategy.state_dict()


def test_inference_counts_nothing_and_has_no_loss():
    strategy = AuxLoss(layer(), AuxLoss.Config(scope="global_batch")).eval()
    assert route(strategy, *batch()).losses == {}
    assert strategy.seen_E.sum() == 0


@pytest.mark.parametrize("scope", ["sequence", "micro_batch", "global_batch"])
def test_gradient_runs_through_the_probabilities_alone(scope):
    """∂L/∂logit with f held fixed, by central differences of the oracle's P."""
    strategy = AuxLoss(layer(num_experts=4, top_k=1), AuxLoss.Config(coefficient=1.0, scope=scope))
    hidden_TD, tokens_T = batch(num_tokens=16)
    (gradient_ED,) = torch.autograd.grad(
        route(strategy, hidden_TD, tokens_T).losses["balance"], strategy.router.weight_ED
    )
    weight_ED = strategy.router.weight_ED.detach().double().numpy()
    hidden = hidden_TD.double().numpy()
    counted_TK = best(sigmoid(hidden @ weight_ED.T), 1)
    for expert, column in ((0, 0), (2, 7)):
        change = np.zeros_like(weight_ED)
        change[expert, column] = 1e-5
        up, down = (switch(sigmoid(hidden @ (weight_ED + s * change).T), counted_TK, 1) for s in (1, -1))
        assert gradient_ED[expert, column].item() == pytest.approx((up - down) / 2e-5, rel=1e-3, abs=1e-6)


# ReMoE


def test_remoe_sends_tokens_to_every_positive_logit_with_the_logit_as_gate():
    strategy = ReMoE(layer(route_scale=2.0))
    hidden_TD, tokens_T = batch()
    routing = route(strategy, hidden_TD, tokens_T)
    logits_TE = logits_of(strategy, hidden_TD)
    gates_TE = np.zeros_like(logits_TE)
    gates_TE[routing.token_A, routing.expert_A] = routing.gate_A.detach().numpy()
    assert len(routing.token_A) == (logits_TE > 0).sum()
    assert gates_TE == pytest.approx(2 * np.maximum(logits_TE, 0), abs=1e-5)


def test_remoe_penalty_is_the_load_weighted_mean_of_gates():
    strategy = ReMoE(layer(num_experts=8, top_k=2), ReMoE.Config(coefficient=0.5))
    hidden_TD, tokens_T = batch()
    r_TE = np.maximum(logits_of(strategy, hidden_TD), 0)
    # λ · E/(kT²) · Σ_j n_j Σ_t r_tj
    expected = 0.5 * 8 / (2 * 64**2) * sum((r_TE[:, j] > 0).sum() * r_TE[:, j].sum() for j in range(8))
    assert route(strategy, hidden_TD, tokens_T).losses["sparsity"].item() == pytest.approx(expected, rel=1e-5)


def test_remoe_raises_the_penalty_while_too_many_are_active_and_lowers_it_otherwise():
    strategy = ReMoE(layer(num_experts=8, top_k=2))
    pooled = {"tokens": torch.tensor(100.0)}
    seen = []
    for active in (201, 400, 200, 150):  # 200 is the target: sparsity 1 − 2/8
        strategy.rebalance(torch.full((8,), active / 8), pooled)
        seen.append(strategy.coefficient.item())
    assert seen == pytest.approx([1.2e-8, 1.44e-8, 1.2e-8, 1e-8])


def test_remoe_pools_tokens_over_micro_batches():
    strategy = ReMoE(layer())
    pooled = [route(strategy, *batch(num_tokens=n)).pooled["tokens"].item() for n in (32, 64)]
    assert pooled == [32, 64]


# SimBal


def test_simbal_is_the_entrywise_distance_of_the_expert_gram_matrix_from_identity():
    strategy = SimBal(layer(num_experts=2, width=3), SimBal.Config(coefficient=0.5))
    strategy.router.weight_ED.data = torch.tensor([[1.0, 0.0, 0.0], [0.6, 0.8, 1.0]])
    # inner products: 1, 0.6, 0.6, 2; distances 0, 0.6, 0.6, 1: 2.2 in all
    loss = route(strategy, *batch(width=3)).losses["orthogonality"]
    assert loss.item() == pytest.approx(1.1)


def test_simbal_is_zero_for_orthonormal_experts():
    strategy = SimBal(layer(num_experts=8, width=16))
    torch.nn.init.orthogonal_(strategy.router.weight_ED)
    assert route(strategy, *batch()).losses["orthogonality"].item() == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(
    ("cls", "values", "words"),
    [
        (AuxLoss, {"coefficient": -1.0}, "coefficient: -1.0 is negative"),
        (SimBal, {"coefficient": -1.0}, "coefficient: -1.0 is negative"),
        (ReMoE, {"coefficient": 0.0}, "coefficient: 0.0 is impossible"),
        (ReMoE, {"factor": 0.5}, "factor: 0.5 is impossible"),
    ],
)
def test_impossible_values_are_refused(cls, values, words):
    with pytest.raises(ValueError, match=words):
        cls.Config(**values)
