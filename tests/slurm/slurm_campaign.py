"""A home with toy trials, and waiting for them."""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from slurm import TrialJob, logs_of, profiles
from slurm.job import PackedTrials
from slurm.status import TrialStatus, status
from slurm.submit import Submission, submit

TOY = Path(__file__).parent / "toy"
ENTRY = "toy_trial:run"


@dataclass
class Campaign:
    """A home with toy trials."""

    home: Path
    payload: dict[str, Any] = field(default_factory=lambda: {"steps": 3, "mischief": {}})
    overrides: dict[str, Any] = field(default_factory=dict)

    @property
    def logs(self) -> Path:
        return logs_of(self.home)

    @property
    def profile(self) -> profiles.Profile:
        return profiles.load("testcluster", self.overrides)

    def jobs(self, *keys: str, task: str = "mix-nano") -> list[TrialJob]:
        return [TrialJob(key, self.home / "trials" / key, task, "smebu", False) for key in keys]

    def submit(self, jobs: list[TrialJob]) -> list[Submission]:
        return submit(jobs, ENTRY, self.payload, self.profile, self.logs)

    def status(self, jobs: list[TrialJob]) -> dict[str, TrialStatus]:
        return {one.key: one for one in status(jobs, self.home)}

    def until(self, jobs: list[TrialJob], *wanted: str, seconds: float = 120) -> dict[str, TrialStatus]:
        """Wait until every trial is in one of the states; fail with what they are in instead."""
        deadline = time.monotonic() + seconds
        while True:
            now = self.status(jobs)
            if all(one.state in wanted for one in now.values()):
                return now
            if time.monotonic() > deadline:
                pytest.fail(
                    f"not {wanted} within {seconds} s: {[(k, s.state, s.why, s.log_tail) for k, s in now.items()]}"
                )
            time.sleep(0.3)


def pack(tmp_path, *keys, restarts=1, entry=ENTRY, **payload):
    folders = tuple(str(tmp_path / "trials" / key) for key in keys)
    return PackedTrials(entry, keys, folders, told(tmp_path, **{"steps": 2} | payload), str(tmp_path), 60, restarts)


def told(folder, **payload):
    (folder / "payload.json").write_text(json.dumps(payload))
    return str(folder / "payload.json")


def record(tmp_path, key):
    return json.loads((tmp_path / "trials" / key / "record.json").read_text())


def failure(tmp_path, key):
    said = json.loads((tmp_path / "trials" / key / "failure.json").read_text())
    return said["error"], said["message"], said["step"]
