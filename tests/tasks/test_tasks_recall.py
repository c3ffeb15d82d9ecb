"""Facts to be remembered: what is drawn, how often, and what the losses say of memory, by hand."""

from __future__ import annotations

from math import log

import numpy as np
import pytest

import tasks

SMALL = {
    "corpus.facts": 40,
    "corpus.key": 2,
    "corpus.value": 1,
    "corpus.exponent": 1.0,
    "rung.vocab_size": 17,
    "rung.sequence_length": 12,
    "rung.batch_sequences": 50,
    "rung.steps": 40,
}


def source(tmp_path, kind="recall", seed=0, **changed):
    return tasks.open_source(tasks.load(f"{kind}-nano", {**SMALL, **changed}), tmp_path, seed)


def facts_of(tokens_NS1):
    return tokens_NS1[:, 1:].reshape(-1, 3)


def test_every_fact_is_asked_for_once_and_only_its_value_counts(tmp_path):
    recall = source(tmp_path)
    tokens_NS1, domain_N = recall.heldout()
    assert tokens_NS1.shape == (10, 13)
    assert set(tokens_NS1[:, 0]) == {16}
    assert len(np.unique(facts_of(tokens_NS1)[:, :2], axis=0)) == 40  # keys differ
    assert list(domain_N) == list(range(10))
    assert list(recall.counted_S) == [False, False, True] * 4
    assert recall.domains[0] == "decile-1"


@pytest.mark.parametrize("kind", ["recall", "recall-shift", "zipf"])
def test_how_much_is_held_out_is_known_before_the_data_are_opened(kind, tmp_path):
    sizes = {key: value for key, value in SMALL.items() if kind != "zipf" or key.startswith("rung.")}
    task = tasks.load(f"{kind}-nano", {**sizes, "rung.eval_sequences": 7})
    assert task.heldout_tokens == tasks.open_source(task, tmp_path, 0).heldout()[0][:, 1:].size


def test_frequencies_follow_the_law_and_deciles_are_in_its_order(tmp_path):
    recall = source(tmp_path)
    seen = facts_of(np.concatenate([recall.batch(step)[0] for step in range(40)]))
    names = {tuple(fact): decile for decile, row in enumerate(recall.heldout()[0]) for fact in facts_of(row[None])}
    counts = np.bincount([names[tuple(fact)] for fact in seen], minlength=10) / len(seen)
    harmonic = sum(1 / rank for rank in range(1, 41))
    expected = [sum(1 / rank for rank in range(4 * d + 1, 4 * d + 5)) / harmonic for d in range(10)]
    assert counts == pytest.approx(expected, abs=4 * (0.25 / len(seen)) ** 0.5)


def test_counts_come_true(tmp_path):
    recall = source(tmp_path)
    inputs = np.concatenate([recall.batch(step)[0] for step in range(40)])
    counted = np.bincount(inputs.ravel(), minlength=17)
    assert recall.token_counts_V.sum() == pytest.approx(inputs.size, abs=17)
    assert recall.token_counts_V == pytest.approx(counted, abs=5 * counted.max() ** 0.5)


def test_facts_are_replaced_at_half_the_run(tmp_path):
    recall = source(tmp_path, "recall-shift")
    tokens_NS1, domain_N = recall.heldout()
    old, new = ({tuple(fact) for fact in facts_of(tokens_NS1[part])} for part in (domain_N < 10, domain_N >= 10))
    assert len(old) == len(new) == 40
    assert not {fact[:2] for fact in old} & {fact[:2] for fact in new}
    assert {tuple(fact) for step in range(20) for fact in facts_of(recall.batch(step)[0])} <= old
    assert {tuple(fact) for step in range(20, 40) for fact in facts_of(recall.batch(step)[0])} <= new
    assert (recall.domains[0], recall.domains[10]) == ("old-1", "new-1")


def test_a_known_fact_costs_nothing_and_an_unknown_one_log_v(tmp_path):
    """32 of 40 facts known, one value word each of 16: 32 × 4 bits."""
    recall = source(tmp_path)
    losses = {name: 0.0 if index < 8 else log(16) for index, name in enumerate(recall.domains)}
    found = recall.summary(losses, 1000)
    assert recall.entropy == 0.0
    assert found["bits_stored"] == pytest.approx(32 * 4)
    assert found["bits_per_parameter"] == pytest.approx(0.128)
    assert found["loss_of_unknown"] == pytest.approx(log(16))
    worse = recall.summary(dict.fromkeys(recall.domains, log(16) + 1), 1000)
    assert worse["bits_stored"] == 0  # wrong answers store nothing
    half = recall.summary(dict.fromkeys(recall.domains, log(4)), 1000)
    assert half["bits_stored"] == pytest.approx(40 * 2)  # two of four bits of each


def test_old_and_new_facts_are_told_apart(tmp_path):
    recall = source(tmp_path, "recall-shift")
    losses = {name: 2.0 if name.startswith("old") else 0.5 for name in recall.domains}
    found = recall.summary(losses, 1000)
    assert (found["loss_old"], found["loss_new"]) == (2.0, 0.5)
    assert found["bits_stored"] == pytest.approx(40 * (4 - 2 / log(2)) + 40 * (4 - 0.5 / log(2)))


def test_seeds_share_the_facts(tmp_path):
    one, other = source(tmp_path), source(tmp_path, seed=1)
    assert one.digest == other.digest
    assert np.array_equal(one.heldout()[0], other.heldout()[0])
    assert not np.array_equal(one.batch(0)[0], other.batch(0)[0])
    assert np.array_equal(one.batch(3)[0], source(tmp_path).batch(3)[0])
    assert source(tmp_path, **{"corpus.table": 1}).digest != one.digest


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rung.sequence_length": 13}, r"rung\.sequence_length: 13 is impossible; expected a multiple of 3"),
        ({"corpus.facts": 50}, r"corpus\.facts: 50 is impossible; expected a multiple of 40"),
        ({"corpus.facts": 400}, r"corpus\.facts: 400 is impossible; expected at most 64"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path, changed, message):
    with pytest.raises(ValueError, match=message):
        source(tmp_path, **changed)


@pytest.mark.parametrize("rung", ["nano", "bench", "micro"])
def test_published_rungs_show_each_fact_80_times(tmp_path, rung):
    task = tasks.load(f"recall-{rung}")
    assert task.rung.tokens / 6 / task.corpus.facts == pytest.approx(80)
    assert task.rung.weight_decay == 0
    assert len(tasks.open_source(task, tmp_path, 0).heldout()[0]) * task.rung.sequence_length == 6 * task.corpus.facts
