"""What a trial looks like from here: a key, a folder, and three files of docs/formats.md."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

INTERRUPTED = 75  # EX_TEMPFAIL: the exit code of a trial that wrote its checkpoint and wants to be resumed


@dataclass(frozen=True)
class TrialJob:
    """One trial, as the planner hands it over. `folder` is `trials/<key>` under the home."""

    key: str
    folder: Path
    task: str
    strategy: str
    done: bool


def logs_of(home: Path) -> Path:
    """Where a home keeps what belongs to its cluster jobs: `jobs.json`, batch scripts, logs."""
    return home.resolve() / "slurm"


def finished(folder: Path) -> bool:
    """A trial is done when its record is there."""
    return (folder / "record.json").exists()


def present(path: Path) -> bool:
    """Whether a file is there now: its folder is read, because a network file system may remember that it was not."""
    try:
        return path.name in os.listdir(path.parent)
    except OSError:
        return False


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty if the file is absent, half written or no object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write atomically: readers see the old file or the new one."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("w", encoding="utf-8") as file:
        json.dump(value, file, sort_keys=True, indent=1, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def failed_since(folder: Path, logs: Path, job_id: str) -> bool:
    """Whether a trial left its `failure.json` after a job (an array by its own id) was submitted, not in one before.

    By the file system's clock: nodes need not agree on the time. A job whose script is not there counts as the first.
    """
    try:
        failure = (folder / "failure.json").stat().st_mtime_ns
    except OSError:
        return False
    try:
        return failure >= (logs / f"{job_id}_submission.sh").stat().st_mtime_ns
    except OSError:
        return True


def report_death(folder: Path, error: str, message: str) -> None:
    """Leave `failure.json` for a trial that could not do so itself."""
    step = read_json(folder / "status.json").get("step")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(
        folder / "failure.json",
        {"error": error, "message": message, "traceback": "", "step": step, "time": now()},
    )


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
