"""The synthetic source: its entropy is known, its domains are separable, its counts come true."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from math import log

import numpy as np
import pytest

import tasks

OVERRIDES = {
    "corpus.domains": 3,
    "corpus.exponent": 1.0,
    "rung.vocab_size": 7,
    "rung.sequence_length": 50,
    "rung.batch_sequences": 300,
    "rung.eval_sequences": 900,
    "rung.steps": 10,
}


@pytest.fixture
def source(tmp_path):
    return tasks.open_source(tasks.load("zipf-nano", OVERRIDES), tmp_path, 0)


def test_entropy_by_hand(source):
    """Four words with probabilities 12/25, 6/25, 4/25, 3/25."""
    shares = [12 / 25, 6 / 25, 4 / 25, 3 / 25]
    assert source.entropy == pytest.approx(-sum(p * log(p) for p in shares))


def transitions(tokens_NS1, domain_N, words, domains):
    """How often each word follows each word or the marker, by domain, (M, W + 1, W)."""
    counts = np.zeros((domains, words + 1, words))
    before = np.minimum(tokens_NS1[:, :-1], words)
    np.add.at(counts, (domain_N[:, None].repeat(before.shape[1], 1), before, tokens_NS1[:, 1:]), 1)
    return counts


def test_what_follows_a_word_is_zipf_distributed_and_differs_by_domain(source):
    batches = [source.batch(step) for step in range(10)]
    tokens, domain = np.concatenate([b[0] for b in batches]), np.concatenate([b[1] for b in batches])
    assert np.array_equal(tokens[:, 0], 4 + domain)
    assert tokens[:, 1:].max() < 4
    counts = transitions(tokens, domain, 4, 3)
    for domain_counts in counts:
        for row in domain_counts:
            shares = np.sort(row / row.sum())[::-1]
            assert shares == pytest.approx([0.48, 0.24, 0.16, 0.12], abs=4 * 0.5 / row.sum() ** 0.5)
    orders = np.argsort(-counts, axis=2)
    assert not np.array_equal(orders[0], orders[1])


def test_a_model_that_knows_the_transitions_reaches_the_entropy_on_held_out_text(source):
    tokens, domain = source.heldout()
    counts = transitions(*map(np.concatenate, zip(*(source.batch(step) for step in range(10)), strict=True)), 4, 3)
    probability = counts / counts.sum(axis=2, keepdims=True)
    loss = -np.log(probability[domain[:, None], np.minimum(tokens[:, :-1], 4), tokens[:, 1:]])
    assert loss.mean() == pytest.approx(source.entropy, abs=0.01)
    blind = counts.sum(axis=0) / counts.sum(axis=(0, 2))[:, None]  # one that cannot tell the domains apart
    assert -np.log(blind[np.minimum(tokens[:, :-1], 4), tokens[:, 1:]]).mean() > source.entropy + 0.02


def test_counts_come_true(source):
    inputs = np.concatenate([source.batch(step)[0] for step in range(10)])
    counted = np.bincount(inputs.ravel(), minlength=7)
    assert source.token_counts_V.sum() == pytest.approx(inputs.size, abs=7)
    assert source.token_counts_V == pytest.approx(counted, abs=5 * counted.max() ** 0.5)
    assert list(source.token_bytes_V) == [1, 1, 1, 1, 0, 0, 0]


def test_some_words_are_more_frequent_everywhere(tmp_path):
    source = tasks.open_source(tasks.load("zipf-nano"), tmp_path, 0)
    words = source.token_counts_V[:32]
    assert words[:4].sum() > 3 * words[-4:].sum()


def test_seeds_share_the_tables_and_the_held_out_text(tmp_path, source):
    other = tasks.open_source(tasks.load("zipf-nano", OVERRIDES), tmp_path, 1)
    assert other.digest == source.digest
    assert np.array_equal(other.heldout()[0], source.heldout()[0])
    assert not np.array_equal(other.batch(0)[0], source.batch(0)[0])
    assert not np.array_equal(source.batch(0)[0], source.batch(1)[0])
    changed = tasks.open_source(tasks.load("zipf-nano", {**OVERRIDES, "corpus.table": 1}), tmp_path, 0)
    assert changed.digest != source.digest


def test_another_process_draws_the_same(tmp_path, source):
    script = (
        "import hashlib, json, sys, tasks; from pathlib import Path\n"
        f"source = tasks.open_source(tasks.load('zipf-nano', {OVERRIDES!r}), Path(sys.argv[1]), 0)\n"
        "print(hashlib.sha256(source.digest.encode() + source.batch(5)[0].tobytes()).hexdigest())"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, str(tmp_path)], capture_output=True, text=True, check=True
    )
    here = hashlib.sha256(source.digest.encode() + source.batch(5)[0].tobytes()).hexdigest()
    assert done.stdout.strip() == here


def test_every_domain_is_held_out(source):
    assert list(np.bincount(source.heldout()[1])) == [300, 300, 300]


def test_tables_beyond_reason_are_refused(tmp_path):
    task = tasks.load("zipf-nano", {"rung.vocab_size": 50_000})
    with pytest.raises(ValueError, match=r"rung\.vocab_size: 50000 is impossible"):
        tasks.open_source(task, tmp_path, 0)
