"""What a SLURM job runs: one trial, or several side by side, each in a process of its own.

Pickled by submitit, so it holds strings and numbers only, and is found again by import.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from submitit.helpers import DelayedSubmission, TorchDistributedEnvironment

from slurm import nodes
from slurm.commands import ClusterError, run
from slurm.trials import INTERRUPTED, failed_since, finished, now, present, read_json, report_death
from slurm.worker import SIGNALS

_POLL_SECONDS = 0.2
_PEER_SECONDS = 5  # after a rank's error, for another rank's death to become known
_MARGIN_SECONDS = 10  # of the signal's delay, kept for requeueing
_LOOK_SECONDS = 5  # between looks for a trial's first step
_MOVES = 5  # how often a job leaves broken nodes
_RANK_NAMES = ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


class TrialsFailedError(RuntimeError):
    """Some trials of the job failed; their folders say why."""


@dataclass
class PackedTrials:
    """The trials of one job. Called in every task of the job; called again when the job has been requeued."""

    entry: str  # "package.module:function"
    keys: tuple[str, ...]
    folders: tuple[str, ...]
    payload: str  # path of a JSON file
    logs: str
    signal_delay: int  # seconds between the signal and the end
    restarts: int
    cut: bool = False  # an attempt was interrupted: what its ranks said of one another then is no failure
    _running: dict[int, subprocess.Popen[bytes]] = field(init=False, repr=False, compare=False, default_factory=dict)
    _deaths: dict[int, int] = field(init=False, repr=False, compare=False, default_factory=dict)
    _failures: dict[int, str] = field(init=False, repr=False, compare=False, default_factory=dict)
    _begun: dict[int, int] = field(init=False, repr=False, compare=False, default_factory=dict)  # at which step

    def __call__(self) -> list[str]:
        """Run the trials; returns the keys of those that are done.

        Raises:
            TrialsFailedError: some failed.
            SystemExit: a trial of several tasks died (its exit code tells the batch script to requeue), or the job
                was interrupted, or has to leave a broken node.
        """
        self._leave_a_broken_node()
        self._environ = self._shared_environment()
        if _rank() > 0:
            signal.signal(signal.SIGUSR2, lambda *_: self._pass_on())  # rank 0 alone requeues
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR2})  # held back by slurm.launch
        for index, folder in enumerate(map(Path, self.folders)):
            cut = self._lost_a_rank(_restarts() - 1) or (self.cut and _world() > 1)
            if _restarts() and failed_since(folder, Path(self.logs), _submission()) and not cut:
                self._failures[index] = "earlier"  # before this job was requeued; not tried again by itself
            elif not finished(folder):
                self._start(index)
        if self._watch():
            self._come_back()
        failures = [f"{self.keys[index]} ({why})" for index, why in sorted(self._failures.items())]
        if failures:
            raise TrialsFailedError(f"{len(failures)} of {len(self.keys)} failed: {', '.join(failures)}")
        return list(self.keys)

    def checkpoint(self) -> DelayedSubmission:
        """Called by submitit on the signal, in the middle of anything: have checkpoints written, then come back."""
        self._pass_on()
        deadline = time.monotonic() + max(self.signal_delay - _MARGIN_SECONDS, _MARGIN_SECONDS)
        while time.monotonic() < deadline and None in map(_exit_code, self._running.values()):
            time.sleep(_POLL_SECONDS)
        for index, worker in self._running.items():
            code = _exit_code(worker)
            if code is None:
                os.kill(worker.pid, signal.SIGKILL)  # the checkpoint before the last one has to do
            elif code > 0 and code != INTERRUPTED:
                self._fail(index, "ExitCode", f"exit code {code}")
        return DelayedSubmission(replace(self, cut=True))

    def _start(self, index: int) -> None:
        key, folder = self.keys[index], Path(self.folders[index])
        if _rank() == 0:
            (folder / "failure.json").unlink(missing_ok=True)
        name = f"{key}.log" if _rank() == 0 else f"{key}.{_rank()}.log"
        self._begun[index] = _step(folder)
        told = [self.entry, key, str(folder), self.payload, str(os.getpid())]
        command = [sys.executable, "-P", "-u", "-m", "slurm.worker", *told]
        environ = self._environ | self._device(index)
        with (Path(self.logs) / name).open("ab") as log:
            head = f"--- {now()} {self.entry}, job {_job_id()} on {_node()}, attempt {_restarts() + 1}"
            log.write(f"{head}\n".encode())
            log.flush()
            # the child inherits a mask that holds signals back until it listens
            before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
            try:
                self._running[index] = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environ
                )
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _watch(self) -> bool:
        """Wait for the trials; start again those that died without a word. True if one was interrupted."""
        interrupted, looked = False, time.monotonic()
        while self._running:
            time.sleep(_POLL_SECONDS)
            if time.monotonic() - looked > _LOOK_SECONDS:
                looked = time.monotonic()
                self._note_first_steps()
            for index, worker in list(self._running.items()):
                code = worker.poll()
                if code is None:
                    continue
                del self._running[index]
                if code == INTERRUPTED or -code in SIGNALS:
                    interrupted = True
                elif code < 0:
                    self._died(index, -code)
                elif code > 0:
                    self._leave_with_a_lost_rank(index)
                    self._fail(index, "ExitCode", f"exit code {code}")
                elif _rank() == 0 and not present(Path(self.folders[index]) / "record.json"):
                    self._fail(index, "NoRecord", "ended without leaving a record")
        self._note_first_steps()
        return interrupted

    def _died(self, index: int, number: int) -> None:
        self._deaths[index] = self._deaths.get(index, 0) + 1
        name = signal.Signals(number).name
        if _world() > 1:
            self._marker(_restarts()).touch()
            sys.exit(128 + number)  # the other ranks can't go on either: the batch script requeues the job
        if self._deaths[index] <= self.restarts:
            self._start(index)
            return
        hint = "; often: out of memory" if number == signal.SIGKILL else ""
        self._fail(index, name, f"killed by {name}, {self._deaths[index]} × in this job{hint}")

    def _marker(self, restart: int) -> Path:
        """There when a rank died in that attempt: what the other ranks then say is no failure of the trial."""
        return Path(self.logs) / f"{_job_id()}.died.{restart}"

    def _lost_a_rank(self, restart: int) -> bool:
        return _world() > 1 and present(self._marker(restart))

    def _leave_with_a_lost_rank(self, index: int) -> None:
        """A rank fails when another one dies, and may be noticed first: give that death time to become known."""
        deadline = time.monotonic() + _PEER_SECONDS
        while _world() > 1 and time.monotonic() < deadline:
            if self._lost_a_rank(_restarts()):
                (Path(self.folders[index]) / "failure.json").unlink(missing_ok=True)
                sys.exit(128 + signal.SIGKILL)
            time.sleep(_POLL_SECONDS)

    def _fail(self, index: int, error: str, message: str) -> None:
        self._failures[index] = message
        folder = Path(self.folders[index])
        if not (folder / "failure.json").exists():  # the trial itself knows better
            report_death(folder, error, message)
        self._note_first_steps()
        said = read_json(folder / "failure.json")
        if self._begun.pop(index, None) is not None and _of_one_task() and not said.get("step"):
            what = f"{said.get('error')}: {said.get('message')}"
            nodes.note(Path(self.logs), _node(), _submission(), self.keys[index], what)

    def _note_first_steps(self) -> None:
        """Write down, once each, which trials have made a step on this node."""
        for index, begun in list(self._begun.items()) if _of_one_task() else ():
            folder = Path(self.folders[index])
            step = _step(folder)
            if step > begun or finished(folder):
                del self._begun[index]
                nodes.note(Path(self.logs), _node(), _submission(), self.keys[index])
            else:
                self._begun[index] = min(begun, step)  # one that resumes says first where it does

    def _leave_a_broken_node(self) -> None:
        """Have the batch script requeue the job for another node, where this one fails whatever it is given."""
        logs, own = Path(self.logs), _node()
        if not _of_one_task() or not _job_id() or own not in (out := nodes.broken(logs, _submission())):
            return
        marker = logs / f"{_job_id()}.leaves.{_restarts()}"  # the batch script looks for it
        if len(list(logs.glob(f"{_job_id()}.leaves.*"))) >= _MOVES:
            return
        print(f"{now()} leaving {own}, which fails what it is given: {out[own]}", file=sys.stderr)
        try:
            before = run(["squeue", "--noheader", f"--jobs={_job_id()}", "--format=%x"]).strip()
        except ClusterError:
            before = ""
        listed = ",".join(filter(None, [before.replace("(null)", ""), *out]))
        marker.write_text(f"{listed}\n", encoding="utf-8")
        sys.exit(INTERRUPTED)

    def _pass_on(self) -> None:
        for worker in self._running.values():
            if _exit_code(worker) is None:
                os.kill(worker.pid, signal.SIGUSR2)

    def _come_back(self) -> None:
        """A trial was interrupted and we were not: requeue, unless the job is being cancelled or ended."""
        if _rank() > 0:
            sys.exit(0)  # rank 0 requeues; a bad exit code here would have it killed before it could
        if _job_runs_on():
            os.kill(os.getpid(), signal.SIGUSR2)  # submitit's handler does the rest, and exits
            time.sleep(self.signal_delay)
        sys.exit(INTERRUPTED)

    def _shared_environment(self) -> dict[str, str]:
        environ = {name: value for name, value in os.environ.items() if name not in _RANK_NAMES}
        if _world() > 1:
            ranks = TorchDistributedEnvironment()
            names = ("master_addr", "master_port", "rank", "world_size", "local_rank", "local_world_size")
            environ |= {name.upper(): str(getattr(ranks, name)) for name in names}
            environ["MASTER_ADDR"] = _address(ranks.master_addr)
        cores = int(os.environ.get("SLURM_CPUS_PER_TASK", 1))
        environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // len(self.keys))))
        return environ

    def _device(self, index: int) -> dict[str, str]:
        """Packed trials are dealt out over the job's devices; a trial on its own sees all of them."""
        devices = [d for d in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if d]
        return {"CUDA_VISIBLE_DEVICES": devices[index % len(devices)]} if devices and len(self.keys) > 1 else {}


def _rank() -> int:
    return int(os.environ.get("SLURM_PROCID", 0))


def _world() -> int:
    return int(os.environ.get("SLURM_NTASKS", 1))


def _of_one_task() -> bool:
    """Whether the job is of one process on one node: of several, which one is to blame is not known."""
    return _world() == 1


def _step(folder: Path) -> int:
    return int(read_json(folder / "status.json").get("step") or 0)


def _restarts() -> int:
    return int(os.environ.get("SLURM_RESTART_COUNT", 0))


def _submission() -> str:
    """The id that submitit's files of this submission begin with."""
    return _job_id().partition("_")[0]


def _job_id() -> str:
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ.get("SLURM_JOB_ID", "")


def _node() -> str:
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def _exit_code(worker: subprocess.Popen[Any]) -> int | None:
    """What `poll` would return, without collecting it: a signal handler may run in the middle of another `poll`."""
    if worker.returncode is not None:
        return worker.returncode
    try:
        ended = os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return 0  # collected, by the `poll` that we are in the middle of
    if ended is None:
        return None
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


def _job_runs_on() -> bool:
    """False while SLURM is ending the job: requeueing then would bring a cancelled job back to life."""
    try:  # by its place in the array: one element's own id is the id of the whole array
        return run(["squeue", "--noheader", f"--jobs={_job_id()}", "--format=%T"]).strip() == "RUNNING"
    except ClusterError:
        return False


def _address(host: str) -> str:
    """An address of a node that this machine can resolve; node names need not be host names."""
    try:
        socket.getaddrinfo(host, None)
        return host
    except OSError:
        words = run(["scontrol", "show", "node", "--oneliner", host]).split()
        return next((word.removeprefix("NodeAddr=") for word in words if word.startswith("NodeAddr=")), host)
