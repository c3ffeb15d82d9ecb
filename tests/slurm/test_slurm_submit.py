"""Submitting and cancelling, given what SLURM's commands answer."""

import errno
import json

import pytest
from slurm_campaign import ENTRY

from slurm import submit as module
from slurm.commands import ClusterError
from slurm.ledger import Array, Ledger, locked
from slurm.queue import JobState


@pytest.fixture
def late(fake, tmp_path, monkeypatch):
    """sbatch gives up waiting, and the controller has the array nevertheless, under the number 41."""
    fake("scontrol", "exit 1")
    fake("sacct", "exit 1")
    fake("scancel", f'echo "$@" >> {tmp_path}/cancelled')
    fake("squeue", f"[ -e {tmp_path}/silent ] && exit 1; cat {tmp_path}/queue")

    def give_up(calls, resources, logs, settings):
        (tmp_path / "queue").write_text(f"41|{settings['comment']}\n40|another\n")
        raise ClusterError("the cluster refused the job: Socket timed out on send/recv operation")

    monkeypatch.setattr(module, "_hand_over", give_up)


def test_an_array_that_slurm_has_although_sbatch_gave_up_is_cancelled(campaign, late, tmp_path):
    with pytest.raises(ClusterError, match="Socket timed out"):
        campaign.submit(campaign.jobs("a", "b"))
    assert (tmp_path / "cancelled").read_text() == "41\n"
    assert Ledger(campaign.logs).arrays == []


def test_what_a_refusal_leaves_submitted_is_said(campaign, late, tmp_path, monkeypatch):
    (tmp_path / "queue").touch()
    answers = iter(["42"])

    def hand_over(*_):
        for job in answers:
            return job
        raise ClusterError("the cluster refused the job: MaxSubmitJobs")

    monkeypatch.setattr(module, "_hand_over", hand_over)
    campaign.overrides = {"max_array_size": 2}
    with pytest.raises(ClusterError, match=r"MaxSubmitJobs; submitted before it: 2 of 3 trials, job 42$"):
        campaign.submit(campaign.jobs("a", "b", "c"))
    assert [array.job_id for array in Ledger(campaign.logs).arrays] == ["42"]


def test_if_squeue_is_silent_too_the_next_submission_cancels_it(campaign, late, tmp_path, monkeypatch):
    (tmp_path / "silent").touch()
    with pytest.raises(ClusterError, match="Socket timed out"):
        campaign.submit(campaign.jobs("a", "b"))
    assert len(Ledger(campaign.logs).arrays) == 1
    (tmp_path / "silent").unlink()
    monkeypatch.setattr(module, "_hand_over", lambda *_: "42")
    campaign.submit(campaign.jobs("a", "b"))
    assert (tmp_path / "cancelled").read_text() == "41\n"
    assert [array.job_id for array in Ledger(campaign.logs).arrays] == ["42"]


def test_a_file_system_that_cannot_lock_is_named(campaign, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(ValueError, match="its file system cannot lock"), locked(campaign.logs):
        pass


@pytest.fixture
def queue(fake, tmp_path, monkeypatch):
    """Every job that is asked for runs, on the cluster `big`; what is cancelled is written down."""
    fake("scontrol", "echo 'ClusterName = big'")
    fake("scancel", f'echo "$@" >> {tmp_path}/cancelled')
    running = lambda ids: {job: JobState("RUNNING") for job in ids}  # noqa: E731
    monkeypatch.setattr("slurm.ledger.states", running)


def written_down(campaign, *arrays):
    with locked(campaign.logs) as ledger:
        ledger.arrays += arrays
        ledger.save()


def test_cancel_reaches_what_its_owner_submitted_before(campaign, queue, tmp_path):
    written_down(
        campaign,
        Array("t1", [["old"], ["older"]], {}, "7", "big", owner="quick"),
        Array("t2", [["other"]], {}, "8", "big", owner="standard"),
        Array("t3", [["new"]], {}, "9", "big", owner="quick"),
        Array("t4", [["far"]], {}, "10", "small", owner="quick"),
    )
    assert module.cancel(campaign.jobs("new"), campaign.logs) == ["9"]
    assert module.cancel(campaign.jobs("new"), campaign.logs, "quick") == ["7_0", "7_1", "9"]
    assert (tmp_path / "cancelled").read_text() == "9\n9 7_0 7_1\n"
    assert [array.cancelled for array in Ledger(campaign.logs).arrays] == [[0, 1], [], [0, 0], []]


def test_what_is_on_another_cluster_is_neither_submitted_nor_cancelled(campaign, queue, tmp_path):
    written_down(campaign, Array("t1", [["a"]], {}, "7", "small"))
    told = (ENTRY, campaign.payload, campaign.profile, campaign.logs)
    jobs = campaign.jobs("a", "b")
    for verb in (
        lambda: campaign.submit(jobs),
        lambda: module.cancel(jobs, campaign.logs),
        lambda: module.resubmit(jobs, *told),
    ):
        with pytest.raises(ClusterError, match=r"^job 7 is on cluster small, and this is cluster big"):
            verb()
    (campaign.home / "trials" / "a").mkdir(parents=True)
    (campaign.home / "trials" / "a" / "record.json").write_text("{}")
    assert module.cancel(campaign.jobs("a", "b"), campaign.logs) == []
    assert not (tmp_path / "cancelled").exists()


def test_what_reached_another_cluster_half_way_is_left_to_it(campaign, queue, fake, tmp_path, monkeypatch):
    fake("squeue", "printf '5|t1\\n6|t2\\n'")  # numbers and tokens of this cluster
    monkeypatch.setattr(module, "_hand_over", lambda *_: "42")
    written_down(campaign, Array("t1", [["x"]], {}, None, "small"), Array("t2", [["y"]], {}, None, "big"))
    campaign.submit(campaign.jobs("a"))
    assert (tmp_path / "cancelled").read_text() == "6\n"
    assert [array.job_id for array in Ledger(campaign.logs).arrays] == [None, "42"]


def test_a_submission_is_written_down_with_its_owner_and_old_ledgers_are_read(campaign, queue, monkeypatch):
    campaign.logs.mkdir(parents=True)
    old = {"token": "t", "elements": [["x"]], "resources": {}, "job_id": "3", "cluster": None}
    old |= {"submitted": "", "cancelled": []}
    (campaign.logs / "jobs.json").write_text(json.dumps({"schema": 1, "arrays": [old]}))
    monkeypatch.setattr(module, "_hand_over", lambda *_: "42")
    module.submit(campaign.jobs("a"), ENTRY, campaign.payload, campaign.profile, campaign.logs, owner="quick")
    assert [array.owner for array in Ledger(campaign.logs).arrays] == ["", "quick"]
