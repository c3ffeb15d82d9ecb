"""A real SLURM on this one machine, for tests and for trying things out (start.sh says what it has)."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

_HERE = Path(__file__).parent


class UnavailableError(ValueError):
    """There can be no test cluster here; the message says why."""


@dataclass
class TestCluster:
    """`with TestCluster() as cluster:` several nodes, in a folder of their own, gone at the end.

    Inside the block SLURM_CONF points at the cluster. It also ends when this process dies.

    Args:
        root: where everything lives; None makes a folder under /var/tmp.
        port: the first of nodes + 2 ports on the loopback interface; None finds free ones.
        accounting: run slurmdbd on MariaDB, so that sacct, accounts and limits work.
    """

    __test__: ClassVar[bool] = False  # not a class of tests

    nodes: int = 4
    cpus: int = 2
    memory: int = 4000
    gpus: int = 2
    accounting: bool = False
    root: Path | None = None
    port: int | None = None
    _before: str | None = field(default=None, init=False, repr=False)

    @staticmethod
    def obstacle() -> str | None:
        """Why no test cluster can be started here, as far as can be told without trying."""
        if os.geteuid() != 0:
            return "the test cluster must be started as root"
        if not shutil.which("slurmctld") and not shutil.which("apt-get"):
            return "SLURM is not installed, and there is no apt-get to install it"
        return None

    def start(self) -> None:
        """Start the cluster, or revive what has died of it.

        Raises:
            UnavailableError: it can't be started; one line.
        """
        if self.root is None:
            self.root = Path(tempfile.mkdtemp(prefix="equipoise-testcluster-", dir="/var/tmp"))
        if self.port is None:
            self.port = _free_ports(self.nodes + 2)
        sizes = {"nodes": self.nodes, "cpus": self.cpus, "memory": self.memory, "gpus": self.gpus, "port": self.port}
        options = [word for name, value in sizes.items() for word in (f"--{name}", str(value))]
        options += ["--while", str(os.getpid())] + ["--accounting"] * self.accounting
        self._run("start.sh", *options)

    def stop(self) -> None:
        """Stop the cluster's processes, jobs included, and remove its folder."""
        self._run("stop.sh", "--purge")

    @property
    def conf(self) -> Path:
        assert self.root is not None, "the cluster has not been started"
        return self.root / "etc" / "slurm.conf"

    def pid(self, daemon: str) -> int:
        """The process id of `slurmctld`, `slurmd.n0`, …"""
        assert self.root is not None, "the cluster has not been started"
        return int((self.root / "run" / f"{daemon}.pid").read_text())

    def __enter__(self) -> Self:
        try:
            self.start()
        except UnavailableError:
            if (self.conf).exists():
                self.stop()
            elif self.root is not None:
                shutil.rmtree(self.root, ignore_errors=True)
            raise
        self._before = os.environ.get("SLURM_CONF")
        os.environ["SLURM_CONF"] = str(self.conf)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.environ.pop("SLURM_CONF", None)
        if self._before is not None:
            os.environ["SLURM_CONF"] = self._before
        self.stop()

    def _run(self, script: str, *options: str) -> None:
        command = ["bash", str(_HERE / script), "--root", str(self.root), *options]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode:
            lines = (done.stderr or done.stdout).strip().splitlines() or [f"{script}: exit code {done.returncode}"]
            raise UnavailableError(lines[-1])


def _free_ports(count: int) -> int:
    """The first of `count` consecutive free ports."""
    for first in range(26800 + os.getpid() % 100 * 40, 60000, count):
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
    raise UnavailableError(f"no {count} consecutive ports are free on this machine")
