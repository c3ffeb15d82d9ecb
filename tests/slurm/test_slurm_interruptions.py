"""What stops a job on a real SLURM, and that its trials go on where they were.

A requeued job waits some seconds before it starts again, so the quick scenarios happen side by side.
"""

import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from slurm_campaign import ENTRY, TOY, Campaign

from slurm import nodes
from slurm.submit import resubmit

pytestmark = pytest.mark.slurm


def attempts(job):
    path = job.folder / "attempts.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_for(condition, what, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {seconds} s")
        time.sleep(0.1)


def at_step(job, step):
    path = job.folder / "status.json"
    return path.exists() and json.loads(path.read_text())["step"] >= step


def slurm(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def processes(job_id, module=None):
    """Pids of a job's processes: those that run a module of ours, or all, SLURM's own included."""
    raw = slurm("squeue", "-h", "-j", job_id, "-o", "%A")
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environ = (folder / "environ").read_bytes().split(b"\0")
            command = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        belongs = f"SLURM_JOB_ID={raw}".encode() in environ
        step = command[0].startswith(f"slurmstepd: [{raw}.".encode())
        if (belongs and module.encode() in command) if module else (belongs or step):
            found.append(int(folder.name))
    return found


class Scenario(Campaign):
    """Some trials of which something is to happen."""

    def begin(self, *keys, overrides=None, **payload):
        self.overrides = overrides or {}
        self.payload |= {"steps": 40, "seconds": 0.1} | payload
        self.trials = self.jobs(*keys)
        self.submit(self.trials)
        return self

    def under_way(self, step=3):
        for trial in self.trials:
            wait_for(lambda t=trial: at_step(t, step) or (t.folder / "failure.json").exists(), f"{trial.key} under way")
        return self.status(self.trials)

    def interrupted(self, count):
        wait_for(lambda: len(attempts(self.trials[-1])) > count, f"attempt {count + 1} of {self.trials[-1].key}")


@pytest.fixture(scope="module")
def stories(cluster, tmp_path_factory):
    """Seven scenarios up to the moment when nothing more is done to them."""
    home = tmp_path_factory.mktemp("stories")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TOY))
        names = ("preempted", "ranks signalled", "timed out", "killed", "lost rank", "told to stop", "beside a failure")
        told = {name: Scenario(home / name) for name in names}
        on_n0 = {"packing": 2, "cpus_per_task": 2, "extra": {"nodelist": "n0"}}
        elsewhere = {"extra": {"exclude": "n0"}}
        told["preempted"].begin("v0", "v1", overrides=on_n0)
        told["timed out"].begin(
            "u0", overrides=elsewhere | {"time": 10, "max_requeues": 1, "signal_delay": 30}, steps=900
        )
        told["killed"].begin("w0", "w1", overrides=elsewhere | {"restarts": 2}, steps=80)
        told["ranks signalled"].begin("q0", overrides=elsewhere | {"tasks_per_node": 2}, steps=80)
        told["lost rank"].begin(
            "r0",
            overrides=elsewhere | {"tasks_per_node": 2, "restarts": 2},
            mischief={"r0": "needs peers"},
            steps=80,
        )
        told["told to stop"].begin("s0", overrides=elsewhere, steps=80)
        told["beside a failure"].begin("z0", "z1", overrides=elsewhere | {"packing": 2}, mischief={"z0": "fail"})

        told["preempted"].under_way()
        start = time.monotonic()
        slurm("srun", "--partition=urgent", "--nodelist=n0", "--cpus-per-task=2", "--mem=1800MB", "true")
        told["preempted"].took = time.monotonic() - start
        told["preempted"].seen = told["preempted"].status(told["preempted"].trials)

        seen = told["killed"].under_way().values()
        # the element whose own id is the id of the whole array
        (victim,) = [one for one in seen if f"{slurm('squeue', '-h', '-j', one.job_id, '-o', '%A')}_" in one.job_id]
        told["killed"].victim = victim.key
        os.kill(processes(victim.job_id, "slurm.launch")[0], signal.SIGKILL)
        job_id = told["ranks signalled"].under_way()["q0"].job_id
        wait_for(lambda: len(processes(job_id, "slurm.worker")) == 2, "both ranks at work")
        start = time.monotonic()
        slurm("scancel", "--signal=USR2", job_id)
        wait_for(lambda: not processes(job_id), "every process of the job gone")
        told["ranks signalled"].took = time.monotonic() - start
        lost = told["lost rank"].under_way()["r0"].job_id
        wait_for(lambda: len(processes(lost, "slurm.worker")) == 2, "both ranks at work")
        os.kill(processes(lost, "slurm.worker")[1], signal.SIGKILL)
        told["told to stop"].under_way()
        # what a preemption that tells with SIGTERM only does to the processes of a job
        os.kill(attempts(told["told to stop"].trials[0])[0]["pid"], signal.SIGTERM)
        told["beside a failure"].seen = told["beside a failure"].under_way()
        slurm("scancel", "--signal=USR2", told["beside a failure"].seen["z1"].job_id)
        for attempt in (1, 2):  # what SLURM does near the time limit
            seen = told["timed out"].under_way(3 * attempt)["u0"]
            slurm("scancel", "--signal=USR2", seen.job_id)
            if attempt == 1:
                wait_for(
                    lambda: told["timed out"].status(told["timed out"].trials)["u0"].state == "requeued", "requeued"
                )
                told["timed out"].interrupted(1)
        yield told


def test_preempted_trials_give_way_and_resume(stories):
    story = stories["preempted"]
    assert story.took < 15  # far less than the partition's grace of 30 s: they wrote checkpoints and left
    assert {one.state for one in story.seen.values()} <= {"requeued", "running"}
    story.until(story.trials, "done")
    for trial in story.trials:
        assert [one["restarts"] for one in attempts(trial)] == [0, 1]
        assert attempts(trial)[1]["from"] >= 3


def test_the_timeout_signal_requeues_until_there_were_too_many(stories):
    story = stories["timed out"]
    seen = story.until(story.trials, "failed")["u0"]
    assert [one["restarts"] for one in attempts(story.trials[0])] == [0, 1]
    assert attempts(story.trials[0])[1]["from"] >= 3
    assert "timed-out too many times" in (story.logs / f"{seen.job_id}_0_log.out").read_text()
    assert seen.why == "reached its time limit max_requeues times; raise time or max_requeues, then resubmit"


def test_a_job_killed_without_a_word_is_requeued_by_its_batch_script_and_no_other(stories):
    story = stories["killed"]
    story.until(story.trials, "done")
    restarts = {trial.key: [one["restarts"] for one in attempts(trial)] for trial in story.trials}
    assert restarts == {"w0": [0], "w1": [0]} | {story.victim: [0, 1]}


def test_a_lost_rank_is_no_failure_of_the_others(stories):
    story = stories["lost rank"]
    story.until(story.trials, "done")
    assert [one["restarts"] for one in attempts(story.trials[0])] == [0, 0, 1, 1]
    assert "connection closed by peer" in "".join(path.read_text() for path in story.logs.glob("r0*.log"))


def test_all_ranks_leave_at_once_when_told(stories):
    story = stories["ranks signalled"]
    assert story.took < 4  # less than the 5 s after which SLURM kills what stays
    story.until(story.trials, "done")
    assert sorted(one["restarts"] for one in attempts(story.trials[0])) == [0, 0, 1, 1]


def test_a_worker_told_to_stop_has_its_job_requeued(stories):
    story = stories["told to stop"]
    story.until(story.trials, "done")
    assert [one["restarts"] for one in attempts(story.trials[0])] == [0, 1]
    assert attempts(story.trials[0])[1]["from"] >= 3


def test_what_failed_beside_an_interrupted_trial_is_not_tried_again(stories):
    story = stories["beside a failure"]
    assert {key: one.state for key, one in story.seen.items()} == {"z0": "failed", "z1": "running"}
    story.interrupted(1)
    seen = story.until(story.trials, "done", "failed")
    assert len(attempts(story.trials[0])) == 1
    assert seen["z0"].why == "ZeroDivisionError: this trial divides by zero"
    assert seen["z1"].state == "done"


def test_a_job_that_may_not_start_again_fails_and_says_why(cluster, campaign):
    campaign.overrides = {"restarts": 0}
    campaign.payload |= {"steps": 400, "seconds": 0.05}
    jobs = campaign.jobs("x0")
    campaign.submit(jobs)
    wait_for(lambda: at_step(jobs[0], 1), "under way")
    os.kill(processes(campaign.status(jobs)["x0"].job_id, "slurm.launch")[0], signal.SIGKILL)
    seen = campaign.until(jobs, "failed")["x0"]
    assert seen.why.startswith("FAILED, killed by signal 9; often: out of memory, on n")
    assert seen.log_tail[0].startswith("--- ")
    orphan = Path(f"/proc/{attempts(jobs[0])[0]['pid']}/status")
    wait_for(lambda: not orphan.exists() or "State:\tZ" in orphan.read_text(), "the orphan is gone", 10)


@pytest.mark.slow
def test_a_real_time_limit(cluster, campaign):
    campaign.overrides = {"time": 2, "signal_delay": 55, "max_requeues": 5}
    campaign.payload |= {"steps": 800, "seconds": 0.1}
    jobs = campaign.jobs("limit")
    campaign.submit(jobs)
    campaign.until(jobs, "done", seconds=300)
    assert len(attempts(jobs[0])) >= 2
    assert attempts(jobs[0])[1]["from"] > 0


@pytest.mark.slow
def test_a_controller_that_restarts_forgets_nothing(cluster, campaign):
    campaign.payload |= {"steps": 100, "seconds": 0.1}
    jobs = campaign.jobs(*(f"rc{i}" for i in range(12)))
    campaign.submit(jobs)
    wait_for(lambda: at_step(jobs[0], 3), "under way")
    os.kill(cluster.pid("slurmctld"), signal.SIGTERM)
    wait_for(lambda: campaign.status(jobs)["rc11"].state == "unknown", "status without a controller", 90)
    cluster.start()
    campaign.until(jobs, "done", seconds=120)
    assert all(len(attempts(job)) == 1 for job in jobs)


@pytest.mark.slow
def test_a_node_that_dies_gives_its_trials_back(cluster, campaign):
    campaign.payload |= {"steps": 200, "seconds": 0.1}
    campaign.overrides = {"extra": {"exclude": "n[1-3]"}}
    jobs = campaign.jobs("node")
    campaign.submit(jobs)
    wait_for(lambda: at_step(jobs[0], 3), "under way")
    try:
        for pid in [cluster.pid("slurmd.n0"), *processes(campaign.status(jobs)["node"].job_id)]:
            os.kill(pid, signal.SIGKILL)
        slurm("scontrol", "update", "nodename=n0", "state=down", "reason=test")  # or wait for SlurmdTimeout
        wait_for(lambda: campaign.status(jobs)["node"].state in ("requeued", "queued"), "given back")
    finally:
        cluster.start()
        subprocess.run(["scontrol", "update", "nodename=n0", "state=resume"])  # fails if it is back by itself
    campaign.until(jobs, "done", seconds=200)
    assert len(attempts(jobs[0])) == 2


def test_jobs_leave_a_node_that_fails_all_it_is_given(cluster, campaign):
    """Two nodes for twelve trials, one job at a time on each: the broken one would eat all but a few."""
    campaign.payload |= {"broken": ["n0"], "steps": 2}
    campaign.overrides = {"cpus_per_task": 2, "extra": {"exclude": "n[2-3]"}}
    jobs = campaign.jobs(*(f"left{i}" for i in range(12)))
    campaign.submit(jobs)
    seen = campaign.until(jobs, "done", "failed")
    done = [job for job in jobs if seen[job.key].state == "done"]
    assert nodes.broken(campaign.logs) == {"n0": "OSError: no device"}
    assert 2 <= len(jobs) - len(done) <= 8
    tried = [attempt for job in done for attempt in attempts(job)]
    assert {attempt["node"] for attempt in tried} == {"n1"}  # those that came to n0 then did not try there
    assert any(attempt["restarts"] for attempt in tried)


@pytest.mark.slow
def test_random_kills_and_preemptions_lose_nothing(cluster, campaign):
    """50 trials over 4 nodes: whatever happens, each ends with the value an undisturbed run has."""
    chance = random.Random(5)
    campaign.payload |= {"steps": 120, "seconds": 0.1, "every": 10}
    campaign.overrides = {"packing": 3, "cpus_per_task": 1, "restarts": 50}
    jobs = campaign.jobs(*(f"chaos{i:02d}" for i in range(50)))
    campaign.submit(jobs)
    done = {"worker killed": 0, "job killed": 0, "signalled": 0, "preempted": 0, "requeued": 0}
    deadline = time.monotonic() + 400
    while any(one.state != "done" for one in campaign.status(jobs).values()):
        assert time.monotonic() < deadline, {k: (s.state, s.why, s.log_tail) for k, s in campaign.status(jobs).items()}
        time.sleep(chance.uniform(0.1, 0.5))
        resubmit(jobs, ENTRY, campaign.payload, campaign.profile, campaign.logs)
        running = sorted({one.job_id for one in campaign.status(jobs).values() if one.state == "running"})
        if not running or sum(done.values()) >= 60:
            continue
        what, victim = min(done, key=done.__getitem__), chance.choice(running)
        if what == "preempted":
            extra = ["--nodelist", f"n{chance.randrange(4)}", "--cpus-per-task=2", "--mem=1800MB"]
            subprocess.run(
                ["sbatch", "--partition=urgent", "--output=/dev/null", *extra, "--wrap", "sleep 1"], check=True
            )
        elif what == "signalled":
            subprocess.run(["scancel", "--signal=USR2", victim], stderr=subprocess.DEVNULL)
        elif what == "requeued":
            subprocess.run(["scontrol", "requeue", victim], stderr=subprocess.DEVNULL)
        else:
            module = "slurm.worker" if what == "worker killed" else "slurm.launch"
            pids = processes(victim, module)
            if not pids:
                continue
            with contextlib.suppress(ProcessLookupError):
                os.kill(chance.choice(pids), signal.SIGKILL)
        done[what] += 1
    print(done, sum(len(attempts(job)) for job in jobs), "attempts")
    assert min(done.values()) >= 2
    for job in jobs:
        value = job.key
        for _ in range(120):
            value = hashlib.sha256(value.encode()).hexdigest()
        assert json.loads((job.folder / "record.json").read_text())["value"] == value
