"""A trial's folder: what is in it, how it is written so that a kill loses nothing, and who may write it.

File formats: docs/formats.md.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from suite.training.checkpoint import write_atomically


class Busy(RuntimeError):
    """Another process is running this trial."""


def now() -> str:
    """The time as written in records: UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def plain(value: Any) -> Any:
    """The value as JSON can hold it: numbers that are not finite become null, arrays become lists."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_json(path: Path, value: Any) -> None:
    """Atomically, keys sorted, no NaN."""
    text = json.dumps(plain(value), sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(path, (text + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; ValueError naming the file if it is damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: damaged ({error}); delete it to have it made again") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold a lock file until the block ends; waits for whoever has it."""
    with open(path, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            raise OSError(f"{path.parent}: its file system cannot lock ({error.strerror})") from None
        yield


class TrialFolder:
    """`trials/<key>/`."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.key = self.path.name
        self.trial, self.record = self.path / "trial.json", self.path / "record.json"
        self.status, self.failure = self.path / "status.json", self.path / "failure.json"
        self.attempts = self.path / "attempts.json"

    @property
    def done(self) -> bool:
        """Finished or diverged: there is a record."""
        return self.record.exists()

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


class Journal:
    """Per-step rows, append only: a kill loses at most the rows since the last flush; resume cuts back to its step.

    Shapes: L layers, E experts.
    """

    def __init__(self, folder: Path, layers: int, experts: int, bias: bool) -> None:
        self._shape = (layers, experts)
        self._curves = folder / "curves.jsonl"
        self._arrays: dict[str, tuple[Path, np.dtype[Any]]] = {"load": (folder / "load.bin", np.dtype("<u4"))}
        if bias:
            self._arrays["bias"] = (folder / "bias.bin", np.dtype("<f4"))

    def rows(self) -> int:
        """How many whole rows all files have."""
        size = self._shape[0] * self._shape[1] * 4
        counts = [path.stat().st_size // size if path.exists() else 0 for path, _ in self._arrays.values()]
        return min(len(self.curves()), *counts)

    def holds(self, steps: int) -> bool:
        """Whether there is one row of each of the first `steps` steps, in order, and nothing else."""
        size = self._shape[0] * self._shape[1] * 4
        sizes = {path.stat().st_size if path.exists() else 0 for path, _ in self._arrays.values()}
        return [row.get("step") for row in self.curves()] == list(range(steps)) and sizes == {steps * size}

    def cut(self, rows: int) -> None:
        """Keep the first `rows` rows."""
        size = self._shape[0] * self._shape[1] * 4
        for path, _ in self._arrays.values():
            path.touch()
            os.truncate(path, rows * size)
        lines = self._curves.read_bytes().splitlines(keepends=True)[:rows] if self._curves.exists() else []
        write_atomically(self._curves, b"".join(lines))

    def append(self, curves: list[dict[str, Any]], **arrays: NDArray[Any]) -> None:
        """Add rows; arrays are (rows, L, E)."""
        for name, (path, dtype) in self._arrays.items():
            with open(path, "ab") as file:
                file.write(np.ascontiguousarray(arrays[name], dtype=dtype).tobytes())
        with open(self._curves, "a", encoding="utf-8") as file:
            file.writelines(json.dumps(plain(row), allow_nan=False) + "\n" for row in curves)

    def curves(self) -> list[dict[str, Any]]:
        """The curve rows; a last line cut short by a kill is not a row."""
        if not self._curves.exists():
            return []
        rows = []
        for line in self._curves.read_bytes().split(b"\n")[:-1]:
            try:
                rows.append(json.loads(line))
            except ValueError:  # a power cut can leave zeros: what follows is not to be trusted
                break
        return rows

    def sync(self) -> None:
        """Everything appended so far is on the disk, so that no checkpoint is ahead of its journal."""
        for path in (self._curves, *(path for path, _ in self._arrays.values())):
            if path.exists():
                with open(path, "rb") as file:
                    os.fsync(file.fileno())

    def array(self, name: str) -> NDArray[Any] | None:
        """(steps, L, E), or None where there is no such array."""
        if name not in self._arrays:
            return None
        path, dtype = self._arrays[name]
        return np.fromfile(path, dtype=dtype).reshape(-1, *self._shape)
