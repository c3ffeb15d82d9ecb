"""What a submission is held to is what trials of the same suite really say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tasks
from results.records.published import trials_of
from suite.running.expectation import floors

FACTS = Path(__file__).parents[3] / "results/published/facts-cpu"


def test_the_noise_floor_of_facts_is_that_of_every_fact_once():
    trials = json.loads((FACTS / "manifest.json").read_text())["trials"]
    record = json.loads((trials_of(FACTS) / trials[0]["trial_key"] / "record.json").read_text())
    assert floors(tasks.load("recall-bench")) == pytest.approx(record["measures"]["noise_floor"], rel=1e-12)
