"""How every trial stands, from its folder and from what SLURM knows of its job; and why it failed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from slurm.commands import ClusterError, setting
from slurm.ledger import Ledger, Place, known_jobs
from slurm.queue import JobState
from slurm.trials import TrialJob, finished, logs_of, present, read_json
from slurm.trust import redact

STATES = (
    "done",
    "running",
    "queued",
    "requeued",  # was interrupted, and waits to go on
    "preempted",  # was interrupted, and the cluster will not requeue it
    "cancelled",
    "failed",
    "vanished",  # submitted, neither done nor failed, and SLURM knows nothing of it
    "unsubmitted",
    "unknown",  # submitted, and SLURM does not answer
)
ACTIVE = frozenset({"running", "queued", "requeued"})
FAILED = frozenset({"failed", "vanished", "preempted"})  # what `resubmit` brings back

OF_BEFORE = "of an earlier plan"
_STALE_SECONDS = 60  # what a trial wrote so long ago says little about when it ends
_SILENT_SECONDS = 600  # a running trial that wrote nothing for so long is worth a remark
_TAIL_LINES = 12
_TAIL_BYTES = 16_384


@dataclass(frozen=True)
class TrialStatus:
    """One line of the status table."""

    key: str
    task: str
    strategy: str
    state: str  # one of STATES
    job_id: str | None = None
    nodes: str = ""
    restarts: int = 0
    step: int | None = None
    steps: int | None = None
    loss: float | None = None
    eta_seconds: float | None = None
    why: str = ""  # one line: why it waits, failed or vanished
    log_tail: tuple[str, ...] = ()  # of what failed or vanished
    log: Path | None = None


def status(jobs: Sequence[TrialJob], home: Path, owner: str = "") -> list[TrialStatus]:
    """The state of every trial, in the order given. Works without accounting, and without SLURM for what is done.

    Args:
        home: its `slurm` folder holds what was submitted.
        owner: also list, after the others, what was submitted for it, is still active and is none of `jobs`.
    """
    listed = {job.key for job in jobs}
    places = Ledger(logs_of(home)).all_places(owner) if owner else []
    mine = dict.fromkeys(key for place in places for key in place.keys)
    earlier = [TrialJob(key, home / "trials" / key, "", "", False) for key in mine if key not in listed]
    seen = read([*jobs, *earlier], logs_of(home))
    strays = [one for one in seen[len(jobs) :] if one.state in ACTIVE]
    return seen[: len(jobs)] + [replace(one, why="; ".join(filter(None, (OF_BEFORE, one.why)))) for one in strays]


def read(jobs: Sequence[TrialJob], logs: Path) -> list[TrialStatus]:
    """`status`, given the folder that was handed to `submit` as `logs`."""
    places = Ledger(logs).places()
    unfinished = [places[job.key] for job in jobs if job.key in places and not _done(job)]
    silent, cluster = "", None
    known: dict[str, JobState] = {}
    try:
        known = known_jobs(unfinished)
        cluster = setting("ClusterName") if any(place.array.cluster for place in unfinished) else None
    except ClusterError as error:
        silent = str(error)
    answers = []
    for job in jobs:
        place = places.get(job.key)
        answers.append(_one(job, place, known, (place.away(cluster) if place else "") or silent, logs))
    return answers


def _done(job: TrialJob) -> bool:
    return job.done or finished(job.folder)


def _one(job: TrialJob, place: Place | None, known: dict[str, JobState], silent: str, logs: Path) -> TrialStatus:
    base: dict[str, Any] = {"key": job.key, "task": job.task, "strategy": job.strategy}
    if place is not None:
        base |= {"job_id": place.job_id, "log": logs / f"{job.key}.log"}
    if _done(job):
        return TrialStatus(**base, state="done", **_progress(job.folder, running=False))
    before = place is not None and not place.failed(job.folder, logs)
    failure = "" if before else _failure(job.folder)
    live = known.get(place.job_id) if place is not None else None
    if live is not None:
        base |= {"nodes": live.nodes, "restarts": live.restarts}
    state, why = _verdict(place, live, failure, silent)
    if state in FAILED and not failure and present(job.folder / "record.json"):
        return TrialStatus(**base, state="done", **_progress(job.folder, running=False))
    progress = _progress(job.folder, running=state == "running")
    if state == "running" and not why:
        why = _silence(job.folder)
    if state in FAILED and place is not None:
        base["log_tail"] = _tail(job.key, place, logs)
        why = why if failure else _too_often(place, logs) or why
    return TrialStatus(**base, state=state, why=why, **progress)


def _verdict(place: Place | None, live: JobState | None, failure: str, silent: str) -> tuple[str, str]:
    """State and reason of a trial without a record."""
    if place is None:
        return ("failed", failure) if failure else ("unsubmitted", "")
    if failure:
        return "failed", failure
    if silent:
        return "unknown", silent
    if live is None:
        if place.cancelled:
            return "cancelled", ""
        return "vanished", f"SLURM no longer knows job {place.job_id}, and the trial left neither record nor failure"
    if live.state in ("RUNNING", "COMPLETING", "SIGNALING", "STAGE_OUT"):
        return "running", "" if live.state == "RUNNING" else live.state.lower()
    if live.active:
        return ("requeued" if live.restarts or "REQUEUE" in live.state else "queued"), live.reason
    if live.state == "CANCELLED":
        return "cancelled", ""
    if live.state == "PREEMPTED":
        return "preempted", "preempted, and the cluster does not requeue"
    return "failed", _ending(live)


def _ending(live: JobState) -> str:
    """SLURM's account of a job that is over, in words."""
    known = {
        "COMPLETED": "the job ended without a record of this trial",
        "TIMEOUT": "ran into its time limit and could not go on",
        "OUT_OF_MEMORY": "out of memory; ask for more with the profile's key memory",
        "NODE_FAIL": "its node failed",
        "BOOT_FAIL": "its node did not boot",
        "DEADLINE": "could not end before its deadline",
    }
    words = [known.get(live.state, live.state)]
    if live.signal:
        hint = "; often: out of memory" if live.signal == 9 else ""
        words.append(f"killed by signal {live.signal}{hint}")
    elif live.exit_code:
        words.append(f"exit code {live.exit_code}")
    if live.reason and live.reason not in ("NonZeroExitCode", "RaisedSignal"):
        words.append(live.reason)
    if live.nodes:
        words.append(f"on {live.nodes}")
    return ", ".join(words)


def _too_often(place: Place, logs: Path) -> str:
    """Why a job was not requeued at its time limit, which only its own log says, in submitit's words."""
    if not any("timed-out too many times" in line for line in _last_lines(logs / f"{place.job_id}_0_log.err")):
        return ""
    return "reached its time limit max_requeues times; raise time or max_requeues, then resubmit"


def _failure(folder: Path) -> str:
    said = read_json(folder / "failure.json")
    if not said:
        return ""
    error, message = str(said.get("error", "")), " ".join(str(said.get("message", "")).split())
    return redact(f"{error}: {message}" if message else error or "failed")


def _progress(folder: Path, running: bool) -> dict[str, Any]:
    said = read_json(folder / "status.json")
    step, steps, pace = (_number(said.get(name)) for name in ("step", "steps", "seconds_per_step"))
    progress: dict[str, Any] = {
        "step": None if step is None else int(step),
        "steps": None if steps is None else int(steps),
        "loss": _number(said.get("train_loss")),
    }
    if running and step is not None and steps is not None and pace is not None:
        age = _age(said)
        if age < max(_STALE_SECONDS, 20 * pace):  # older: from before an interruption
            progress["eta_seconds"] = max(0.0, (steps - step) * pace - age)
    return progress


def _silence(folder: Path) -> str:
    said = read_json(folder / "status.json")
    age = _age(said)
    return f"no sign of life for {age / 60:.0f} min" if said and age > _SILENT_SECONDS else ""


def _age(said: dict[str, Any]) -> float:
    """Seconds since a status was written; 0 if it doesn't say, or says it was written in the future."""
    try:
        updated = datetime.fromisoformat(str(said["updated"]))
    except (KeyError, ValueError):
        return 0.0
    if updated.tzinfo is None:
        updated = updated.replace(tzinfo=UTC)
    return max(0.0, (datetime.now(UTC) - updated).total_seconds())


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _tail(key: str, place: Place, logs: Path) -> tuple[str, ...]:
    """The end of the trial's own log; of the job's, if the trial never wrote one."""
    for name in (f"{key}.log", f"{place.job_id}_0_log.err", f"{place.job_id}_0_log.out"):
        lines = _last_lines(logs / name)
        if lines:
            return lines
    return ()


def _last_lines(path: Path) -> tuple[str, ...]:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ()
    printable = "".join(c if c.isprintable() or c in "\n\t" else "�" for c in text)
    return tuple(line.rstrip() for line in redact(printable).splitlines() if line.strip())[-_TAIL_LINES:]
