"""Batch scripts: quoted, complete, free of secrets."""

import os
import shlex
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slurm_campaign import ENTRY

from slurm import batch
from slurm.profiles import Resources
from slurm.submit import submit


def flags(script):
    """The script's #SBATCH options, as a shell would read them."""
    lines = [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH ")]
    words = [shlex.split(line) for line in lines]
    assert all(len(word) == 1 for word in words)
    return dict(word[0].removeprefix("--").partition("=")[::2] for word in words)


def scripts(campaign, jobs, **overrides):
    campaign.overrides = overrides
    plan = submit(jobs, ENTRY, campaign.payload, campaign.profile, campaign.logs, dry_run=True)
    assert not campaign.home.exists()  # a dry run writes nothing
    return plan


def test_a_dry_run_needs_no_cluster_and_shows_what_is_asked_for(campaign, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    extra = {"constraint": "a100", "nice": 5, "hold": True, "mail_type": "END"}
    asked = {"account": "mine", "qos": "low", "time": "02:00:00", "gpus_per_node": "a100:2", "memory": "8GB"}
    (plan,) = scripts(
        campaign, campaign.jobs("a", "b", "c"), **asked, extra=extra, array_parallelism=2, signal_delay=120
    )
    assert plan.job_id is None
    said = flags(plan.script)
    expected = {
        "partition": "main", "account": "mine", "qos": "low", "time": "120", "gpus-per-node": "a100:2", "mem": "8GB",
        "array": "0-2%2", "signal": "USR2@120", "chdir": str(campaign.logs), "requeue": "", "open-mode": "append",
        "constraint": "a100", "nice": "5", "hold": "", "mail-type": "END", "nodes": "1", "ntasks-per-node": "1",
    }  # fmt: skip
    assert {name: said.get(name) for name in expected} == expected
    assert "export PYTHONSAFEPATH=1" in plan.script.splitlines()


def test_one_array_per_shape_packed_and_cut_at_the_limit(campaign):
    jobs = [*campaign.jobs(*(f"n{i}" for i in range(7))), *campaign.jobs("big0", "big1", task="mix-large")]
    plans = scripts(campaign, jobs, packing=2, max_array_size=3, per_task={"*-large": {"memory": "2GB", "packing": 1}})
    assert [plan.elements for plan in plans] == [
        (("n0", "n1"), ("n2", "n3"), ("n4", "n5")),
        (("n6",),),
        (("big0",), ("big1",)),
    ]
    assert [flags(plan.script).get("mem") for plan in plans] == ["1800MB", "1800MB", "2GB"]
    assert [flags(plan.script).get("array") for plan in plans] == ["0-2%3", None, "0-1%2"]
    assert {len(flags(plan.script)["comment"]) for plan in plans} == {len("equipoise-") + 32}


def test_a_gpu_free_job_does_not_ask_for_gpus(campaign):
    for none in (0, "0", "a100:0"):
        (plan,) = scripts(campaign, campaign.jobs("a"), gpus_per_node=none)
        assert "gpus-per-node" not in flags(plan.script)


def test_trials_done_are_left_out_and_twins_go_once(campaign):
    job = campaign.jobs("a")[0]
    done = [type(job)(key, campaign.home / "trials" / key, "t", "s", True) for key in ("b", "c")]
    (plan,) = scripts(campaign, [job, *done, job])
    assert plan.keys == ["a"]
    assert scripts(campaign, done) == []


LINE = st.text(st.characters(blacklist_categories=("Cc", "Cs", "Zl", "Zp"), max_codepoint=0x2FFF), min_size=1)


@settings(max_examples=60, deadline=None)
@given(value=LINE, module=LINE, partition=LINE)
def test_no_value_reaches_a_shell(tmp_path_factory, value, module, partition):
    resources = Resources(env={"PLAIN": value}, modules=(module,), partition=partition)
    logs = tmp_path_factory.getbasetemp()
    settings_ = batch.parameters(resources, logs, None, "token", [])
    script = batch.script(resources, logs, settings_, 1)
    assert flags(script)["partition"] == partition
    setup = "\n".join(settings_["setup"])
    shell = f'module() {{ printf "%s\\0" "$@"; }}\n{setup}\nprintf "%s" "$PLAIN"'
    told = subprocess.run(["bash", "-c", shell], capture_output=True, check=True).stdout.split(b"\0")
    assert told == [b"load", module.encode(), value.encode()]


def test_modules_come_before_the_profiles_environment_and_must_load(tmp_path):
    """A module may set what the profile sets, and the profile has the last word; without the module nothing runs."""
    resources = Resources(env={"OMP_NUM_THREADS": "2"}, modules=("cuda/12.4",), setup=("echo $OMP_NUM_THREADS",))
    setup = "\n".join(batch.parameters(resources, tmp_path, None, "token", [])["setup"])
    for module, said in (("export OMP_NUM_THREADS=64", b"2\n"), ("false", b"")):
        shell = f"module() {{ {module}; }}\n{setup}"
        done = subprocess.run(["bash", "-c", shell], capture_output=True, check=False)
        assert (done.stdout, done.returncode) == (said, 0 if said else 1)


def test_submitits_own_limit_and_accounting_key_are_not_asked_for(tmp_path):
    settings_ = batch.parameters(Resources(), tmp_path, None, "token", [])
    said = flags(batch.script(Resources(), tmp_path, settings_, 1000))
    assert said["array"] == "0-999%1000"
    assert "wckey" not in said


def test_the_paths_of_modules_are_absolute_and_ours_come_first(monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", ".", "relative", "/absolute", "/ours"]))
    lines = batch.parameters(Resources(), tmp_path, None, "token", ["/ours"])["setup"]
    assert "export PYTHONPATH=/ours:/absolute" in lines
    own = Resources(env={"PYTHONPATH": "also/relative:/theirs"})
    assert "export PYTHONPATH=/ours:/theirs" in batch.parameters(own, tmp_path, None, "token", ["/ours"])["setup"]


def test_secrets_stay_out_of_the_script_and_reach_sbatch(monkeypatch, tmp_path):
    secret = {"HF_TOKEN": "hunter2", "MLFLOW_TRACKING_URI": "postgresql://me:hunter2@db/x", "PLAIN": "shown"}
    resources = Resources(env=secret)
    script = batch.script(resources, tmp_path, batch.parameters(resources, tmp_path, None, "token", []), 1)
    assert "hunter2" not in script
    assert "export PLAIN=shown" in script
    monkeypatch.setenv("SBATCH_PARTITION", "other")
    monkeypatch.setenv("SLURM_NTASKS", "7")
    monkeypatch.setenv("SLURM_CONF", "/kept")
    before = dict(os.environ)
    with batch.submission_environment(resources):
        assert os.environ["HF_TOKEN"] == "hunter2"
        assert os.environ["SLURM_CONF"] == "/kept"
        assert not {"PLAIN", "SBATCH_PARTITION", "SLURM_NTASKS"} & set(os.environ)
    assert dict(os.environ) == before


def test_a_container_and_its_python_come_before_our_launcher(tmp_path):
    resources = Resources(container="apptainer exec '/images/a b.sif'")
    expected = ["apptainer", "exec", "/images/a b.sif", "python3", "-P", "-u", "-m", "slurm.launch", str(tmp_path)]
    assert shlex.split(batch.command(resources, tmp_path)) == expected


@pytest.mark.parametrize(
    ("code", "revived", "left", "requeues"),
    [(137, 0, [], True), (139, 2, [], True), (137, 3, [], False), (137, 0, ["7_3_1_result.pkl"], False)]
    + [(code, 0, [], False) for code in (0, 1, 75, 255)]
    # a rank died in this attempt, the fifth of the job: whatever the other ranks made of it; not so in one before
    + [(code, 1, ["7_3_1_result.pkl", "7_3.died.5"], True) for code in (1, 137)]
    + [(1, 1, ["7_3_1_result.pkl", "7_3.died.4"], False), (1, 3, ["7_3.died.5"], False)],
)
def test_the_batch_script_requeues_what_died_of_a_signal(tmp_path, code, revived, left, requeues):
    logs = tmp_path / "a [odd] name"
    logs.mkdir()
    for name in [*left, "7_30_0_result.pkl"]:  # the last is another element's
        (logs / name).touch()
    (logs / "7_3.revived").write_text("7_3.died\n" * revived)
    lines = batch.parameters(Resources(restarts=3), logs, None, "token", [])["teardown"]
    shell = "\n".join(['scontrol() { echo "$@"; }', f"(exit {code})", *lines])
    ids = {
        "SLURM_JOB_ID": "7",  # one element of every array has the array's own id
        "SLURM_ARRAY_JOB_ID": "7",
        "SLURM_ARRAY_TASK_ID": "3",
        "SLURM_RESTART_COUNT": "5",  # preemptions and time limits are in it
    }
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, env=os.environ | ids)
    assert done.returncode == code
    assert done.stdout == ("requeue 7_3\n" if requeues else "")
    assert len((logs / "7_3.revived").read_text().splitlines()) == revived + requeues
    assert (logs / "7_3_1_result.pkl").exists() == (left[:1] == ["7_3_1_result.pkl"] and not requeues)
    assert (logs / "7_30_0_result.pkl").exists()


def test_a_job_that_is_no_array_is_requeued_by_its_id(tmp_path):
    lines = batch.parameters(Resources(), tmp_path, None, "token", [])["teardown"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    shell = "\n".join(['scontrol() { echo "$@"; }', "(exit 137)", *lines])
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, env=environ | {"SLURM_JOB_ID": "12"})
    assert done.stdout == "requeue 12\n"


@pytest.mark.parametrize(
    ("restart", "asked"), [("2", ["requeue 7_3", "update JobId=7_3 ExcNodeList=n[7-9],n1"]), ("3", [])]
)
def test_the_batch_script_takes_a_job_off_the_nodes_it_names(tmp_path, restart, asked):
    (tmp_path / "7_3.leaves.2").write_text("n[7-9],n1\n")
    lines = batch.parameters(Resources(), tmp_path, None, "token", [])["teardown"]
    shell = "\n".join(['scontrol() { echo "$@"; }', "(exit 75)", *lines])
    ids = {"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3", "SLURM_RESTART_COUNT": restart}
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, env=os.environ | ids)
    assert done.stdout.splitlines() == asked
    assert done.returncode == 75
