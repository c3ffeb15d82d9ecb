"""A trial's rows while it trains. File formats: docs/formats.md."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from suite.storage.files import plain, write_atomically


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
