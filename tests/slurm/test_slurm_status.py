"""Status from trial folders and a given queue."""

import json
import os
import time
from datetime import UTC, datetime, timedelta

import pytest

from slurm.ledger import Array, Ledger, locked
from slurm.queue import JobState
from slurm.status import status


def submitted(campaign, *keys, cancelled=(), **facts):
    with locked(campaign.logs) as ledger:
        elements = [[key] for key in keys]
        ledger.arrays.append(Array("t", elements, {}, job_id="7", cancelled=list(cancelled), **facts))
        ledger.save()
    return campaign.jobs(*keys)


def write(folder, name, **content):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content))


def states_are(monkeypatch, **by_index):
    known = {f"7_{name[1:]}": state for name, state in by_index.items()}
    monkeypatch.setattr("slurm.ledger.states", lambda ids: {job: known[job] for job in ids if job in known})


def test_every_state_and_its_reason(campaign, monkeypatch):
    keys = [
        "queued",
        "requeued",
        "running",
        "done",
        "failed",
        "cancelled",
        "preempted",
        "gone",
        "withdrawn",
        "norecord",
    ]
    keys += ["timeout", "killed", "again", "oom"]
    jobs = submitted(campaign, *keys, cancelled=[keys.index("withdrawn")])
    states_are(
        monkeypatch,
        _0=JobState("PENDING", "Priority"),
        _1=JobState("PENDING", "BeginTime", restarts=2),
        _2=JobState("RUNNING", "", "n1"),
        _4=JobState("FAILED", "NonZeroExitCode", "n0", exit_code=1),
        _5=JobState("CANCELLED"),
        _6=JobState("PREEMPTED"),
        _9=JobState("COMPLETED", "", "n2"),
        _10=JobState("TIMEOUT", "TimeLimit", "n2"),
        _11=JobState("FAILED", "RaisedSignal", "n3", signal=9),
        _12=JobState("PENDING", "Resources"),
        _13=JobState("OUT_OF_MEMORY", "", "n3"),
    )
    write(jobs[3].folder, "record.json")
    write(jobs[4].folder, "failure.json", error="ValueError", message="no\nsuch corpus at https://me:pw@host")
    write(jobs[12].folder, "failure.json", error="ValueError", message="from the job before")
    (campaign.logs / "7_submission.sh").touch()
    written = (campaign.logs / "7_submission.sh").stat().st_mtime
    os.utime(jobs[12].folder / "failure.json", (written - 1, written - 1))
    os.utime(jobs[4].folder / "failure.json", (written + 1, written + 1))
    new = campaign.jobs("new", "failed-here")
    write(new[1].folder, "failure.json", error="ValueError", message="on this machine")
    seen = {one.key: (one.state, one.why) for one in status(jobs + new, campaign.home)}
    assert seen == {
        "queued": ("queued", "Priority"),
        "requeued": ("requeued", "BeginTime"),
        "running": ("running", ""),
        "done": ("done", ""),
        "failed": ("failed", "ValueError: no such corpus at https://***@host"),
        "cancelled": ("cancelled", ""),
        "preempted": ("preempted", "preempted, and the cluster does not requeue"),
        "gone": ("vanished", "SLURM no longer knows job 7_7, and the trial left neither record nor failure"),
        "withdrawn": ("cancelled", ""),
        "norecord": ("failed", "the job ended without a record of this trial, on n2"),
        "timeout": ("failed", "ran into its time limit and could not go on, TimeLimit, on n2"),
        "killed": ("failed", "FAILED, killed by signal 9; often: out of memory, on n3"),
        "again": ("queued", "Resources"),
        "oom": ("failed", "out of memory; ask for more with the profile's key memory, on n3"),
        "new": ("unsubmitted", ""),
        "failed-here": ("failed", "ValueError: on this machine"),
    }


def test_a_job_of_the_same_number_that_is_not_ours_is_not_believed(campaign, monkeypatch):
    jobs = submitted(campaign, "ours", "another's", "with a word of the site's")
    comments = ("t", "nobody's", "checked: t")
    states_are(monkeypatch, **{f"_{i}": JobState("RUNNING", comment=said) for i, said in enumerate(comments)})
    assert [one.state for one in status(jobs, campaign.home)] == ["running", "vanished", "running"]


def test_jobs_on_another_cluster_are_unknown_here(campaign, monkeypatch):
    jobs = submitted(campaign, "a", "b", cluster="big")
    write(jobs[1].folder, "record.json")
    states_are(monkeypatch)
    for here, expected in (("small", "unknown"), ("big", "vanished"), (None, "vanished")):
        monkeypatch.setattr("slurm.status.setting", lambda name, here=here: here if name == "ClusterName" else None)
        a, b = status(jobs, campaign.home)
        assert (a.state, b.state) == (expected, "done")
        assert (a.why == "job 7_0 is on cluster big, and this is cluster small") is (here == "small")


def test_what_an_earlier_plan_left_active_is_listed_for_its_owner(campaign, monkeypatch):
    jobs = submitted(campaign, "new", "left", "done", "gone", owner="quick")
    states_are(monkeypatch, _0=JobState("RUNNING"), _1=JobState("PENDING", "Priority"), _2=JobState("RUNNING"))
    write(jobs[2].folder, "record.json")
    seen = status(jobs[:1], campaign.home, "quick")
    assert [(one.key, one.state, one.why) for one in seen] == [
        ("new", "running", ""),
        ("left", "queued", "of an earlier plan; Priority"),
    ]
    assert [one.key for one in status(jobs[:1], campaign.home, "other")] == ["new"]
    assert [one.key for one in status(jobs[:1], campaign.home)] == ["new"]


def test_a_record_that_the_file_system_hides_for_a_while_is_seen_before_a_verdict(campaign, monkeypatch):
    jobs = submitted(campaign, "ended", "forgotten")
    states_are(monkeypatch, _0=JobState("COMPLETED"))
    monkeypatch.setattr("slurm.status.finished", lambda folder: False)  # a network file system's memory
    assert [one.state for one in status(jobs, campaign.home)] == ["failed", "vanished"]
    for job in jobs:
        write(job.folder, "record.json")
    assert [one.state for one in status(jobs, campaign.home)] == ["done", "done"]


def test_progress_and_eta(campaign, monkeypatch):
    jobs = submitted(campaign, "a", "b", "c", "d")
    states_are(monkeypatch, **{f"_{i}": JobState("RUNNING", "", "n1") for i in range(4)})
    ago = lambda seconds: (datetime.now(UTC) - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")  # noqa: E731
    common = {"state": "running", "step": 30, "steps": 100, "train_loss": 4.25, "seconds_per_step": 2.0}
    write(jobs[0].folder, "status.json", **common, updated=ago(40))
    write(jobs[1].folder, "status.json", **common, updated=ago(-3600))  # a clock that is ahead
    write(jobs[2].folder, "status.json", step=None, train_loss="no number", updated="yesterday")
    write(jobs[3].folder, "status.json", **common, updated=ago(1200))
    a, b, c, d = status(jobs, campaign.home)
    assert (a.step, a.steps, a.loss, a.nodes, a.why) == (30, 100, 4.25, "n1", "")
    assert a.eta_seconds == pytest.approx(70 * 2.0 - 40, abs=3)
    assert b.eta_seconds == 140.0
    assert (c.step, c.steps, c.loss, c.eta_seconds) == (None, None, None, None)
    assert d.eta_seconds is None
    assert d.why == "no sign of life for 20 min"


def test_the_tail_is_the_trials_log_or_the_jobs_without_escapes_or_secrets(campaign, monkeypatch):
    jobs = submitted(campaign, "a", "b", "c")
    states_are(monkeypatch)
    lines = [f"line {i}" for i in range(5000)] + ["\x1b[31mred at https://me:pw@host", ""]
    (campaign.logs / "a.log").write_text("\n".join(lines))
    (campaign.logs / "7_1_0_log.err").write_text("srun: error: Unable to create step\n")
    a, b, c = status(jobs, campaign.home)
    assert a.log == campaign.logs / "a.log"
    assert a.log_tail[-2:] == ("line 4999", "�[31mred at https://***@host")
    assert len(a.log_tail) == 12
    assert b.log_tail == ("srun: error: Unable to create step",)
    assert c.log_tail == ()


def test_without_slurm_folders_still_speak(campaign, fake):
    jobs = submitted(campaign, "a", "b", "c")
    write(jobs[0].folder, "record.json")
    write(jobs[1].folder, "failure.json", error="OSError", message="")
    seen = [(one.state, one.why) for one in status(jobs, campaign.home)]
    assert seen == [
        ("done", ""),
        ("failed", "OSError"),
        ("unknown", "squeue: not found; are SLURM's commands on the PATH of this machine?"),
    ]


def test_broken_files_are_not_fatal(campaign, monkeypatch):
    jobs = submitted(campaign, "a", "b")
    states_are(monkeypatch, _0=JobState("RUNNING"), _1=JobState("RUNNING"))
    write(jobs[0].folder, "status.json")
    (jobs[0].folder / "status.json").write_text('{"step": 3')
    jobs[1].folder.mkdir(parents=True)
    (jobs[1].folder / "status.json").write_bytes(b"\xff\xfe[1]")
    assert [one.state for one in status(jobs, campaign.home)] == ["running", "running"]


def test_the_ledger_keeps_the_latest_place_and_refuses_what_is_not_its_own(campaign):
    with locked(campaign.logs) as ledger:
        ledger.arrays.append(Array("t1", [["a", "b"], ["c"]], {}, job_id="7"))
        ledger.arrays.append(Array("t2", [["b"]], {}, job_id="8"))
        ledger.arrays.append(Array("t3", [["c"]], {}))  # never reached SLURM
        ledger.save()
    places = Ledger(campaign.logs).places()
    assert {key: place.job_id for key, place in places.items()} == {"a": "7_0", "b": "8", "c": "7_1"}
    assert campaign.logs.stat().st_mode & 0o022 == 0
    (campaign.logs / "jobs.json").write_text("[]")
    with pytest.raises(ValueError, match=r"jobs\.json: is no list of submissions of schema 1"):
        status([], campaign.home)


def test_a_home_that_cannot_be_written_to(campaign, tmp_path):
    (tmp_path / "file").touch()
    campaign.home = tmp_path / "file"
    with pytest.raises(ValueError, match="cannot be written to"):
        campaign.submit(campaign.jobs("a"))


def test_ten_thousand_trials_take_seconds(campaign, monkeypatch):
    keys = [f"k{i}" for i in range(10_000)]
    jobs = submitted(campaign, *keys)
    states_are(monkeypatch, **{f"_{i}": JobState("PENDING") for i in range(10_000)})
    start = time.monotonic()
    assert len(status(jobs, campaign.home)) == 10_000
    assert time.monotonic() - start < 5
