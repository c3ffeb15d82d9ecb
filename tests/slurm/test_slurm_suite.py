"""The real suite on the real test cluster: random kills and preemptions change no record and double no MLflow point."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import time

import pytest
import yaml
from click.testing import CliRunner
from test_slurm_interruptions import processes

from suite.cli import cluster as verbs
from suite.cli import main
from suite.planning import library, plan
from suite.running.attempt import run_trial
from suite.running.tracking import Mirror
from suite.storage.files import read_json
from suite.storage.home import resolve

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

SUITE = {
    "suite": "chaos",
    "title": "fifty small trials",
    "tasks": [
        {
            "task": "zipf-nano",
            "set": {"rung.steps": 200, "rung.width": 32, "rung.heads": 1, "rung.experts": 4, "rung.expert_width": 16,
                    "rung.sequence_length": 16, "rung.batch_sequences": 4, "rung.eval_sequences": 8,
                    "rung.checkpoint_every": 10, "rung.warmup_steps": 2},
        }
    ],
    "strategies": ["none", "aux_loss", "smebu", "stable_moe", "base"],
    "seeds": 10,
    "baseline": "aux_loss",
    "aa": False,
}  # fmt: skip


def call(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output + result.stderr
    return result


def disturb(what, victim, chance):
    """One blow at a running job. False if there was nothing to hit."""
    if what == "preempted":
        extra = ["--nodelist", f"n{chance.randrange(4)}", "--cpus-per-task=2", "--mem=1800MB"]
        subprocess.run(["sbatch", "--partition=urgent", "--output=/dev/null", *extra, "--wrap", "sleep 1"], check=True)
    elif what == "signalled":
        subprocess.run(["scancel", "--signal=USR2", victim], stderr=subprocess.DEVNULL)
    else:
        found = processes(victim, "slurm.worker" if what == "worker killed" else "slurm.launch")
        if not found:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(chance.choice(found), signal.SIGKILL)
    return True


def test_fifty_trials_end_with_the_records_of_an_undisturbed_run(cluster, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("EQUIPOISE_HOME", str(tmp_path / "home"))
    file = tmp_path / "chaos.yaml"
    file.write_text(yaml.safe_dump(SUITE))
    made = plan.make_plan(library.load(str(file)))
    quiet = resolve(str(tmp_path / "quiet"))
    for trial in made.trials:
        run_trial(made.write_trial(quiet, trial).path, quiet / "cache")
    submitted = call("submit", file, "--profile", "testcluster", "--profile-set", "restarts=50", "--json")
    assert sum(len(one["trial_keys"]) for one in json.loads(submitted.stdout)) == 50
    home = resolve(None)
    jobs = verbs.jobs_of(home, made.manifest)
    chance, blows = random.Random(7), dict.fromkeys(("worker killed", "job killed", "signalled", "preempted"), 0)
    deadline = time.monotonic() + 1500
    while True:
        seen = json.loads(call("status", "chaos", "--json").stdout)
        if all(one["state"] == "done" for one in seen):
            break
        assert time.monotonic() < deadline, [(one["state"], one["why"]) for one in seen if one["state"] != "done"]
        call("resubmit", "chaos", "--profile", "testcluster", "--profile-set", "restarts=50")
        running = sorted({one["job_id"] for one in seen if one["state"] == "running"})
        if running and sum(blows.values()) < 40:
            what = min(blows, key=lambda name: blows[name])
            blows[what] += disturb(what, chance.choice(running), chance)
        time.sleep(chance.uniform(0.5, 2.0))
    attempts = 0
    for job in jobs:
        done, undisturbed = (read_json(root / "trials" / job.key / "record.json") for root in (home, quiet))
        assert done["measures"] == undisturbed["measures"], job.key
        attempts += len(done["attempts"])
    print(blows, f"{attempts} attempts at 50 trials")
    assert attempts > 60
    for _ in range(2):  # the second time changes nothing
        assert "50 trials recorded" in call("sync").output
    client = Mirror(home).connect()
    experiment = client.get_experiment_by_name("equipoise").experiment_id
    runs = [run for run in client.search_runs([experiment], max_results=1000) if "trial_key" in run.data.tags]
    assert sorted(run.data.tags["trial_key"] for run in runs) == sorted(job.key for job in jobs)
    for run in runs:
        steps = [point.step for point in client.get_metric_history(run.info.run_id, "train_loss")]
        assert len(steps) == len(set(steps))
        assert run.info.status == "FINISHED"
