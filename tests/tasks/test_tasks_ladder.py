"""Rules and counts of the ladder, against hand-computed numbers and the papers' own."""

from __future__ import annotations

import pytest

import tasks
from tasks.ladder import _splits, derive


def test_one_dial_derives_a_rung():
    rung = derive("x", {"depth": 4})
    assert (rung.layers, rung.width, rung.heads) == (4, 128, 4)
    assert (rung.vocab_size, rung.sequence_length, rung.batch_sequences) == (2048, 256, 32)
    assert rung.tokens_per_step == 8192
    assert rung.expert_width == 88  # 8/3 · 128 / 4 = 85.3
    assert rung.dense_width == 352
    assert rung.steps == round(20 * rung.parameters()["active"] / 8192)
    assert derive("x", {"depth": 16}).heads == 8  # 512 wide, heads 64 wide
    assert derive("x", {"depth": 40}).sequence_length == 2048


def test_active_compute_does_not_depend_on_experts_or_top_k():
    def active_experts(**given):
        rung = derive("x", {"depth": 8, **given})
        return rung.expert_width * (rung.top_k + rung.shared_experts)

    assert active_experts(experts=4) == active_experts(experts=256)
    for given in ({"top_k": 1}, {"top_k": 2}, {"top_k": 8}, {"top_k": 4, "shared_experts": 1}):
        assert active_experts(**given) == pytest.approx(8 / 3 * 256, rel=0.05)


def test_large_batches_are_split_into_equal_micro_batches():
    assert derive("x", {"depth": 4}).micro_batches == 1
    assert derive("x", {"depth": 4, "sequence_length": 2048, "batch_sequences": 64}).micro_batches == 4
    assert derive("x", {"depth": 4, "sequence_length": 65536, "batch_sequences": 6}).micro_batches == 6


def test_parts_of_a_batch_are_the_fewest_that_fit():
    for sequences in range(1, 130):
        for most in (0, 1, 5, 64):
            parts = [n for n in range(1, sequences + 1) if sequences % n == 0]  # in order, one by one
            assert _splits(sequences, most) == next(n for n in parts if sequences // n <= most or n == sequences)
    assert _splits(999_999_999_989, 512) == 999_999_999_989  # the largest prime under 10¹²


def test_moe_layers():
    assert derive("x", {"depth": 4}).moe_layers() == [0, 1, 2, 3]
    assert derive("x", {"depth": 4, "dense_layers": 3}).moe_layers() == [3]
    assert derive("x", {"depth": 4, "moe_positions": [1, 3]}).moe_layers() == [1, 3]


def test_parameters_and_flops_by_hand():
    rung = derive(
        "x",
        {
            "depth": 3,
            "width": 8,
            "heads": 2,
            "experts": 5,
            "top_k": 2,
            "expert_width": 7,
            "shared_experts": 1,
            "dense_layers": 1,
            "dense_width": 10,
            "vocab_size": 11,
            "sequence_length": 6,
        },
    )
    # attention 3 · 4 · 64 = 768; norms 3 · 16 + 8 = 56; dense 3 · 8 · 10 = 240; routers 2 · 5 · 8 = 80;
    # one expert 3 · 8 · 7 = 168; shared 2 · 168 = 336; embeddings 88 each
    expert = 2 * 5 * 168
    assert rung.parameters() == {
        "total": 768 + 56 + 240 + 80 + 336 + 88 + 88 + expert,
        "active": 768 + 56 + 240 + 80 + 336 + 88 + 8 + 2 * 2 * 168,
        "expert": expert,
    }
    assert rung.flops_per_token == 6 * (768 + 56 + 240 + 80 + 336 + 88 + 8 + 672) + 12 * 3 * 8 * 6
    assert rung.tokens == rung.steps * rung.batch_sequences * 6


def _inserted_attention(rung):
    return 4 * rung.width**2


@pytest.mark.parametrize(("name", "expert", "dense"), [("stable-base", 454e6, 124e6), ("stable-large", 3.22e9, 355e6)])
def test_stable_moe_sizes(name, expert, dense):
    """StableMoE: 124 M + 454 M and 355 M + 3.22 B. The paper's head is tied, its MoE layer has no attention."""
    rung = tasks.rungs()[name]
    counts = rung.parameters()
    assert counts["expert"] == pytest.approx(expert, rel=0.005)
    head = rung.vocab_size * rung.width
    assert counts["total"] - counts["expert"] - head - _inserted_attention(rung) == pytest.approx(dense, rel=0.01)
    assert rung.moe_layers() == [(rung.layers - 1) // 2]
    assert rung.tokens_per_step == 2**19


def test_stable_moe_flops():
    """StableMoE: 146 billion per sequence of 1024 for the dense model, 160 for the MoE: forward multiply-adds."""
    rung = tasks.rungs()["stable-base"]
    moe = rung.flops_per_token / 6 * 1024
    one_layer_of_attention = (_inserted_attention(rung) + 2 * rung.width * rung.sequence_length) * 1024
    assert moe - one_layer_of_attention == pytest.approx(160e9, rel=0.01)
    expert = 3 * rung.width * rung.expert_width * 1024
    assert moe - one_layer_of_attention - expert == pytest.approx(146e9, rel=0.01)


def test_olmoe_size():
    """OLMoE-1B-7B: 6.9 billion parameters, 1.3 billion active with both embeddings counted."""
    rung = tasks.rungs()["olmoe-like"]
    counts = rung.parameters()
    assert counts["total"] == pytest.approx(6.9e9, rel=0.005)
    assert counts["active"] + rung.vocab_size * rung.width == pytest.approx(1.3e9, rel=0.02)


def test_trinity_size():
    """Trinity Large: 398 billion parameters. Its active 13 billion hold wider, gated attention than ours."""
    counts = tasks.rungs()["trinity-3072"].parameters()
    assert counts["total"] == pytest.approx(398e9, rel=0.005)
    assert counts["active"] == pytest.approx(13e9, rel=0.15)


@pytest.mark.parametrize("name", ["trinity-256", "trinity-512", "trinity-1024", "trinity-3072"])
def test_trinity_proportions(name):
    rung = tasks.rungs()[name]
    assert (rung.experts, rung.top_k, rung.shared_experts, rung.optimizer) == (256, 4, 1, "muon")
    assert rung.expert_width == rung.width
    assert 1 <= rung.dense_layers <= rung.layers // 5


@pytest.mark.parametrize(("name", "millions"), [("small", 50), ("medium", 150)])
def test_gpu_rungs_have_the_size_they_say(name, millions):
    assert tasks.rungs()[name].parameters()["total"] == pytest.approx(millions * 1e6, rel=0.1)


def test_cpu_rungs_are_small():
    nano, micro = tasks.rungs()["nano"], tasks.rungs()["micro"]
    assert (nano.experts, nano.top_k, micro.experts, micro.top_k) == (16, 2, 64, 4)
    assert nano.tokens * nano.flops_per_token < 4e11
    assert micro.tokens * micro.flops_per_token < 4e13


def test_a_rung_without_a_dial_is_refused():
    with pytest.raises(ValueError, match=r"rung\.depth: missing"):
        derive("x", {"width": 64})
