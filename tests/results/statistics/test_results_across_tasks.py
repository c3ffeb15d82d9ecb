"""Summaries over tasks, on two arms and two tasks small enough to work by hand."""

import numpy as np
import pytest

from results.records import Outcome, Records
from results.statistics.across_tasks import across_tasks

ARMS, TASKS = ("base", "arm"), ("one", "two")


def records(table):
    """`table[task][arm]`: losses by seed; None a failed trial, inf a diverged one."""
    outcomes = []
    for task, arms in table.items():
        for arm, losses in arms.items():
            for seed, loss in enumerate(losses):
                status = "failed" if loss is None else "diverged" if loss == float("inf") else "finished"
                record = {"measures": {"val_loss": loss}} if status != "failed" else None
                outcomes.append(Outcome(arm, task, seed, f"{task}-{arm}-{seed}", status, record))
    return Records(outcomes)


TABLE = {
    "one": {"base": [4.0, 5.0], "arm": [3.0, 4.5]},
    "two": {"base": [1.0, 2.0], "arm": [2.5, 3.0]},
}


def test_mean_rank_and_probability_of_improvement_by_hand():
    summary = across_tasks(records(TABLE), ARMS, TASKS, "base")
    assert summary["n_tasks"] == 2
    assert summary["arms"]["arm"]["mean_rank"] == 1.5  # first, then second
    assert summary["arms"]["base"]["mean_rank"] == 1.5
    # Task one: 3 < 4, 3 < 5, 4.5 < 5, but not 4.5 < 4: 3 of 4. Task two: none of 4.
    assert summary["arms"]["arm"]["improvement"] == pytest.approx(3 / 8)
    assert summary["arms"]["base"]["improvement"] is None


def test_ranks_in_every_resample_are_certain_here():
    # Both seeds agree on the order within each task, so no resample changes a rank.
    arm = across_tasks(records(TABLE), ARMS, TASKS, "base")["arms"]["arm"]
    assert (arm["rank_low"], arm["rank_high"]) == (1.5, 1.5)
    # One seed drawn twice wins task one outright, so 1/2; both seeds drawn give 3/8.
    assert (arm["improvement_low"], arm["improvement_high"]) == pytest.approx((3 / 8, 1 / 2))


def test_rank_interval_against_enumeration():
    # Two seeds that disagree: drawn (0,0), (0,1), (1,0), (1,1) with equal odds; sums of differences −1, 0.4, 0.4, 1.8.
    table = {"one": {"base": [4.0, 4.0], "arm": [3.5, 4.9]}}
    arm = across_tasks(records(table), ARMS, ["one"], "base")["arms"]["arm"]
    assert arm["mean_rank"] == 2
    assert (arm["rank_low"], arm["rank_high"]) == (1, 2)


def test_performance_profile_by_hand():
    profile = across_tasks(records(TABLE), ARMS, TASKS, "base")["profile"]
    # Best means: 3.75 on task one, 1.5 on task two. So `arm` exceeds them by −0.75, 0.75 and by 1.0, 1.5.
    grid = np.array(profile["excess"])
    arm = [np.mean([np.mean([g >= -0.75, g >= 0.75]), np.mean([g >= 1.0, g >= 1.5])]) for g in grid]
    assert profile["arms"]["arm"] == pytest.approx(arm)
    assert grid[0] == pytest.approx(-0.75)
    assert all(np.diff(profile["arms"]["base"]) >= 0)


def test_equal_losses_count_half():
    table = {"one": {"base": [4.0, 5.0], "arm": [4.0, 4.5]}}
    # 4 = 4 (half), 4 < 5, 4.5 > 4, 4.5 < 5: 2.5 of 4.
    arm = across_tasks(records(table), ARMS, ["one"], "base")["arms"]["arm"]
    assert arm["improvement"] == pytest.approx(2.5 / 4)


def test_divergence_is_an_infinite_loss():
    table = {"one": {"base": [4.0, 5.0], "arm": [3.0, float("inf")]}}
    summary = across_tasks(records(table), ARMS, ["one"], "base")
    assert summary["arms"]["arm"]["mean_rank"] == 2
    assert summary["arms"]["arm"]["improvement"] == pytest.approx(2 / 4)
    assert summary["profile"]["arms"]["arm"][-1] == 0.5


def test_failed_trials_are_left_out_and_pairs_kept():
    # Without pairing `arm` would look worse: its cheap seed is the one that failed.
    table = {"one": {"base": [1.0, 5.0], "arm": [None, 4.9]}}
    assert across_tasks(records(table), ARMS, ["one"], "base")["arms"]["arm"]["mean_rank"] == 1


def test_an_arm_without_a_task_has_no_mean_rank():
    table = {"one": TABLE["one"], "two": {"base": [1.0, 2.0], "arm": [None, None]}}
    summary = across_tasks(records(table), ARMS, TASKS, "base")
    assert summary["arms"]["arm"]["mean_rank"] is None
    assert summary["arms"]["base"]["mean_rank"] == 1.5


def test_nothing_at_all():
    summary = across_tasks(records({}), ARMS, ["one"], "base")
    assert summary["arms"]["arm"] == dict.fromkeys(summary["arms"]["arm"])
    assert summary["profile"]["excess"] == []
    assert across_tasks(records(TABLE), ARMS, TASKS, "elsewhere")["arms"] == {}
