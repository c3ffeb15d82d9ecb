"""Hand trials to SLURM: what is missing, in one job array per distinct shape of resources."""

from __future__ import annotations

import contextlib
import difflib
import getpass
import hashlib
import importlib.util
import io
import json
import os
import re
import sys
import sysconfig
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from submitit.core.utils import FailedJobError, FailedSubmissionError

from slurm import batch, trust
from slurm.commands import ClusterError, one_line, run, setting
from slurm.job import PackedTrials
from slurm.ledger import Array, Ledger, Place, known_jobs, locked
from slurm.profiles import Profile, Resources
from slurm.queue import JobState
from slurm.status import FAILED, read
from slurm.trials import TrialJob, finished, now, write_json

_DEFAULT_ARRAY_SIZE = 1001  # SLURM's own default


@dataclass(frozen=True)
class Submission:
    """One job array, or one job; `job_id` is None after a dry run."""

    job_id: str | None
    elements: tuple[tuple[str, ...], ...]  # the trials of each job
    resources: Resources
    script: str

    @property
    def keys(self) -> list[str]:
        return [key for keys in self.elements for key in keys]


def submit(
    jobs: Sequence[TrialJob],
    entry: str,
    payload: dict[str, Any],
    profile: Profile,
    logs: Path,
    dry_run: bool = False,
    owner: str = "",
) -> list[Submission]:
    """Submit the trials that are neither done nor queued nor running, and return at once.

    Args:
        entry: "package.module:function", called as `function(key, folder, payload)` in a process of its own
            (`slurm.worker` states the contract).
        payload: JSON values that every trial gets; no secrets, these travel by environment.
        logs: a folder all nodes see (`slurm.logs_of(home)`); holds `jobs.json`, scripts and logs.
        dry_run: ask the cluster nothing, write nothing, and return the batch scripts.
        owner: the suite it is for, so that `cancel` and `status` find these jobs when the suite has changed.

    Raises:
        ValueError: something can't be submitted as it is.
        ClusterError: the cluster refused, or another one has some of the trials; arrays before the refused one stay
            submitted, and stay on record.
    """
    logs = trust.check_logs(logs.absolute())
    wanted = _checked(jobs)
    roots = _import_roots(trust.check_entry(entry))
    trust.check_payload(payload)
    text = json.dumps(payload, allow_nan=False)
    if dry_run:
        plan = _arrays(wanted, profile, profile.max_array_size or _DEFAULT_ARRAY_SIZE)
        return [_described(array, resources, profile, logs, roots) for array, resources in plan]
    with locked(logs) as ledger:
        cluster = setting("ClusterName")
        _refuse_elsewhere(ledger, {job.key for job in wanted}, cluster)
        _drop_half_submitted(ledger, cluster)
        busy = _busy(ledger, {job.key: job.folder for job in wanted})
        missing = [job for job in wanted if job.key not in busy]
        if not missing:
            return []
        limit = max(1, int(setting("MaxArraySize") or _DEFAULT_ARRAY_SIZE))
        told = _write_payload(text, logs)
        submitted: list[Submission] = []
        for array, resources in _arrays(missing, profile, min(limit, profile.max_array_size or limit)):
            described = _described(array, resources, profile, logs, roots)
            array.cluster, array.submitted, array.owner = cluster, now(), owner
            ledger.arrays.append(array)
            ledger.save()
            folders = {job.key: str(job.folder) for job in missing}
            calls = [_call(entry, keys, folders, told, logs, resources) for keys in array.elements]
            settings = batch.parameters(resources, logs, profile.array_parallelism, array.token, roots)
            try:
                array.job_id = _hand_over(calls, resources, logs, settings)
            except ValueError as error:
                # SLURM may have the array nevertheless: sbatch stops waiting before the controller does
                with contextlib.suppress(ClusterError):  # no answer: the next submission looks for it
                    _drop_half_submitted(ledger, cluster)
                if not submitted:
                    raise
                raise ClusterError(f"{error}{_before(submitted, len(missing))}") from None
            ledger.save()
            submitted.append(Submission(array.job_id, described.elements, resources, described.script))
        return submitted


def cancel(jobs: Iterable[TrialJob], logs: Path, owner: str = "") -> list[str]:
    """Cancel every job that holds one of the trials; returns the job ids. Trials write a checkpoint first.

    Trials packed into the same job are cancelled with it; submitting again brings them back.

    Args:
        owner: cancel also what was submitted for it, whatever the trials.

    Raises:
        ClusterError: SLURM does not answer, or another cluster has some of the trials.
    """
    keys = {job.key for job in jobs if not job.done and not finished(job.folder)}
    with locked(logs.absolute()) as ledger:
        cluster = setting("ClusterName")
        _refuse_elsewhere(ledger, keys, cluster)
        places = [place for key, place in ledger.places().items() if key in keys]
        if owner:
            places += [place for place in ledger.all_places(owner) if not place.away(cluster)]
        known = known_jobs(places)
        held = {place.job_id: place for place in places if _active(known, place)}
        if held:
            run(["scancel", *held])
            for place in held.values():
                place.array.cancelled.append(place.index)
            ledger.save()
    return sorted(held, key=lambda job: [int(part) for part in job.split("_")])


def resubmit(
    jobs: Sequence[TrialJob],
    entry: str,
    payload: dict[str, Any],
    profile: Profile,
    logs: Path,
    failed: bool = True,
    owner: str = "",
) -> list[Submission]:
    """Submit again the trials that failed or vanished; with `failed=False` the cancelled ones too."""
    states_wanted = FAILED if failed else FAILED | {"cancelled"}
    seen = read(jobs, logs.absolute())
    again = {one.key for one in seen if one.state in states_wanted}
    if not again and (unknown := [one.why for one in seen if one.state == "unknown"]):
        raise ClusterError(unknown[0])
    chosen = [job for job in jobs if job.key in again]
    return submit(chosen, entry, payload, profile, logs, owner=owner) if again else []


def _checked(jobs: Sequence[TrialJob]) -> list[TrialJob]:
    """The trials still to do, each once."""
    todo = {}
    for job in jobs:
        trust.check_folder(trust.check_key(job.key), job.folder)
        if not job.done and not finished(job.folder):
            todo[job.key] = job
    return list(todo.values())


def _arrays(jobs: Sequence[TrialJob], profile: Profile, limit: int) -> list[tuple[Array, Resources]]:
    """One array per distinct shape, its trials packed, cut where the cluster's limit is."""
    shapes: dict[str, tuple[Resources, list[str]]] = {}
    resources = {(job.task, job.strategy): None for job in jobs}
    asked = {pair: profile.resources_for(*pair) for pair in resources}
    for job in jobs:
        shape = asked[job.task, job.strategy]
        shapes.setdefault(shape.model_dump_json(), (shape, []))[1].append(job.key)
    arrays = []
    for shape, keys in shapes.values():
        elements = [keys[start : start + shape.packing] for start in range(0, len(keys), shape.packing)]
        recorded = shape.model_dump(exclude={"env", "setup"}, exclude_defaults=True)
        for start in range(0, len(elements), limit):
            token = f"equipoise-{uuid.uuid4().hex}"
            arrays.append((Array(token, elements[start : start + limit], recorded), shape))
    return arrays


def _described(array: Array, resources: Resources, profile: Profile, logs: Path, roots: list[str]) -> Submission:
    settings = batch.parameters(resources, logs, profile.array_parallelism, array.token, roots)
    script = batch.script(resources, logs, settings, len(array.elements))
    return Submission(None, tuple(tuple(keys) for keys in array.elements), resources, script)


def _call(
    entry: str, keys: list[str], folders: dict[str, str], payload: str, logs: Path, resources: Resources
) -> PackedTrials:
    return PackedTrials(
        entry=entry,
        keys=tuple(keys),
        folders=tuple(folders[key] for key in keys),
        payload=payload,
        logs=str(logs),
        signal_delay=resources.signal_delay,
        restarts=resources.restarts,
    )


def _write_payload(text: str, logs: Path) -> str:
    """The payload's file: one for all jobs, whose pickles then stay small."""
    path = logs / f"payload-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
    try:
        write_json(path, json.loads(text))
    except OSError as error:
        raise ValueError(f"{path}: cannot be written ({error.strerror})") from None
    return str(path)


def _hand_over(calls: list[PackedTrials], resources: Resources, logs: Path, settings: dict[str, Any]) -> str:
    """sbatch, through submitit; returns the array's id."""
    try:
        # submitit prints what sbatch complained of, and raises it too: once is enough
        with batch.submission_environment(resources), contextlib.redirect_stderr(io.StringIO()):
            handles = batch.Executor(resources, logs, settings).submit_array(calls)
    except (FailedJobError, FailedSubmissionError) as error:
        raise ClusterError(f"the cluster refused the job: {one_line(str(error))}{_hint(error, resources)}") from None
    except (RuntimeError, FileNotFoundError):
        raise ClusterError("sbatch, srun: not found; are SLURM's commands on the PATH of this machine?") from None
    except OSError as error:
        raise ValueError(f"logs: {logs} cannot be written to ({error.strerror})") from None
    return str(handles[0].job_id).split("_")[0]


def _before(submitted: Sequence[Submission], wanted: int) -> str:
    """What of a submission that was refused half-way stays."""
    trials = sum(len(one.keys) for one in submitted)
    ids = ", ".join(str(one.job_id) for one in submitted)
    return f"; submitted before it: {trials} of {wanted} trials, job{'s' if len(submitted) > 1 else ''} {ids}"


def _hint(error: Exception, resources: Resources) -> str:
    """What was asked for, and which partitions there are if that was wrong."""
    asked = {name: getattr(resources, name) for name in ("partition", "account", "qos")} | resources.extra
    words = [f"asked for {name} {value}" for name, value in asked.items() if value]
    if any(limit in str(error) for limit in ("MaxSubmit", "AssocMax", "QOSMax")):
        words.append(
            "a limit on jobs: max_array_size makes smaller arrays, packing fewer jobs; submit again for the rest"
        )
    if "invalid partition" in str(error).lower():
        known = sorted(set(run(["sinfo", "--noheader", "--format=%R"]).split()))
        near = difflib.get_close_matches(resources.partition or "", known, n=1)
        words.append(f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}")
    return f" ({'; '.join(words)})" if words else ""


def _refuse_elsewhere(ledger: Ledger, keys: set[str], cluster: str | None) -> None:
    for key, place in ledger.places().items():
        away = place.away(cluster) if key in keys else ""
        if away:
            raise ClusterError(f"{away}; go there, or move {ledger.path} away if that cluster is gone")


def _busy(ledger: Ledger, folders: dict[str, Path]) -> set[str]:
    """Trials that SLURM still holds; not one that failed in a job which still has others to run, or is just ending."""
    places = {key: place for key, place in ledger.places().items() if key in folders}
    known = known_jobs(places.values())
    logs = ledger.path.parent
    return {key for key, place in places.items() if _active(known, place) and not place.failed(folders[key], logs)}


def _active(known: dict[str, JobState], place: Place) -> bool:
    return place.job_id in known and known[place.job_id].active


def _drop_half_submitted(ledger: Ledger, cluster: str | None) -> None:
    """Arrays without an id are of a submission that ended half-way: cancel what reached SLURM, forget the rest."""
    lost = {array.token for array in ledger.arrays if array.job_id is None and not array.away(cluster)}
    if not lost:
        return
    listed = run(["squeue", "--noheader", f"--user={getpass.getuser()}", "--format=%A|%k"])
    stray = [job for job, _, token in (line.partition("|") for line in listed.splitlines()) if token in lost]
    if stray:
        run(["scancel", *stray])
    ledger.arrays = [array for array in ledger.arrays if array.token not in lost]
    ledger.save()
    for draft in ledger.path.parent.iterdir():  # submitit names its files after the job once it has one
        if re.fullmatch(r"[0-9a-f]{32}\.pkl|\.submission_file_[0-9a-f]{32}\.sh", draft.name):
            draft.unlink()


def _import_roots(entry: str) -> list[str]:
    """Folders that must be on the job's path because our modules are not installed.

    Raises:
        ValueError: the entry's module can't be found.
    """
    module = entry.split(":")[0]
    roots = []
    for name in (__name__, module):
        try:
            spec = importlib.util.find_spec(name)
        except ModuleNotFoundError:
            spec = None
        if spec is None or not spec.origin:
            raise ValueError(f"entry: module {name!r} cannot be found; jobs import it by name")
        roots.append(str(Path(spec.origin).resolve().parents[name.count(".") + (Path(spec.origin).stem == "__init__")]))
    installed = {os.path.realpath(sysconfig.get_path(kind)) for kind in ("purelib", "platlib", "stdlib")}
    return [root for root in dict.fromkeys(roots) if root not in installed and root != sys.prefix]
