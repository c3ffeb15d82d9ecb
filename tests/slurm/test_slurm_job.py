"""What a job does with its trials, without SLURM around it."""

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import cloudpickle
import pytest
from slurm_campaign import ENTRY, failure, pack, record, told
from submitit.helpers import DelayedSubmission

from slurm.job import PackedTrials, TrialsFailedError, _job_runs_on

pytestmark = pytest.mark.usefixtures("path_of_jobs")


def test_trials_run_side_by_side_on_the_devices_they_are_dealt(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "6")
    monkeypatch.setenv("RANK", "3")  # of a job this one was started from
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert pack(tmp_path, "a", "b", "c")() == ["a", "b", "c"]
    environs = [record(tmp_path, key)["environ"] for key in "abc"]
    assert [one["CUDA_VISIBLE_DEVICES"] for one in environs] == ["4", "6", "4"]
    assert [one["OMP_NUM_THREADS"] for one in environs] == ["2", "2", "2"]
    assert [one["RANK"] for one in environs] == [None, None, None]


def test_failures_are_reported_and_the_others_finish(tmp_path):
    mischief = {"a": "fail", "b": "die", "c": "code", "d": "silent"}
    with pytest.raises(TrialsFailedError, match=r"4 of 5 failed: a \(exit code 1\), b .*SIGKILL.*c.*d"):
        pack(tmp_path, *"abcdf", mischief=mischief)()
    assert failure(tmp_path, "a") == ("ZeroDivisionError", "this trial divides by zero", None)
    assert failure(tmp_path, "b") == ("SIGKILL", "killed by SIGKILL, 2 × in this job; often: out of memory", 0)
    assert failure(tmp_path, "c") == ("ExitCode", "exit code 9", None)
    assert failure(tmp_path, "d") == ("NoRecord", "ended without leaving a record", None)
    assert record(tmp_path, "f")


def test_a_failure_of_before_counts_in_a_requeued_job_only(tmp_path, monkeypatch):
    (tmp_path / "trials" / "a").mkdir(parents=True)
    (tmp_path / "trials" / "a" / "failure.json").write_text("{}")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with pytest.raises(TrialsFailedError, match=r"1 of 2 failed: a \(earlier\)"):
        pack(tmp_path, "a", "b")()
    assert record(tmp_path, "b")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "0")  # submitted again: a job of its own
    assert pack(tmp_path, "a")() == ["a"]
    assert not (tmp_path / "trials" / "a" / "failure.json").exists()


@pytest.mark.parametrize("element", [{}, {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2"}])
def test_a_failure_of_an_earlier_job_does_not_count_in_one_that_was_requeued_before_it_began(
    tmp_path, monkeypatch, element
):
    for name, value in {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "1", **element}.items():
        monkeypatch.setenv(name, value)
    failed = tmp_path / "trials" / "a" / "failure.json"
    failed.parent.mkdir(parents=True)
    failed.write_text("{}")
    (tmp_path / "7_submission.sh").touch()
    submitted = (tmp_path / "7_submission.sh").stat().st_mtime
    os.utime(failed, (submitted + 60, submitted + 60))
    with pytest.raises(TrialsFailedError, match="earlier"):
        pack(tmp_path, "a")()
    os.utime(failed, (submitted - 60, submitted - 60))
    assert pack(tmp_path, "a")() == ["a"]


@pytest.fixture
def of_two_ranks(monkeypatch):
    """This process as one task of two, of the third element of an array whose own id that element has."""
    monkeypatch.setattr(PackedTrials, "_shared_environment", lambda job: dict(os.environ))
    monkeypatch.setattr("slurm.job._PEER_SECONDS", 1)
    element = {"SLURM_NTASKS": "2", "SLURM_JOB_ID": "7", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2"}
    for name, value in element.items():
        monkeypatch.setenv(name, value)


def test_a_rank_that_dies_leaves_word_of_it(tmp_path, of_two_ranks):
    with pytest.raises(SystemExit) as left:
        pack(tmp_path, "a", mischief={"a": "die"})()
    assert left.value.code == 137
    assert (tmp_path / "7_2.died.0").exists()


def test_what_fails_because_another_rank_died_is_no_failure(tmp_path, of_two_ranks):
    threading.Timer(0.8, (tmp_path / "7_2.died.0").touch).start()  # noticed after the error
    with pytest.raises(SystemExit) as left:
        pack(tmp_path, "a", mischief={"a": "fail"})()
    assert left.value.code == 137
    assert not (tmp_path / "trials" / "a" / "failure.json").exists()


def test_what_fails_by_itself_on_several_ranks_is_a_failure(tmp_path, of_two_ranks, monkeypatch):
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    (tmp_path / "7_2.died.1").touch()  # of an attempt before
    with pytest.raises(TrialsFailedError):
        pack(tmp_path, "a", mischief={"a": "fail"})()
    assert failure(tmp_path, "a")[0] == "ZeroDivisionError"


def test_the_failure_a_lost_rank_left_behind_is_tried_again(tmp_path, of_two_ranks, monkeypatch):
    (tmp_path / "trials" / "a").mkdir(parents=True)
    (tmp_path / "trials" / "a" / "failure.json").write_text("{}")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    (tmp_path / "7_2.died.0").touch()
    with pytest.raises(TrialsFailedError, match="earlier"):
        pack(tmp_path, "a")()
    (tmp_path / "7_2.died.1").touch()
    assert pack(tmp_path, "a")() == ["a"]


def test_what_one_rank_says_of_another_that_was_cut_off_is_no_failure(tmp_path, of_two_ranks, monkeypatch):
    (tmp_path / "trials" / "a").mkdir(parents=True)
    (tmp_path / "trials" / "a" / "failure.json").write_text("{}")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert replace(pack(tmp_path, "a"), cut=True)() == ["a"]


def test_a_trial_that_is_done_is_not_started(tmp_path):
    (tmp_path / "trials" / "a").mkdir(parents=True)
    (tmp_path / "trials" / "a" / "record.json").write_text("{}")
    assert pack(tmp_path, "a", "b")() == ["a", "b"]
    assert not (tmp_path / "trials" / "a" / "attempts.jsonl").exists()


def test_a_record_that_the_file_system_hides_for_a_while_is_one(tmp_path, monkeypatch):
    monkeypatch.setattr("slurm.job.finished", lambda folder: False)  # a network file system's memory
    assert pack(tmp_path, "a")() == ["a"]
    assert not (tmp_path / "trials" / "a" / "failure.json").exists()


def test_an_entry_that_cannot_be_imported_says_so(tmp_path):
    for entry, words in (("nosuch:run", "No module named 'nosuch'"), ("toy_trial:nosuch", "no attribute 'nosuch'")):
        with pytest.raises(TrialsFailedError):
            pack(tmp_path, "a", entry=entry)()
        assert failure(tmp_path, "a")[0] == "ValueError"
        assert words in failure(tmp_path, "a")[1]


class Requeued(Exception):
    pass


def wait_for(*paths, seconds=20):
    deadline = time.monotonic() + seconds
    while not all(path.exists() for path in paths):
        assert time.monotonic() < deadline, f"not within {seconds} s: {paths}"
        time.sleep(0.02)


def interrupt_with(job):
    """Do what submitit's handler does, without a cluster to requeue on."""

    def handle(*_):
        raise Requeued(job.checkpoint())

    return handle


def test_the_signal_has_checkpoints_written_and_the_trials_resume(tmp_path, monkeypatch):
    job = pack(tmp_path, "a", "b", "c", steps=200, seconds=0.05, mischief={"c": "fail"})
    before = signal.signal(signal.SIGUSR2, interrupt_with(job))
    waited_for = [tmp_path / "trials" / name for name in ("a/status.json", "b/status.json", "c/failure.json")]

    def interrupt():
        wait_for(*waited_for)
        os.kill(os.getpid(), signal.SIGUSR2)

    threading.Thread(target=interrupt).start()
    try:
        with pytest.raises(Requeued) as requeued:
            job()
    finally:
        signal.signal(signal.SIGUSR2, before)
    again = requeued.value.args[0].function
    for key in "ab":
        assert json.loads((tmp_path / "trials" / key / "checkpoint.json").read_text())["step"] > 0
    assert again == replace(job, cut=True)
    told(tmp_path, steps=5)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with pytest.raises(TrialsFailedError, match=r"1 of 3 failed: c \(earlier\)"):
        again()
    assert record(tmp_path, "a")
    assert record(tmp_path, "b")


def test_a_trial_that_ignores_the_signal_is_killed_in_time(tmp_path, monkeypatch):
    monkeypatch.setattr("slurm.job._MARGIN_SECONDS", 1)
    job = pack(tmp_path, "a", steps=1000, seconds=0.1, mischief={"a": "deaf"})
    job.signal_delay = 2
    job._environ = job._shared_environment()
    job._start(0)
    wait_for(tmp_path / "trials" / "a" / "status.json")
    start = time.monotonic()
    job.checkpoint()
    assert 1 <= time.monotonic() - start < 5
    assert job._running[0].wait(5) == -signal.SIGKILL


def worker(tmp_path, parent, entry=ENTRY):
    payload = told(tmp_path, steps=400, seconds=0.05)
    command = [sys.executable, "-P", "-m", "slurm.worker", entry, "a", str(tmp_path / "a"), payload, str(parent)]
    return subprocess.Popen(command)


def test_a_signal_before_the_trial_has_begun_is_an_interruption(tmp_path, monkeypatch):
    source = f"import pathlib, time\npathlib.Path({str(tmp_path / 'importing')!r}).touch()\ntime.sleep(30)\n"
    (tmp_path / "slow_import.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]]))
    for number in (signal.SIGUSR2, signal.SIGTERM):
        (tmp_path / "importing").unlink(missing_ok=True)
        process = worker(tmp_path, os.getpid(), entry="slow_import:run")
        wait_for(tmp_path / "importing")
        process.send_signal(number)
        assert process.wait(10) == 75


def test_a_trial_does_not_outlive_the_job_that_started_it(tmp_path):
    assert worker(tmp_path, parent=1).wait(10) == 75  # its parent is another process by now
    parent = os.fork()
    if parent == 0:
        worker(tmp_path, os.getpid())
        while not (tmp_path / "a" / "status.json").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(parent, 0)
    wait_for(tmp_path / "a" / "checkpoint.json")


def test_the_pickle_holds_a_reference_and_strings_only(tmp_path):
    data = cloudpickle.dumps(pack(tmp_path, "a"))
    assert len(data) < 1000
    source = "import pickle, sys; job = pickle.loads(sys.stdin.buffer.read()); print(job.keys, 'torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", source], input=data, capture_output=True, check=True)
    assert told.stdout.decode().strip() == "('a',) False"
    assert pickle.loads(data) == pack(tmp_path, "a")


@pytest.mark.parametrize(
    ("state", "goes_on"), [("RUNNING", True), ("COMPLETING", False), ("CANCELLED", False), ("", False)]
)
def test_a_job_that_is_being_ended_is_not_requeued(fake, monkeypatch, state, goes_on):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    fake("squeue", f'[ "$2" = --jobs=7 ] && echo {state}')
    assert _job_runs_on() is goes_on
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")  # one element has the id of the whole array
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    fake("squeue", f'[ "$2" = --jobs=7_2 ] && echo {state} || printf "RUNNING\\nPENDING\\n"')
    assert _job_runs_on() is goes_on


def test_without_squeue_a_job_is_not_requeued(fake, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert _job_runs_on() is False


def test_a_signal_that_comes_while_the_job_is_loading_is_kept_until_it_can_be_heeded(tmp_path, fake):
    fake("scontrol", f'echo "$@" > {tmp_path}/requeued')
    environ = os.environ | {"SUBMITIT_EXECUTOR": "slurm", "SLURM_JOB_ID": "7", "PYTHONSAFEPATH": "1"}
    with (tmp_path / "out").open("wb") as out:
        launched = subprocess.Popen([sys.executable, "-m", "slurm.launch", str(tmp_path)], env=environ, stdout=out)
    deadline = time.monotonic() + 20
    while b"Loading pickle" not in (tmp_path / "out").read_bytes():  # submitit waits for it, and hears nothing yet
        assert time.monotonic() < deadline
        time.sleep(0.02)
    launched.send_signal(signal.SIGUSR2)
    submission = DelayedSubmission(pack(tmp_path, "a"))
    submission.set_timeout(60, 3)
    submission.dump(tmp_path / "draft")
    (tmp_path / "draft").rename(tmp_path / "7_submitted.pkl")
    assert launched.wait(20) == 255
    assert (tmp_path / "requeued").read_text() == "requeue 7\n"
    assert not (tmp_path / "trials").exists()
