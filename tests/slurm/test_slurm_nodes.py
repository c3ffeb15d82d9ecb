"""Broken nodes: told from broken trials, and left."""

import json
import time

import pytest
from slurm_campaign import pack

from slurm import nodes
from slurm.job import TrialsFailedError

pytestmark = pytest.mark.usefixtures("path_of_jobs")


def noted(tmp_path, *entries):
    for node, key, error in entries:
        nodes.note(tmp_path, node, "7", key, error)
    return nodes.broken(tmp_path)


CUDA = "RuntimeError: CUDA error 999 at 0x7f00aa11bb22"


def test_a_node_that_fails_all_it_is_given_is_broken_where_another_runs_trials(tmp_path):
    assert noted(tmp_path, ("n1", "a", CUDA), ("n1", "b", CUDA)) == {}  # nobody is known to do better
    assert list(noted(tmp_path, ("n2", "c", None))) == ["n1"]
    assert noted(tmp_path, ("n1", "d", None)) == {}  # it does run trials


def test_one_failure_breaks_no_node_nor_does_one_trial_that_fails_twice(tmp_path):
    assert noted(tmp_path, ("n2", "c", None), ("n1", "a", CUDA), ("n1", "a", CUDA)) == {}


def test_an_error_that_is_also_seen_where_trials_run_is_the_trials(tmp_path):
    own = "ValueError: rate: -1 is negative"
    assert noted(tmp_path, ("n2", "c", None), ("n1", "a", own), ("n1", "b", own), ("n2", "d", own)) == {}
    assert list(noted(tmp_path, ("n1", "e", CUDA), ("n1", "f", CUDA))) == ["n1"]


def test_two_broken_nodes_do_not_excuse_each_other(tmp_path):
    seen = [(node, key, CUDA.replace("999", key)) for node, key in (("n1", "1"), ("n1", "2"), ("n3", "3"), ("n3", "4"))]
    assert list(noted(tmp_path, ("n2", "c", None), *seen)) == ["n1", "n3"]


def test_each_submission_is_judged_by_itself(tmp_path):
    """Trials that run on the nodes of another, CPUs perhaps, say nothing of these; submitting again begins anew."""
    assert list(noted(tmp_path, ("n2", "c", None), ("n1", "a", CUDA), ("n1", "b", CUDA))) == ["n1"]
    for key in ("d", "e"):
        nodes.note(tmp_path, "n3", "8", key, CUDA)
    assert list(nodes.broken(tmp_path)) == ["n1"]
    assert nodes.broken(tmp_path, "8") == {}


def test_a_trial_that_fails_in_its_middle_says_nothing_of_its_node(tmp_path, on_a_node):
    """Also where it resumes from a checkpoint before the step that its status tells of."""
    trial = tmp_path / "trials" / "a"
    trial.mkdir(parents=True)
    (trial / "status.json").write_text('{"step": 30}')
    (trial / "checkpoint.json").write_text('{"step": 20, "value": "x"}')
    with pytest.raises(TrialsFailedError):
        pack(tmp_path, "a", steps=40, restarts=0, mischief={"a": "fail at 25"})()
    assert not (tmp_path / "nodes").exists()


def test_what_was_seen_yesterday_and_lines_cut_short_do_not_count(tmp_path, monkeypatch):
    noted(tmp_path, ("n2", "c", None), ("n1", "a", CUDA), ("n1", "b", CUDA))
    with (tmp_path / "nodes" / "n1.jsonl").open("a") as file:
        file.write('{"time": 17')
    assert list(nodes.broken(tmp_path)) == ["n1"]
    later = time.time() + 25 * 3600
    monkeypatch.setattr(time, "time", lambda: later)
    assert nodes.broken(tmp_path) == {}


@pytest.fixture
def on_a_node(monkeypatch, fake):
    monkeypatch.setenv("SLURMD_NODENAME", "n1")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
    monkeypatch.delenv("SLURM_NTASKS", raising=False)
    fake("squeue", "echo '(null)'")


def test_jobs_note_what_their_node_did(tmp_path, on_a_node):
    with pytest.raises(TrialsFailedError):
        pack(tmp_path, "a", "b", "c", mischief={"a": "fail", "c": "die"})()
    seen = [json.loads(line) for line in (tmp_path / "nodes" / "n1.jsonl").read_text().splitlines()]
    assert {(one["key"], one.get("error")) for one in seen} == {
        ("a", "ZeroDivisionError: this trial divides by zero"),
        ("b", None),
        ("c", "SIGKILL: killed by SIGKILL, # × in this job; often: out of memory"),
    }


def test_a_job_leaves_a_broken_node_and_its_trials_as_they_are(tmp_path, on_a_node, monkeypatch, capfd):
    noted(tmp_path, ("n2", "c", None), ("n1", "x", CUDA), ("n1", "y", CUDA))
    with pytest.raises(SystemExit) as left:
        pack(tmp_path, "a")()
    assert left.value.code == 75
    assert (tmp_path / "7_3.leaves.0").read_text() == "n1\n"
    assert not (tmp_path / "trials" / "a").exists()
    assert "leaving n1, which fails what it is given: RuntimeError: CUDA error #" in capfd.readouterr().err
    monkeypatch.setenv("SLURMD_NODENAME", "n2")
    assert pack(tmp_path, "a")() == ["a"]


def test_nodes_left_out_before_stay_left_out_and_a_job_does_not_move_for_ever(tmp_path, on_a_node, monkeypatch, fake):
    noted(tmp_path, ("n2", "c", None), ("n1", "x", CUDA), ("n1", "y", CUDA))
    fake("squeue", "echo 'n[7-9]'")
    for restart in range(5):
        monkeypatch.setenv("SLURM_RESTART_COUNT", str(restart))
        with pytest.raises(SystemExit):
            pack(tmp_path, "a")()
    assert (tmp_path / "7_3.leaves.4").read_text() == "n[7-9],n1\n"
    monkeypatch.setenv("SLURM_RESTART_COUNT", "5")
    assert pack(tmp_path, "a")() == ["a"]
