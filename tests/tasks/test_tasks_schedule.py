"""Random streams and the order of domains, against independent versions."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import streams
from tasks.corpus import Phase
from tasks.schedule import Schedule, cycle, spread

MASK = 2**64 - 1


def philox(key: int, counter: int) -> list[int]:
    """Philox 4x64 with ten rounds (Salmon et al., Parallel random numbers: as easy as 1, 2, 3, 2011)."""
    words = [(counter >> (64 * index)) & MASK for index in range(4)]
    keys = [key & MASK, key >> 64]
    for turn in range(10):
        if turn:
            keys = [(keys[0] + 0x9E3779B97F4A7C15) & MASK, (keys[1] + 0xBB67AE8584CAA73B) & MASK]
        first, second = 0xD2E7470EE14C6C93 * words[0], 0xCA5A826395121157 * words[2]
        words = [(second >> 64) ^ words[1] ^ keys[0], second & MASK, (first >> 64) ^ words[3] ^ keys[1], first & MASK]
    return words


def test_streams_are_philox_keyed_by_their_name():
    key = int.from_bytes(hashlib.sha256(b"windows/0").digest()[:16], "little")
    expected = philox(key, 1) + philox(key, 2)
    assert [int(number) for number in streams.raw("windows/0", 8)] == expected
    assert list(streams.uniform("windows/0", 8)) == [(number >> 11) / 2**53 for number in expected]
    assert list(streams.permutation("windows/0", 8)) == sorted(range(8), key=expected.__getitem__)


def test_uniform_is_uniform():
    drawn = streams.uniform("a stream", 100_000)
    assert 0 <= drawn.min() <= drawn.max() < 1
    assert np.abs(np.histogram(drawn, 20, (0, 1))[0] / 5000 - 1).max() < 0.1


def test_cycle_spreads_shares():
    assert list(cycle([1, 1, 1])) == [0, 1, 2]
    assert list(cycle([2, 1])) == [0, 1, 0]
    assert list(cycle([4, 2])) == [0, 1, 0, 0, 1, 0]
    assert sorted(cycle([3, 0, 5])) == [0] * 3 + [2] * 5


@settings(max_examples=60, deadline=None)
@given(
    shares=st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3).filter(any), min_size=1, max_size=3),
    steps=st.integers(1, 30),
    batch=st.integers(1, 9),
)
def test_positions_count_up_without_gap_in_every_domain(shares, steps, batch):
    """Whatever the mixture, each domain's sequences are 0, 1, 2, … in the order they are drawn."""
    names = ["a", "b", "c"]
    phases = [
        Phase(until=(index + 1) / len(shares), shares=dict(zip(names, share, strict=True)))
        for index, share in enumerate(shares)
    ]
    schedule = Schedule(names, phases, steps, batch)
    seen = [0, 0, 0]
    for step in range(steps + 2):
        domain_B, position_B = schedule.at(step)
        assert len(domain_B) == batch
        for domain, position in zip(domain_B, position_B, strict=True):
            assert position == seen[domain]
            seen[domain] += 1


def test_shares_are_exact_and_change_abruptly():
    phases = [Phase(until=0.5, shares={"a": 2, "b": 1}), Phase(until=1.0, shares={"c": 1})]
    schedule = Schedule(["a", "b", "c"], phases, 20, 6)
    first = np.concatenate([schedule.at(step)[0] for step in range(10)])
    second = np.concatenate([schedule.at(step)[0] for step in range(10, 20)])
    assert list(np.bincount(first, minlength=3)) == [40, 20, 0]
    assert list(np.bincount(second, minlength=3)) == [0, 0, 60]


def test_without_phases_domains_have_equal_shares():
    schedule = Schedule(["a", "b", "c"], [], 30, 16)
    counts = np.bincount(np.concatenate([schedule.at(step)[0] for step in range(30)]))
    assert list(counts) == [160, 160, 160]


def test_spread_is_even_and_refuses_too_much():
    assert spread(10, [5, 5, 5]) == [4, 3, 3]
    with pytest.raises(ValueError, match=r"rung\.eval_sequences: 12 is impossible; expected at most 9"):
        spread(12, [3, 8, 8])


@pytest.mark.parametrize(
    ("phases", "message"),
    [
        ([{"until": 1.0, "shares": {"z": 1}}], "corpus.phases.0.shares: 'z' is not a domain"),
        ([{"until": 1.0, "shares": {"a": 0}}], "corpus.phases.0.shares: {'a': 0} is impossible"),
        ([{"until": 0.6, "shares": {"a": 1}}], "corpus.phases.0.until: 0.6 is impossible; expected 1.0"),
        ([{"until": 0.6, "shares": {"a": 1}}, {"until": 0.6, "shares": {"a": 1}}], "corpus.phases.1.until: 0.6"),
    ],
)
def test_bad_phases_are_refused(phases, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        Schedule(["a", "b"], [Phase(**phase) for phase in phases], 10, 4)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    "phases", [[], [Phase(until=0.3, shares={"a": 2, "b": 1}), Phase(until=1.0, shares={"b": 1, "c": 3})]]
)
def test_totals_count_every_sequence_of_the_run(phases):
    schedule = Schedule(["a", "b", "c"], phases, 29, 7)
    counts = np.bincount(np.concatenate([schedule.at(step)[0] for step in range(29)]), minlength=3)
    assert list(schedule.totals()) == list(counts)
