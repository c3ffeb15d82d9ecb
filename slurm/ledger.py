"""`jobs.json`: what was submitted, so that nothing is submitted twice and nothing is lost.

    {"schema": 1, "arrays": [{"token": "equipoise-9f2c…", "job_id": "12", "cluster": "…", "submitted": "…",
                              "owner": "…", "elements": [["<key>", "<key>"], ["<key>"]], "cancelled": [1],
                              "resources": {…}}]}

An array is written down before it is handed to SLURM (`job_id` null) and again with its id. Element i of several is
job `<id>_<i>`; an only element is job `<id>`. The token is in the job's
comment: on another cluster another job may have its number.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from slurm.queue import JobState, states
from slurm.trials import failed_since, read_json, write_json


@dataclass
class Array:
    """One submission: the trials of each of its elements."""

    token: str
    elements: list[list[str]]
    resources: dict[str, Any]
    job_id: str | None = None
    cluster: str | None = None
    submitted: str = ""
    cancelled: list[int] = field(default_factory=list)
    owner: str = ""  # the suite it was submitted for

    def away(self, cluster: str | None) -> bool:
        """Whether it is known to be on a cluster other than this one."""
        return None not in (self.cluster, cluster) and self.cluster != cluster

    def element_id(self, index: int) -> str:
        assert self.job_id is not None
        return self.job_id if len(self.elements) == 1 else f"{self.job_id}_{index}"


@dataclass(frozen=True)
class Place:
    """Where a trial was last submitted."""

    array: Array
    index: int

    @property
    def job_id(self) -> str:
        return self.array.element_id(self.index)

    @property
    def keys(self) -> list[str]:
        return self.array.elements[self.index]

    @property
    def cancelled(self) -> bool:
        return self.index in self.array.cancelled

    def away(self, cluster: str | None) -> str:
        """Why a cluster has no say about the job; empty if it is its own, or if either is unknown."""
        if not self.array.away(cluster):
            return ""
        return f"job {self.job_id} is on cluster {self.array.cluster}, and this is cluster {cluster}"

    def failed(self, folder: Path, logs: Path) -> bool:
        """Whether the trial left its `failure.json` in this job, not in one before."""
        return failed_since(folder, logs, str(self.array.job_id))


class Ledger:
    """The submissions of one home."""

    def __init__(self, logs: Path) -> None:
        self.path = logs / "jobs.json"
        self.arrays = [Array(**array) for array in self._read()]

    def _read(self) -> list[dict[str, Any]]:
        content = read_json(self.path)
        if self.path.exists() and content.get("schema") != 1:
            raise ValueError(f"{self.path}: is no list of submissions of schema 1; move it away to start a new one")
        return list(content.get("arrays", []))

    def save(self) -> None:
        try:
            write_json(self.path, {"schema": 1, "arrays": [asdict(array) for array in self.arrays]})
        except OSError as error:
            raise ValueError(f"{self.path}: cannot be written ({error.strerror})") from None

    def places(self) -> dict[str, Place]:
        """Every trial that was ever submitted, with its latest job."""
        return {key: place for place in self.all_places() for key in place.keys}

    def all_places(self, owner: str | None = None) -> list[Place]:
        """Every job that was ever submitted, or those of an owner."""
        return [
            Place(array, index)
            for array in self.arrays
            if array.job_id is not None and owner in (None, array.owner)
            for index in range(len(array.elements))
        ]


def known_jobs(places: Iterable[Place]) -> dict[str, JobState]:
    """What SLURM knows of these jobs, by id; another's job of the same number is left out.

    Raises:
        ClusterError: squeue is missing or the controller doesn't answer.
    """
    tokens = {place.job_id: place.array.token for place in places}
    found = states(tokens)
    return {job: said for job, said in found.items() if said.comment is None or tokens[job] in said.comment}


@contextmanager
def locked(logs: Path) -> Iterator[Ledger]:
    """The ledger, held against other submitters until the block ends.

    Raises:
        ValueError: the folder can't be written to or held.
    """
    try:
        logs.mkdir(parents=True, exist_ok=True)
        logs.chmod(logs.stat().st_mode & ~0o022)  # jobs unpickle what lies here: nobody else may write
        lock = (logs / "jobs.lock").open("a")
    except OSError as error:
        raise ValueError(f"logs: {logs} cannot be written to ({error.strerror})") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            raise ValueError(f"logs: {logs}: its file system cannot lock ({error.strerror})") from None
        yield Ledger(logs)
