"""StableMoE: both losses, both stages and the options, by NumPy and by hand (arXiv:2204.08396)."""

import io

import numpy as np
import pytest
import torch
from strategy_lab import batch, best, chosen, layer, logits_of, route, sigmoid, softmax

from strategies.stable_moe import StableMoE


def word_logits(strategy, tokens_T):
    table_TC = strategy.distilled_table_VC.detach().double().numpy()[tokens_T.numpy()]
    return table_TC @ strategy.distilled_centroid_EC.detach().double().numpy().T


@pytest.mark.parametrize("top_k", [1, 2])
def test_stage_one_routes_by_the_backbone_with_sigmoid_gates(top_k):
    strategy = StableMoE(layer(top_k=top_k, normalize_gates=True))
    hidden_TD, tokens_T = batch()
    routing = route(strategy, hidden_TD, tokens_T)
    scores_TE = sigmoid(logits_of(strategy, hidden_TD))
    assert (chosen(routing) == best(scores_TE, top_k)).all()
    expected = np.take_along_axis(scores_TE, best(scores_TE, top_k), 1)  # σ(s), not normalised
    assert routing.gate_A.view(-1, top_k).detach().numpy() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("top_k", [1, 2])
def test_balance_loss_is_the_paper_s_divided_by_the_tokens(top_k):
    strategy = StableMoE(layer(top_k=top_k))
    hidden_TD, tokens_T = batch()
    hidden_TD += 0.5
    scores_TE = sigmoid(logits_of(strategy, hidden_TD))
    picks_TK = best(scores_TE, top_k)
    mean = 64 * top_k / 8
    total = 0.0
    for expert in range(8):
        assigned = [t for t in range(64) if expert in picks_TK[t]]
        total += (len(assigned) - mean) / mean * sum(scores_TE[t, expert] for t in assigned)
    loss = route(strategy, hidden_TD, tokens_T).losses["balance"]
    assert loss.item() == pytest.approx(0.3 * total / 64, rel=1e-5)


def test_balance_loss_by_hand():
    strategy = StableMoE(layer(num_experts=2, top_k=1, width=2))
    strategy.router.weight_ED.data = torch.eye(2)
    hidden_TD = torch.tensor([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    # n = 3, 1; n̄ = 2: (1/2 · 3 σ(2) − 1/2 · σ(1)) · 0.3/4
    expected = 0.3 / 4 * (1.5 * sigmoid(2) - 0.5 * sigmoid(1))
    loss = route(strategy, hidden_TD, torch.zeros(4, dtype=torch.long), sequence_length=4).losses["balance"]
    assert loss.item() == pytest.approx(expected)


@pytest.mark.parametrize("top_k", [1, 2])
def test_distillation_is_cross_entropy_with_the_chosen_set(top_k):
    strategy = StableMoE(layer(top_k=top_k), StableMoE.Config(distill_factor=0.3))
    hidden_TD, tokens_T = batch()
    picks_TK = best(logits_of(strategy, hidden_TD), top_k)
    log_p_TE = np.log(softmax(word_logits(strategy, tokens_T)))
    expected = -0.3 * np.mean([np.mean(row[picks]) for row, picks in zip(log_p_TE, picks_TK, strict=True)])
    assert route(strategy, hidden_TD, tokens_T).losses["distillation"].item() == pytest.approx(expected, rel=1e-5)


def test_distillation_teaches_the_distilled_router_only():
    strategy = StableMoE(layer())
    route(strategy, *batch()).losses["distillation"].backward()
    assert strategy.router.weight_ED.grad is None
    assert strategy.distilled_table_VC.grad.abs().sum() > 0
    assert strategy.distilled_centroid_EC.grad.abs().sum() > 0


def test_stage_two_routes_by_word_with_gates_from_the_backbone():
    strategy = StableMoE(layer())
    strategy.schedule(0.1)
    hidden_TD, tokens_T = batch()
    routing = route(strategy, hidden_TD, tokens_T)
    picks_TK = best(word_logits(strategy, tokens_T), 2)
    assert (chosen(routing) == picks_TK).all()
    expected = np.take_along_axis(sigmoid(logits_of(strategy, hidden_TD)), picks_TK, 1)
    assert routing.gate_A.view(-1, 2).detach().numpy() == pytest.approx(expected, rel=1e-5)
    assert routing.losses == {}
    routing.gate_A.sum().backward()
    assert strategy.router.weight_ED.grad.abs().sum() > 0


def test_the_freeze_comes_at_the_share_given_and_an_optimizer_leaves_the_table_alone():
    strategy = StableMoE(layer(), StableMoE.Config(stage_one=0.5))
    optimizer = torch.optim.AdamW(strategy.parameters(), lr=0.1, weight_decay=0.5)
    tables = []
    for step in range(4):
        strategy.schedule(step / 4)
        assert int(strategy.stage) == (1 if step < 2 else 2)
        routing = route(strategy, *batch(seed=step))
        (routing.gate_A.sum() + sum(routing.losses.values())).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)  # the harder case: gradients of zero would still decay the weights
        tables.append(strategy.distilled_table_VC.detach().clone())
    assert not torch.equal(tables[0], tables[1])
    assert torch.equal(tables[1], tables[2])
    assert torch.equal(tables[2], tables[3])
    assert not strategy.distilled_centroid_EC.requires_grad


@pytest.mark.parametrize("choice", ["distilled", "backbone"])
def test_inference_in_stage_one_is_an_option(choice):
    strategy = StableMoE(layer(), StableMoE.Config(stage_one_eval=choice)).eval()
    hidden_TD, tokens_T = batch()
    selection = word_logits(strategy, tokens_T) if choice == "distilled" else logits_of(strategy, hidden_TD)
    assert (chosen(route(strategy, hidden_TD, tokens_T)) == best(selection, 2)).all()


def test_a_token_id_has_the_same_experts_wherever_it_stands_once_frozen():
    strategy = StableMoE(layer())
    strategy.schedule(0.5)
    tokens_T = torch.arange(50).repeat(2)[:96]
    hidden_TD, _ = batch(num_tokens=96)
    picks = chosen(route(strategy, hidden_TD, tokens_T))
    assert (picks[:46] == picks[50:96]).all()


def test_the_stage_travels_with_the_state():
    trained, fresh = StableMoE(layer()), StableMoE(layer(seed=1))
    trained.schedule(0.9)
    file = io.BytesIO()
    torch.save(trained.state_dict(), file)
    file.seek(0)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    hidden_TD, tokens_T = batch()
    assert (chosen(route(fresh, hidden_TD, tokens_T)) == chosen(route(trained, hidden_TD, tokens_T))).all()
    assert not fresh.distilled_table_VC.requires_grad
    fresh.load_state_dict(StableMoE(layer()).state_dict())  # and back
    assert fresh.distilled_table_VC.requires_grad
    assert route(fresh, hidden_TD, tokens_T).losses


def test_the_distilled_router_has_the_papers_size():
    strategy = StableMoE(layer(num_experts=32, top_k=1, vocab_size=50257))
    assert strategy.distilled_table_VC.numel() == 2_512_850  # "+2.51M parameters"
    assert strategy.distilled_centroid_EC.shape == (32, 50)


@pytest.mark.parametrize("init", ["orthogonal", "normal"])
def test_centroids_start_as_told(init):
    weight_ED = StableMoE(layer(), StableMoE.Config(centroid_init=init)).router.weight_ED.detach()
    orthogonal = torch.allclose(weight_ED @ weight_ED.T, 0.01 * torch.eye(8), atol=1e-6)  # gain 0.1
    assert orthogonal == (init == "orthogonal")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"stage_one": 1.5}, "stage_one: 1.5"),
        ({"balance": -0.3}, "balance: -0.3 is negative"),
        ({"distill_factor": -1.0}, "distill_factor: -1.0 is negative"),
        ({"embedding_width": 0}, "embedding_width: 0 is impossible"),
    ],
)
def test_impossible_values_are_refused(values, words):
    with pytest.raises(ValueError, match=words):
        StableMoE.Config(**values)
