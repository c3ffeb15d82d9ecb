"""What a trial costs where nothing was measured."""

import pytest

import tasks
from suite.planning import estimate


def test_a_small_rung_on_a_gpu_takes_as_long_as_its_launches():
    """400 steps of four layers at 5 ms each are 8 s, whatever the peak; its FLOPs alone take 0.13 s."""
    rung = tasks.load("text-micro").rung
    assert (rung.steps, rung.layers, rung.micro_batches) == (400, 4, 1)
    assert estimate.unmeasured_seconds(rung, 2e14, "cuda") == pytest.approx(8.0)
    assert estimate.unmeasured_seconds(rung, 1e11, "cpu") == pytest.approx(estimate.training_flops(rung) / 1e11)


def test_the_next_plan_is_the_one_that_adds_least(monkeypatch, tmp_path):
    """Alone they cost 10, 6 and 7; after the second the first adds only 5. What is done costs nothing."""
    costs = {"a": {"1": 5.0, "2": 5.0}, "b": {"2": 5.0, "3": 1.0}, "c": {"4": 7.0}, "d": {"5": 9.0}}
    monkeypatch.setattr(
        estimate, "states", lambda plan, home: {key: "done" if key == "5" else "new" for key in "12345"}
    )
    monkeypatch.setattr(estimate, "measured_seconds", lambda plan, home, found: {})
    monkeypatch.setattr(estimate, "trial_seconds", lambda plan, measured: costs[plan])
    assert estimate.cheapest_first(list("abcd"), tmp_path) == ["d", "b", "a", "c"]


def test_one_trial_is_1_trial_in_a_table_of_plans():
    plans = [
        {"suite": name, "states": {"done": 0}, "trials": trials, "cost": {"seconds": 0}}
        for name, trials in (("one", 1), ("several", 12))
    ]
    assert estimate.table(plans).splitlines()[:2] == [
        "one         0 of    1 trial there, nothing left to run",
        "several     0 of  12 trials there, nothing left to run",
    ]


def test_one_seed_is_1_seed():
    can = {"sd_measured": False, "detectable_difference": None, "seeds": 0, "min_seeds": 1}
    assert estimate.power_lines(can) == ["fewer than 1 seed: results will be indicative and get no verdict"]
