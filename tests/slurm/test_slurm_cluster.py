"""Submitting to a real SLURM: arrays, packing, ranks, refusals, cancelling, secrets, a hostile folder."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from slurm import queue, trials
from slurm.commands import ClusterError
from slurm.submit import cancel, resubmit

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("cluster")]


def record(job):
    return json.loads((job.folder / "record.json").read_text())


def attempts(job):
    return [json.loads(line) for line in (job.folder / "attempts.jsonl").read_text().splitlines()]


def test_array_runs_on_several_nodes_and_is_not_submitted_twice(campaign):
    jobs = campaign.jobs(*(f"a{i}" for i in range(10)))
    campaign.payload["seconds"] = 0.1
    campaign.overrides = {"max_array_size": 8}
    first, second = campaign.submit(jobs)
    assert [len(first.elements), len(second.elements)] == [8, 2]
    assert campaign.submit(jobs) == []  # queued or running: nothing is missing
    seen = campaign.until(jobs, "done")
    assert {one.job_id for one in seen.values()} == {
        f"{s.job_id}_{i}" for s in (first, second) for i in range(len(s.elements))
    }
    assert len({record(job)["node"] for job in jobs}) >= 2
    assert campaign.submit(jobs) == []  # done
    assert all(len(attempts(job)) == 1 for job in jobs)


def test_packed_trials_share_a_job_and_its_gpus(campaign):
    campaign.overrides = {"packing": 3, "gpus_per_node": 2, "cpus_per_task": 2}
    jobs = campaign.jobs("p0", "p1", "p2", "p3")
    (submission,) = campaign.submit(jobs)
    assert submission.elements == (("p0", "p1", "p2"), ("p3",))
    campaign.until(jobs, "done")
    said = [record(job) for job in jobs]
    assert said[0]["job"] == said[1]["job"] == said[2]["job"] != said[3]["job"]
    assert [one["environ"]["CUDA_VISIBLE_DEVICES"] for one in said] == ["0", "1", "0", "0,1"]
    assert [one["environ"]["OMP_NUM_THREADS"] for one in said[:3]] == ["1", "1", "1"]
    assert said[0]["environ"]["RANK"] is None


def test_one_trial_over_several_nodes_gets_its_ranks(campaign):
    campaign.overrides = {"nodes": 2, "tasks_per_node": 2}
    jobs = campaign.jobs("ranks")
    campaign.submit(jobs)
    campaign.until(jobs, "done")
    deadline = time.monotonic() + 5  # rank 0 ends the trial; the others may be a moment behind
    others = [jobs[0].folder / f"rank{rank}.json" for rank in (1, 2, 3)]
    while not all(path.exists() for path in others) and time.monotonic() < deadline:
        time.sleep(0.1)
    said = [record(jobs[0]), *(json.loads(path.read_text()) for path in others)]
    assert [one["environ"]["RANK"] for one in said] == ["0", "1", "2", "3"]
    assert [one["environ"]["LOCAL_RANK"] for one in said] == ["0", "1", "0", "1"]
    assert {one["environ"]["WORLD_SIZE"] for one in said} == {"4"}
    assert len({one["environ"]["MASTER_PORT"] for one in said}) == 1
    assert {one["environ"]["MASTER_ADDR"] for one in said} == {"127.0.0.1"}  # node names resolve nowhere here
    assert len({one["node"] for one in said}) == 2


def test_a_hostile_folder_cannot_shadow_our_modules(campaign, tmp_path, monkeypatch):
    for folder in (tmp_path / "hostile", campaign.logs):
        for name in ("tasks", "slurm", "submitit", "json"):
            (folder / name).mkdir(parents=True)
            (folder / name / "__init__.py").write_text("raise SystemExit('shadowed')")
    monkeypatch.chdir(tmp_path / "hostile")
    inherited = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", ".", *filter(None, [inherited])]))
    jobs = campaign.jobs("hostile")
    campaign.submit(jobs)
    campaign.until(jobs, "done", "failed")
    said = record(jobs[0])
    assert Path(said["tasks"]) == Path(trials.__file__).parents[1] / "tasks" / "__init__.py"
    assert Path(said["cwd"]) == campaign.logs


def test_failures_say_why_and_can_be_resubmitted(campaign):
    mischief = {"f0": "fail", "f1": "die", "f2": "silent", "f3": "die once", "f4": "code"}
    campaign.payload["mischief"] = mischief
    campaign.payload["steps"] = 6
    campaign.overrides = {"restarts": 1}
    jobs = campaign.jobs(*mischief, "f5")
    campaign.submit(jobs)
    seen = campaign.until(jobs, "done", "failed")
    assert {key for key, one in seen.items() if one.state == "done"} == {"f3", "f5"}
    assert seen["f0"].why == "ZeroDivisionError: this trial divides by zero"
    assert "about to divide" in seen["f0"].log_tail
    assert seen["f1"].why == "SIGKILL: killed by SIGKILL, 2 × in this job; often: out of memory"
    assert seen["f2"].why == "NoRecord: ended without leaving a record"
    assert seen["f4"].why == "ExitCode: exit code 9"
    assert [a["from"] for a in attempts(jobs[3])] == [0, 3]  # killed once, started again in the same job
    campaign.payload["mischief"] = {}
    again = resubmit(jobs, "toy_trial:run", campaign.payload, campaign.profile, campaign.logs, failed=True)
    assert sorted(key for one in again for key in one.keys) == ["f0", "f1", "f2", "f4"]
    campaign.until(jobs, "done")
    assert not any((job.folder / "failure.json").exists() for job in jobs)


def test_what_failed_beside_a_running_trial_can_be_resubmitted_once(campaign):
    campaign.overrides = {"packing": 2}
    campaign.payload |= {"steps": 30, "seconds": 0.1, "mischief": {"g0": "fail"}}
    jobs = campaign.jobs("g0", "g1")
    campaign.submit(jobs)
    campaign.until(jobs[:1], "failed")
    assert campaign.submit(jobs[1:]) == []
    campaign.payload["mischief"] = {}
    campaign.overrides = {"extra": {"hold": True}}
    assert [one.keys for one in campaign.submit(jobs)] == [["g0"]]
    assert campaign.status(jobs)["g0"].state == "queued"  # its failure is from the job before
    assert campaign.submit(jobs) == []
    assert len(cancel(jobs, campaign.logs)) == 2


def test_cancelled_trials_checkpoint_stay_cancelled_and_resume_when_submitted_again(campaign):
    campaign.payload |= {"steps": 400, "seconds": 0.05}
    jobs = campaign.jobs("c0", "c1")
    campaign.submit(jobs)
    deadline = time.monotonic() + 20
    while not all((job.folder / "status.json").exists() for job in jobs) and time.monotonic() < deadline:
        time.sleep(0.1)
    running = campaign.status(jobs)["c0"]
    assert running.state == "running"
    assert running.steps == 400
    assert 0 < running.eta_seconds <= 200
    cancelled = cancel(jobs[:1], campaign.logs)
    assert cancelled == [running.job_id]
    campaign.until(jobs[:1], "cancelled")
    assert (jobs[0].folder / "checkpoint.json").exists()
    subprocess.run(["scancel", campaign.status(jobs)["c1"].job_id], check=True)  # behind our back
    campaign.until(jobs[1:], "cancelled")
    time.sleep(1)
    assert {s.state for s in campaign.status(jobs).values()} == {"cancelled"}  # nothing came back to life
    assert resubmit(jobs, "toy_trial:run", campaign.payload, campaign.profile, campaign.logs) == []
    campaign.payload |= {"steps": 3}
    campaign.submit(jobs)
    campaign.until(jobs, "done")
    assert attempts(jobs[0])[-1]["from"] > 0


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"partition": "urgnt"}, "Invalid partition name specified"),
        ({"partition": "urgnt"}, "(asked for partition urgnt; did you mean urgent?)"),
        ({"partition": "zzz"}, "(asked for partition zzz; known: main, urgent)"),
        ({"memory": "900GB"}, "Requested node configuration is not available"),
        ({"extra": {"reservation": "nosuch"}}, "reservation"),
    ],
)
def test_what_the_cluster_refuses_is_one_line_and_leaves_nothing(campaign, overrides, words, capfd):
    campaign.overrides = overrides
    jobs = campaign.jobs("r0", "r1")
    with pytest.raises(ClusterError) as refused:
        campaign.submit(jobs)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
    assert capfd.readouterr() == ("", "")
    left = sorted(path.name for path in campaign.logs.iterdir() if not path.name.startswith("payload-"))
    assert left == ["jobs.json", "jobs.lock"]
    campaign.overrides = {"extra": {"hold": True}}
    assert len(campaign.submit(jobs)) == 1
    assert len(cancel(jobs, campaign.logs)) == 2


def test_secrets_travel_by_environment_and_are_written_nowhere(campaign, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2-outer")
    campaign.overrides = {"env": {"WANDB_API_KEY": "hunter2-inner", "PLAIN": 'it\'s $(id) "quoted"'}}
    campaign.payload["show"] = ["WANDB_API_KEY", "MLFLOW_TRACKING_PASSWORD", "PLAIN", "SBATCH_PARTITION"]
    monkeypatch.setenv("SBATCH_PARTITION", "nosuch")  # would override the profile
    jobs = campaign.jobs("s0")
    (submission,) = campaign.submit(jobs)
    campaign.until(jobs, "done")
    seen = record(jobs[0])["environ"]
    assert seen["WANDB_API_KEY"] == "hunter2-inner"
    assert seen["MLFLOW_TRACKING_PASSWORD"] == "hunter2-outer"
    assert seen["PLAIN"] == 'it\'s $(id) "quoted"'
    assert seen["SBATCH_PARTITION"] is None
    assert "hunter2" not in submission.script
    assert not [path for path in campaign.logs.iterdir() if path.is_file() and b"hunter2" in path.read_bytes()]


def test_a_submitter_that_dies_halfway_leaves_nothing_running_twice(campaign, monkeypatch):
    from slurm import submit as module

    campaign.overrides = {"extra": {"hold": True}}
    jobs = campaign.jobs("h0", "h1", "h2")
    hand_over = module._hand_over

    def die(*arguments):
        hand_over(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_hand_over", die)
    with pytest.raises(KeyboardInterrupt):
        campaign.submit(jobs)
    monkeypatch.setattr(module, "_hand_over", hand_over)
    campaign.overrides = {}
    campaign.submit(jobs)
    campaign.until(jobs, "done")
    held = subprocess.run(["squeue", "-h", "-o", "%k|%r"], capture_output=True, text=True, check=True).stdout
    assert "JobHeld" not in held


def test_states_leave_out_what_slurm_does_not_know(campaign):
    jobs = campaign.jobs("q0")
    (submission,) = campaign.submit(jobs)
    known = queue.states([submission.job_id, "999999", "999998_7"])
    assert set(known) == {submission.job_id}
    assert queue.states(["999999"]) == {}
    assert queue.states([]) == {}
    campaign.until(jobs, "done")


def test_a_thousand_trials_are_submitted_within_seconds(campaign):
    campaign.overrides = {"extra": {"hold": True}}
    jobs = campaign.jobs(*(f"k{i:04d}" for i in range(1000)))
    start = time.monotonic()
    (submission,) = campaign.submit(jobs)
    took = time.monotonic() - start
    try:
        assert len(submission.elements) == 1000
        assert took < 10
        assert {one.state for one in campaign.status(jobs).values()} == {"queued"}
    finally:
        assert len(cancel(jobs, campaign.logs)) == 1000
    print(f"1,000 trials in {took:.2f} s")
