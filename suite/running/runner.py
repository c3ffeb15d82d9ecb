"""Running a plan's trials on this machine: worker processes, progress, and what became of each trial."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from suite.planning.plan import Plan, failure_line
from suite.planning.trials import Trial
from suite.storage.trial import TrialFolder

STOP_PATIENCE = 60.0  # seconds for all workers together to write their checkpoints
BUSY_PATIENCE = 60.0  # seconds to wait for a trial that another process holds


@dataclass
class Outcome:
    """What a run did."""

    reused: list[str] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    diverged: list[str] = field(default_factory=list)  # with a record, as those that finished
    failed: dict[str, str] = field(default_factory=dict)  # key → why
    interrupted: bool = False


@dataclass
class _Worker:
    process: subprocess.Popen[str]
    key: str | None = None


class Runner:
    """Keeps `jobs` workers busy. A trial's failure, a bad folder or a worker's death never stops the others."""

    def __init__(self, plan: Plan, home: Path, jobs: int, watch: Callable[[dict[str, Any]], None]) -> None:
        self.plan, self.home, self.watch = plan, home, watch
        self.jobs = jobs
        self.outcome = Outcome()
        self._events: queue.Queue[tuple[_Worker, dict[str, Any] | None]] = queue.Queue()
        self._workers: list[_Worker] = []
        self._held: dict[str, tuple[float, str]] = {}  # key → since when another process holds it, and what was said

    def run(self) -> Outcome:
        """Run what has no record yet. Ctrl-C checkpoints what is running and returns."""
        todo: deque[Trial] = deque()
        seen: set[str] = set()
        for trial in self.plan.trials:
            if trial.key in seen:
                continue
            seen.add(trial.key)
            if self.plan.folder(self.home, trial).done:
                self.outcome.reused.append(trial.key)
                self.watch({"event": "reused", "key": trial.key})
            else:
                todo.append(trial)
        if not todo:
            return self.outcome
        try:
            for _ in range(min(self.jobs, len(todo))):
                self._spawn()
            self._serve(todo)
            for trial in todo:  # no worker lived to take them
                self.outcome.failed[trial.key] = f"no worker process could be started; see {self.home / 'workers.log'}"
        except KeyboardInterrupt:
            self.outcome.interrupted = True
            self._stop()
        return self.outcome

    def _spawn(self) -> None:
        threads = str(self.plan.suite.threads)
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "PYTHONSAFEPATH": "1"}
        log = self.home / "workers.log"
        with open(log, "a", encoding="utf-8") as errors:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "suite.running.worker", str(self.home / "cache")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment,
            )
        worker = _Worker(process)
        self._workers.append(worker)
        threading.Thread(target=self._listen, args=(worker,), daemon=True).start()

    def _listen(self, worker: _Worker) -> None:
        assert worker.process.stdout is not None
        for line in worker.process.stdout:
            with suppress(ValueError):  # torn: it died while it wrote, which is told next
                self._events.put((worker, json.loads(line)))
        self._events.put((worker, None))

    def _serve(self, todo: deque[Trial]) -> None:
        while self._workers:
            worker, event = self._events.get()
            if event is None:
                self._gone(worker, todo)
                continue
            kind, key = event["event"], str(event.get("key"))
            if kind == "busy":
                self._wait_for(key, event, todo)
            elif kind == "failed":
                self._failed(key, event["message"])
            elif kind == "idle":
                self._recorded(key)
            else:
                if kind == "done":
                    self._done(key, event)
                else:
                    self.watch(event)
            if kind in ("ready", "idle", "failed", "busy"):
                worker.key = None
                self._hand_out(worker, todo)

    def _failed(self, key: str, why: str) -> None:
        self.outcome.failed[key] = why
        self.watch({"event": "failed", "key": key, "message": why})

    def _recorded(self, key: str) -> None:
        """The trial has its record; said here if its worker did not, having died too soon or found another's there."""
        if key not in (*self.outcome.finished, *self.outcome.diverged):
            ending = TrialFolder(self.home / "trials" / key).ending()
            self._done(key, {"event": "done", "key": key, **ending})

    def _done(self, key: str, event: dict[str, Any]) -> None:
        ended = self.outcome.diverged if event["status"] == "diverged" else self.outcome.finished
        ended.append(key)
        self.watch(event)

    def _hand_out(self, worker: _Worker, todo: deque[Trial]) -> None:
        """Give the worker the next trial whose folder can be written; send it away where none is left."""
        assert worker.process.stdin is not None
        while todo:
            trial = todo.popleft()
            if trial.key in self._held:
                time.sleep(1.0)  # held by another process a moment ago
            try:
                folder = self.plan.write_trial(self.home, trial)
            except (OSError, ValueError) as error:  # a full disk, a plug-in that has vanished, a damaged definition
                self._failed(trial.key, f"{type(error).__name__}: {error}")
                continue
            worker.key = trial.key
            with suppress(BrokenPipeError):  # it just died, which `_gone` will see
                worker.process.stdin.write(f"{folder.path}\n")
                worker.process.stdin.flush()
            return
        worker.process.stdin.close()

    def _wait_for(self, key: str, event: dict[str, Any], todo: deque[Trial]) -> None:
        """Another process holds the trial: look again later, and say so when it is news; its record is as good."""
        since, said = self._held.get(key, (time.monotonic(), ""))
        self._held[key] = since, event["message"]
        if time.monotonic() - since >= BUSY_PATIENCE:
            self._failed(key, event["message"])
            return
        todo.append(next(trial for trial in self.plan.trials if trial.key == key))
        if event["message"] != said:
            self.watch(event)

    def _gone(self, worker: _Worker, todo: deque[Trial]) -> None:
        """A worker ended. A trial in its hand that has no record was killed: it is resumable, and said so."""
        code = worker.process.wait()
        self._workers.remove(worker)
        if worker.key is None:
            return
        folder = TrialFolder(self.home / "trials" / worker.key)
        if folder.done:
            self._recorded(worker.key)
        elif folder.failure.exists():
            self._failed(worker.key, failure_line(folder))
        else:
            ending = f"signal {-code}" if code < 0 else f"code {code}"
            self._failed(worker.key, f"its process ended with {ending}; run again to resume")
        if todo:
            self._spawn()

    def _stop(self) -> None:
        """Ask every worker to write its checkpoint and go; wait for them."""
        for worker in self._workers:
            worker.process.terminate()
            if worker.process.stdin is not None:  # one that still imports waits for its first trial
                with suppress(OSError):
                    worker.process.stdin.close()
        deadline = time.monotonic() + STOP_PATIENCE
        for worker in self._workers:
            try:
                worker.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
