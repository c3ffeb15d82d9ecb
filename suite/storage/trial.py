"""A trial's folder: what is in it, how it is written so that a kill loses nothing, and who may write it.

File formats: docs/formats.md.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from suite.storage.files import read_json, write_json


class Busy(RuntimeError):
    """Another process is running this trial."""


class TrialFolder:
    """`trials/<key>/`."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.key = self.path.name
        self.trial, self.record = self.path / "trial.json", self.path / "record.json"
        self.status, self.failure = self.path / "status.json", self.path / "failure.json"
        self.attempts = self.path / "attempts.json"
        self.plugin = self.path / "plugin.py"  # the text of a rule from elsewhere; nothing imports it

    @property
    def done(self) -> bool:
        """Finished or diverged: there is a record."""
        return self.record.exists()

    def ending(self) -> dict[str, str]:
        """How a trial that is done ended: its "status", and as "message" where it diverged."""
        record = read_json(self.record)
        if record["status"] != "diverged":
            return {"status": record["status"]}
        step = record["measures"]["diverged_at_step"]
        return {"status": "diverged", "message": f"loss, gradient or bias not finite at step {step}"}

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the trial; released by the system when the process ends, however it ends.

        Raises:
            Busy: somebody else holds it.
            OSError: nobody can hold it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.path / ".lock", "a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                file.seek(0)
                raise Busy(f"trial {self.key} is being run by {file.read().strip() or 'another process'}") from None
            except OSError as error:
                raise OSError(f"{self.path}: its file system cannot lock ({error.strerror})") from None
            file.truncate(0)
            file.write(f"process {os.getpid()} on {os.uname().nodename}")
            file.flush()
            yield

    def sweep(self) -> None:
        """Remove what only an unfinished trial needs; called once the record is there."""
        names = ("checkpoint.pt", "checkpoint.previous.pt", "curves.jsonl", "load.bin", "bias.bin")
        for name in (*names, self.status.name, self.failure.name, self.attempts.name):
            (self.path / name).unlink(missing_ok=True)
        for leftover in (*self.path.glob(".*.tmp"), *self.path.glob(".checkpoint*")):
            leftover.unlink(missing_ok=True)

    def history(self) -> list[dict[str, Any]]:
        """Attempts so far, oldest first."""
        return read_json(self.attempts)["attempts"] if self.attempts.exists() else []

    def write_history(self, attempts: list[dict[str, Any]]) -> None:
        write_json(self.attempts, {"attempts": attempts})
