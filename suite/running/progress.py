"""Live progress on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from suite.planning.plan import Plan


def label(plan: Plan, key: str) -> str:
    """A trial as people call it: task, arm, seed."""
    trial = next(trial for trial in plan.trials if trial.key == key)
    return f"{trial.task} · {trial.arm} · seed {trial.seed}"


def said(event: dict[str, Any]) -> str:
    """What is said of a trial that resumes, waits, warns or ends."""
    kind = event["event"]
    word = {"done": event.get("status", "done"), "busy": "waits", "resumed": None}.get(kind, kind)
    return ": ".join(text for text in (word, event.get("message")) if text)


class PlainProgress:
    """A line when a trial resumes or ends."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.total = len({trial.key for trial in plan.trials})
        self.ended = 0
        self.began = time.monotonic()

    def __enter__(self) -> PlainProgress:
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def watch(self, event: dict[str, Any]) -> None:
        kind, key = event["event"], event.get("key")
        if key is None or kind in ("progress", "idle", "started"):
            return
        if kind in ("done", "failed", "reused"):
            self.ended += 1
        if kind == "reused":
            return
        elapsed = time.monotonic() - self.began
        self.say(f"[{self.ended}/{self.total}, {elapsed:.0f} s] {label(self.plan, key)}: {said(event)}")

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


class LiveProgress:
    """One bar for the suite, one for each trial that runs."""

    def __init__(self, plan: Plan, console: Console) -> None:
        self.plan = plan
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[loss]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self.progress = Progress(*columns, console=console, transient=False)
        total = len({trial.key for trial in plan.trials})
        self.whole = self.progress.add_task(f"suite {plan.suite.suite}", total=total, loss="")
        self.bars: dict[str, TaskID] = {}

    def __enter__(self) -> LiveProgress:
        self.progress.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.progress.stop()

    def watch(self, event: dict[str, Any]) -> None:
        kind, key = event["event"], event.get("key")
        if key is None:
            return
        if kind == "progress":
            if key not in self.bars:
                self.bars[key] = self.progress.add_task("  " + label(self.plan, key), total=event["steps"], loss="")
            loss = event["train_loss"]
            shown = f"loss {loss:.3f}" if loss is not None else ""
            self.progress.update(self.bars[key], completed=event["step"], loss=shown)
        elif kind in ("done", "failed", "reused"):
            if key in self.bars:
                self.progress.remove_task(self.bars.pop(key))
            self.progress.advance(self.whole)
        if kind in ("failed", "warning", "busy", "resumed") or event.get("status") == "diverged":
            self.say(f"{label(self.plan, key)}: {said(event)}")

    def say(self, text: str) -> None:
        self.progress.console.print(text, highlight=False, markup=False)


def for_terminal(plan: Plan) -> PlainProgress | LiveProgress:
    """What fits standard error."""
    console = Console(stderr=True)
    return LiveProgress(plan, console) if console.is_terminal else PlainProgress(plan)
