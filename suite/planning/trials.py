"""One training run as a plan names it: its definition, and the key made of everything that can change its numbers.

A key is a hash of a hash: the arm and the task are hashed once, then each seed, so that 100,000 trials take seconds.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from tasks import Task


def digest(value: Any) -> str:
    """SHA-256 of a JSON value in canonical form."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Trial:
    """One training run: what it is a cell of, and everything that can change its numbers."""

    arm: str
    task: str
    seed: int  # pairs it with the other arms' trials
    key: str
    cell: Cell = field(repr=False, compare=False)
    config_seed: int = 0  # what it really draws from; the A/A arm's differs from `seed`

    @property
    def definition(self) -> dict[str, Any]:
        """The content of `trial.json`."""
        config = {**self.cell.config, "seed": self.config_seed}
        return {
            "schema": 1,
            "trial_key": self.key,
            "config": config,
            "facts": self.cell.facts,
            "task": self.cell.task.model_dump(mode="json"),
            "plugins": self.cell.plugins,
        }


@dataclass(frozen=True)
class Cell:
    """An arm on a task: all its trials but for the seed."""

    config: dict[str, Any]
    facts: dict[str, Any]
    plugins: list[str]
    digest: str
    task: Task
    twin: bool = False  # no choice of experts: every token goes to all that are built

    def key(self, seed: int) -> str:
        return hashlib.sha256(f"{self.digest}/{seed}".encode()).hexdigest()[:16]
