"""Submitting and cancelling, given what SLURM's commands answer."""

import errno

import pytest

from slurm import submit as module
from slurm.commands import ClusterError
from slurm.ledger import Ledger, locked


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
