"""What whoever watches a trial is told: events, and `status.json` for `equipoise status`."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from typing import Any

from suite.storage.files import now, write_json
from suite.storage.trial import TrialFolder

STATUS_SECONDS = 2.0

Event = Callable[[dict[str, Any]], None]


class Reporter:
    """Nothing it says is ever read back by the trial."""

    def __init__(self, folder: TrialFolder, event: Event) -> None:
        self._folder, self._event = folder, event
        self._last = time.monotonic()

    def warn(self, message: str) -> None:
        self._event({"event": "warning", "key": self._folder.key, "message": message})

    def progress(self, step: int, steps: int, train_loss: float, seconds: float) -> None:
        """An event each time, and the status file now and then."""
        facts = {"step": step, "steps": steps, "train_loss": train_loss}
        self._event({"event": "progress", "key": self._folder.key, **facts})
        if time.monotonic() - self._last > STATUS_SECONDS or step == steps:
            self._last = time.monotonic()
            self.write_status("running", **facts, seconds_per_step=seconds / max(1, step))

    def write_status(self, state: str, **facts: Any) -> None:
        host = {"host": os.uname().nodename, "pid": os.getpid(), "slurm_job": os.environ.get("SLURM_JOB_ID")}
        with contextlib.suppress(OSError):  # a full or stale disk costs the news, not the trial
            write_json(self._folder.status, {"state": state, "updated": now(), **facts, **host})
