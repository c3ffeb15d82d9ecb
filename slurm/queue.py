"""What SLURM knows of jobs: squeue always, sacct where there is accounting."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from slurm.commands import ClusterError, run

ACTIVE = {
    "PENDING",
    "CONFIGURING",
    "RUNNING",
    "COMPLETING",
    "SUSPENDED",
    "STOPPED",
    "SIGNALING",
    "STAGE_OUT",
    "RESIZING",
}
ACTIVE |= {"REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
_WIDTHS = {"JobArrayID": 40, "State": 24, "Reason": 64, "RestartCnt": 12, "exit_code": 12, "NodeList": 256}
_WIDTHS |= {"Comment": 128}
_IDS_PER_CALL = 200  # array ids in one command line


@dataclass(frozen=True)
class JobState:
    """One job, or one element of an array."""

    state: str  # SLURM's long form: PENDING, RUNNING, COMPLETED, FAILED, …
    reason: str = ""  # why it waits or why it ended, in SLURM's words
    nodes: str = ""
    restarts: int = 0
    exit_code: int = 0
    signal: int = 0
    comment: str | None = None  # what was submitted with it; None where SLURM does not say (sacct)

    @property
    def active(self) -> bool:
        """Whether the job may still run: submitting its trials again would run them twice."""
        return self.state in ACTIVE


def states(job_ids: Iterable[str]) -> dict[str, JobState]:
    """The state of every job SLURM still knows, by id; an unknown id is left out.

    Args:
        job_ids: "12", or "12_3" for an element of an array.

    Raises:
        ClusterError: squeue is missing or the controller doesn't answer.
    """
    wanted = set(job_ids)
    known = {job: state for job, state in _from_squeue(wanted).items() if job in wanted}
    forgotten = wanted - set(known)
    known |= {job: state for job, state in _from_sacct(forgotten).items() if job in forgotten}
    return known


def _arrays(job_ids: Iterable[str]) -> list[list[str]]:
    ids = sorted({job.split("_")[0] for job in job_ids}, key=int)
    return [ids[start : start + _IDS_PER_CALL] for start in range(0, len(ids), _IDS_PER_CALL)]


def _from_squeue(job_ids: set[str]) -> dict[str, JobState]:
    found = {}
    layout = ",".join(f"{name}:{width}" for name, width in _WIDTHS.items())
    for ids in _arrays(job_ids):
        try:
            listed = run(["squeue", "--array", "--states=all", "--noheader", f"--jobs={','.join(ids)}", f"-O{layout}"])
        except ClusterError as error:
            if "Invalid job id" not in str(error):  # squeue's way of saying that it has forgotten a lone job
                raise
            continue
        for line in listed.splitlines():
            fields, start = [], 0
            for width in _WIDTHS.values():
                fields.append(line[start : start + width].strip())
                start += width
            job, state, reason, restarts, status, nodes, comment = fields
            code, number = _exit(int(status or 0))
            reason = "" if reason == "None" else reason
            found[job] = JobState(state, reason, nodes, int(restarts or 0), code, number, comment)
    return found


def _exit(status: int) -> tuple[int, int]:
    """Exit code and signal of a wait status; srun reports a signal as 128 + its number."""
    code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 0
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    return (0, code - 128) if 128 < code < 192 else (code, number)


def _from_sacct(job_ids: set[str]) -> dict[str, JobState]:
    """Empty where accounting is off or the command missing."""
    found = {}
    for ids in _arrays(job_ids):
        fields = "--format=JobID,State,Reason,NodeList,ExitCode"
        try:
            listed = run(["sacct", "--noheader", "--parsable2", "--allocations", fields, f"--jobs={','.join(ids)}"])
        except ClusterError:
            return {}
        for line in listed.splitlines():
            job, state, reason, nodes, ended = line.split("|")[:5]
            code, _, number = ended.partition(":")
            exit_code, killed_by = _exit(int(code or 0) << 8)
            word = state.split()[0] if state else "UNKNOWN"  # "CANCELLED by 1000"
            reason = "" if reason == "None" else reason
            found[job] = JobState(word, reason, nodes, 0, exit_code, int(number or 0) or killed_by)
    return found
