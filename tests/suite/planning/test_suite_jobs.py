"""What the jobs of a submission would take, by numbers worked by hand."""

from __future__ import annotations

import pytest

from slurm import TrialJob, profiles
from slurm.submit import submit
from suite.planning import jobs
from suite.planning.config import parse
from suite.planning.plan import make_plan


@pytest.fixture
def plan(tiny_suite):
    return make_plan(parse(tiny_suite | {"strategies": ["none", "aux_loss"], "seeds": 3}, "tiny"))


def arrays(plan, profile, home):
    """A dry run's."""
    strategies = {trial.key: trial.arm for trial in plan.trials}
    trials = [TrialJob(key, home / "trials" / key, "zipf-nano", name, False) for key, name in strategies.items()]
    return submit(
        trials, "suite.running.job:run", {}, profiles.load("example-gpu", profile), home / "slurm", dry_run=True
    )


def priced(plan, profile, home, monkeypatch, measured=None):
    """The first of an arm's seeds takes an hour, the second two, the third three."""
    hours = {trial.key: 3600.0 * (1 + trial.seed) for trial in plan.trials}
    monkeypatch.setattr(jobs, "measured_seconds", lambda *_: measured or {})
    monkeypatch.setattr(jobs, "trial_seconds", lambda *_: hours)
    return jobs.priced(plan, home, arrays(plan, profile, home))


def test_a_job_lasts_as_long_as_the_longest_of_its_trials(plan, tmp_path, monkeypatch):
    """Six trials of 1, 1, 2, 2, 3, 3 hours in fours, on a GPU each: 2 hours and 3 hours."""
    (array,) = priced(plan, {"packing": 4}, tmp_path, monkeypatch)
    assert (array["jobs"], array["trials"], array["hours"], array["unit"]) == (2, 6, 5.0, "GPU-hours")
    assert jobs.as_text("mine", [array]) == [
        "mine, partition gpu: 2 jobs of 1 GPU for 6 trials, 2 h 30 min a job, 3 h 0 min at most (limit 8 h 0 min), "
        "5.00 GPU-hours"
    ]


def test_processes_share_what_was_not_measured(plan, tmp_path, monkeypatch):
    """On 2 nodes of 2 GPUs a trial of 3 h takes 45 min of 4 GPUs; where it was measured so, 3 h."""
    wide = {"packing": 1, "nodes": 2, "tasks_per_node": 2, "gpus_per_node": 2}
    (shared,) = priced(plan, wide, tmp_path, monkeypatch)
    assert (max(shared["seconds"]), shared["held_per_job"], shared["hours"]) == (2700, 4, 12.0)
    (whole,) = priced(plan, wide, tmp_path, monkeypatch, {("zipf-nano", None): 1.0})
    assert (max(whole["seconds"]), whole["hours"]) == (10800, 48.0)


def test_cores_are_counted_where_no_gpu_is_asked_for_and_a_limit_that_cuts_is_said(plan, tmp_path, monkeypatch):
    """The jobs of one arm get 150 minutes: the third of its trials is cut."""
    cores = {"packing": 1, "gpus_per_node": 0, "cpus_per_task": 2, "per_strategy": {"none": {"time": 150}}}
    short, long = jobs.as_text("mine", priced(plan, cores, tmp_path, monkeypatch))
    assert short == (
        "mine, partition gpu: 3 jobs of 2 cores for 3 trials, 2 h 0 min a job, 3 h 0 min at most "
        "(limit 2 h 30 min; the longest are cut off, requeued and go on), 12.00 core-hours"
    )
    assert "(limit 8 h 0 min), 12.00 core-hours" in long


def test_where_all_is_done_there_is_no_job():
    assert jobs.as_text("mine", []) == ["mine: no job, every trial is done"]
