"""SLURM's own commands, with errors in one line."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence

from slurm.trust import redact


class ClusterError(ValueError):
    """The cluster refused or did not answer; the message is one line and mostly the cluster's own words."""


def run(command: Sequence[str], timeout: float = 60) -> str:
    """The output of a SLURM command.

    Raises:
        ClusterError: the command is missing, failed or did not answer in time.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        raise ClusterError(f"{command[0]}: not found; are SLURM's commands on the PATH of this machine?") from None
    except subprocess.TimeoutExpired:
        raise ClusterError(f"{command[0]}: no answer within {timeout:.0f} s") from None
    if done.returncode:
        raise ClusterError(one_line(done.stderr or done.stdout) or f"{command[0]}: exit code {done.returncode}")
    return done.stdout


def one_line(text: str) -> str:
    """What a SLURM command complained of, last and most telling message first."""
    lines = [re.sub(r"^\w+: (error|fatal): ", "", line).strip() for line in text.splitlines()]
    told = list(dict.fromkeys(line for line in reversed(lines) if line))
    return redact("; ".join(told[:2]))


def setting(name: str) -> str | None:
    """One value of the controller's configuration; None where it can't be had."""
    try:
        found = re.search(rf"^{name}\s*=\s*(.*?)\s*$", run(["scontrol", "show", "config"]), re.MULTILINE)
    except ClusterError:
        return None
    return found.group(1) if found else None
