"""Batches: stateless, every window once per epoch, held-out text apart."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tasks.corpus import Phase
from tasks.ladder import derive
from tasks.windows import WindowSource


def rung(**given):
    return derive(
        "x", {"depth": 2, "sequence_length": 8, "batch_sequences": 5, "steps": 40, "eval_sequences": 7, **given}
    )


@pytest.fixture
def folder(tmp_path):
    """Two domains whose tokens are their own positions (the second's from 2000 on), held out from 4000 and 5000 on."""
    out = tmp_path / "corpus"
    out.mkdir()
    for name, start, train, heldout in (("a", 0, 1000, 100), ("b", 2000, 333, 65)):
        np.save(out / f"{name}.train.npy", np.arange(start, start + train, dtype=np.uint16))
        np.save(out / f"{name}.heldout.npy", np.arange(4000 + start // 2, 4000 + start // 2 + heldout, dtype=np.uint16))
    for name in ("token_bytes", "token_counts"):
        np.save(out / f"{name}.npy", np.ones(6000, dtype=np.int64))
    sizes = {path.name: path.stat().st_size for path in out.iterdir()}
    facts = {"digest": "d", "domains": {"a": {}, "b": {}}, "files": sizes, "vocab_size": 6000}
    (out / "facts.json").write_text(json.dumps(facts))
    return out


def test_rows_are_stretches_of_their_domain(folder):
    source = WindowSource(folder, rung(), [], 0)
    for step in range(60):
        tokens_BS1, domain_B = source.batch(step)
        assert tokens_BS1.shape == (5, 9)
        assert tokens_BS1.dtype == domain_B.dtype == np.int64
        assert np.all(np.diff(tokens_BS1, axis=1) == 1)
        assert np.array_equal(tokens_BS1[:, 0] >= 2000, domain_B == 1)


def test_an_epoch_holds_every_window_once_and_the_next_one_others(folder):
    source = WindowSource(folder, rung(batch_sequences=1, steps=300), [Phase(until=1.0, shares={"b": 1})], 0)
    windows = 332 // 8 - 1
    starts = np.array([source.batch(step)[0][0, 0] - 2000 for step in range(3 * windows)]).reshape(3, windows)
    for epoch in starts:
        offset = epoch.min()
        assert 0 <= offset < 8
        assert sorted(epoch) == [offset + 8 * index for index in range(windows)]
    assert len({tuple(epoch) for epoch in starts}) == 3


def test_offsets_are_all_those_that_leave_every_window_whole(folder):
    only = [Phase(until=1.0, shares={"b": 1})]
    seeds = [WindowSource(folder, rung(batch_sequences=40), only, seed) for seed in range(60)]
    assert {int(source.batch(0)[0][:, 0].min()) - 2000 for source in seeds} == set(range(8))


def test_a_batch_depends_on_seed_and_step_only(folder):
    there, back = WindowSource(folder, rung(), [], 1), WindowSource(folder, rung(), [], 1)
    forward = [there.batch(step)[0] for step in range(100)]
    for step in reversed(range(100)):
        assert np.array_equal(back.batch(step)[0], forward[step])
    other = WindowSource(folder, rung(), [], 2)
    assert not np.array_equal(other.batch(0)[0], forward[0])


def test_an_abrupt_shift(folder):
    phases = [Phase(until=0.5, shares={"a": 1}), Phase(until=1.0, shares={"b": 1})]
    source = WindowSource(folder, rung(), phases, 0)
    assert {int(d) for step in range(20) for d in source.batch(step)[1]} == {0}
    assert {int(d) for step in range(20, 45) for d in source.batch(step)[1]} == {1}
    assert set(source.heldout()[1]) == {0, 1}


def test_held_out_is_spread_evenly_and_the_same_for_every_seed(folder):
    tokens_NS1, domain_N = WindowSource(folder, rung(), [], 0).heldout()
    assert tokens_NS1.shape == (7, 9)
    assert list(domain_N) == [0, 0, 0, 0, 1, 1, 1]
    assert np.all(np.diff(tokens_NS1, axis=1) == 1)
    # 99 // 8 = 12 windows in a, 64 // 8 = 8 in b: the middles of 4 and of 3 equal parts
    assert list(tokens_NS1[:, 0]) == [4000 + 8 * w for w in (1, 4, 7, 10)] + [5000 + 8 * w for w in (1, 4, 6)]
    assert np.array_equal(WindowSource(folder, rung(), [], 5).heldout()[0], tokens_NS1)


def test_fewer_held_out_sequences_than_domains(folder):
    tokens_NS1, domain_N = WindowSource(folder, rung(eval_sequences=1), [], 0).heldout()
    assert (tokens_NS1.shape, list(domain_N)) == ((1, 9), [0])


def test_rungs_too_large_for_the_corpus_are_refused(folder):
    with pytest.raises(ValueError, match=r"rung\.sequence_length: 200 is impossible; expected at most 166: b has 333"):
        WindowSource(folder, rung(sequence_length=200), [], 0)
    assert WindowSource(folder, rung(sequence_length=166), [], 0).batch(0)[0].shape == (5, 167)
    with pytest.raises(ValueError, match=r"rung\.eval_sequences: 40 is impossible; expected at most 16"):
        WindowSource(folder, rung(eval_sequences=40), [], 0).heldout()


@pytest.mark.parametrize("steps", [5, 45])
def test_passes_say_whether_a_token_is_read_twice(folder, steps):
    """Counted from the tokens themselves: in the fixture a token's id is its place in the text."""
    source = WindowSource(folder, rung(steps=steps), [], 0)
    tokens = np.concatenate([source.batch(step)[0][:, :-1] for step in range(steps)])
    domain = np.concatenate([source.batch(step)[1] for step in range(steps)])
    for index, passes in enumerate(source.passes().values()):
        read = tokens[domain == index].ravel()
        assert (len(np.unique(read)) == len(read)) == (passes <= 1)
