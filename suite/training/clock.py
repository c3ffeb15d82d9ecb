"""Time spent on training, without evaluations, checkpoints and pauses between attempts."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import numpy as np
import torch

from suite.training.memory import peak_memory
from suite.training.step import OptimizerStep


class Clock:
    """Started and stopped around each step."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds = 0.0  # over all attempts
        self.cpu_seconds: list[float] = []  # of each step of this attempt, by all threads; none on an accelerator

    def start(self) -> None:
        self._started, self._worked = time.perf_counter(), time.process_time()

    def stop(self, wait: bool) -> None:
        """`wait` for an accelerator: only when rows are read anyway."""
        if self.device.type == "cpu":
            self.cpu_seconds.append(time.process_time() - self._worked)
        elif wait:
            torch.cuda.synchronize()
        self.seconds += time.perf_counter() - self._started

    def timing(self, curves: list[dict[str, Any]], steps: int, taken: OptimizerStep) -> dict[str, Any]:
        """A record's times: the only part of it that differs from run to run.

        Args:
            steps: how many this attempt made; the parts of a step were clocked in these only.
        """
        steps = max(1, steps)
        total = self.seconds / len(curves)
        durations = np.diff([0.0] + [row["seconds"] for row in curves])
        typical = median(durations) if self.device.type == "cpu" else total
        parts = ("route", "dispatch", "experts")
        split = {name: sum(layer.seconds[name] for layer in taken.layers) / steps for name in parts}
        split["balance"] = taken.seconds_balance / steps
        split |= {"total": total, "rest": max(0.0, total - sum(split.values()))}
        if self.cpu_seconds:  # what else the machine ran is not in it: the time to compare arms by
            split["cpu"] = median(self.cpu_seconds)
        return {
            "train_seconds": self.seconds,
            "tokens_per_second": taken.rung.tokens_per_step / typical,
            "step_ms": {name: 1000 * value for name, value in split.items()},
            "peak_memory_bytes": peak_memory(self.device),
        }
