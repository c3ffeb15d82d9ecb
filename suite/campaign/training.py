"""A trial opened for measuring: the engine's own step, on a synthetic source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tasks
from suite.planning import config
from suite.planning.plan import make_plan
from suite.storage.trial import TrialFolder
from suite.training.distributed import World
from suite.training.trainer import Training


def make_trial(home: Path, rung: dict[str, Any], strategy: str, **suite: Any) -> TrialFolder:
    """Write a trial's folder under `home`; its corpus is prepared.

    Args:
        rung: `task` and `set`, as in a suite's file.
        suite: `backend`, `precision`, `device`.
    """
    parsed = config.parse(
        {
            "suite": "campaign",
            "title": "one trial of the campaign",
            "tasks": [rung],
            "strategies": [strategy],
            "baseline": strategy,
            "control": None,
            "aa": False,
            "seeds": 1,
            **suite,
        },
        "campaign.yaml",
    )
    plan = make_plan(parsed)
    (trial,) = plan.trials
    tasks.prepare(trial.cell.task, home / "cache", lambda _: None)
    return plan.write_trial(home, trial)


class Drawn:
    """A source whose first batches are drawn once and then repeated, so that drawing is not part of what is timed."""

    def __init__(self, source: Any, batches: int) -> None:
        self._source = source
        self._batches = [source.batch(step) for step in range(batches)]

    def batch(self, step: int) -> Any:
        return self._batches[step % len(self._batches)]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)


def open_training(home: Path, rung: dict[str, Any], strategy: str, **suite: Any) -> Training:
    """The engine, ready to take steps; nothing of it is recorded."""
    folder = make_trial(home, rung, strategy, **suite)
    training = Training(folder, home / "cache", World(), lambda _: None)
    training.source = Drawn(training.source, 8)
    training.model.train()
    return training


def take_steps(training: Training, steps: int) -> None:
    """Whole optimizer steps, as in a trial."""
    for _ in range(steps):
        training.train_step()
        training.step += 1
