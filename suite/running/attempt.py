"""One attempt at a trial: take it, train or resume it, and write down how it ended."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from suite import backends
from suite.storage import provenance
from suite.storage.files import now, read_json, write_json
from suite.storage.trial import TrialFolder
from suite.training import distributed
from suite.training.reporter import Event
from suite.training.trainer import Interrupted, Training


def run_trial(
    path: Path, cache: Path, event: Event = lambda _: None, should_stop: Callable[[], bool] = lambda: False
) -> str:
    """Run or resume the trial in `path` until its record is there.

    Args:
        path: `trials/<key>`, holding `trial.json`.
        cache: where prepared corpora are.
        event: called with progress, warnings and the end; a dict with "event" and "key".
        should_stop: asked after every step.

    Returns:
        "finished" or "diverged"; also for a trial that already had a record.

    Raises:
        Busy: another process is running it.
        Interrupted: asked to stop; resumable.
        Exception: it failed; `failure.json` says how.
    """
    world = distributed.join()
    folder = TrialFolder(path)
    if not world.leads:
        if folder.done:
            return str(read_json(folder.record)["status"])
        follower = Training(folder, cache, world, event)
        follower.resume()
        status = follower.run(should_stop)
        follower.finish(status, [])
        return status
    with folder.lock():
        if folder.done:
            folder.sweep()
            return str(read_json(folder.record)["status"])
        attempts = folder.history()
        attempt: dict[str, Any] = {"started": now(), "host": os.uname().nodename, "from_step": 0, "to_step": None}
        attempt["ended_by"] = "killed"  # until something else is known
        attempt["slurm_job"] = os.environ.get("SLURM_JOB_ID")
        training: Training | None = None
        folder.failure.unlink(missing_ok=True)
        try:
            folder.write_history([*attempts, attempt])
            training = Training(folder, cache, world, event)
            facts = provenance.collect(training.device.type, training.source.digest, attempt["started"])
            attempt |= {"hardware": facts["hardware"]["label"], "git_revision": facts["git_revision"]}
            for name in ("unit", "processor"):
                if name in facts["hardware"]:
                    attempt[name] = facts["hardware"][name]  # of this attempt: the next may be elsewhere
            label = backends.get(training.definition["config"]["backend"]).label()
            training.definition["provenance"] = facts | {"backend": label, "ranks": world.size}
            write_json(folder.trial, training.definition)
            attempt["from_step"] = training.resume()
            if attempts:
                event({"event": "resumed", "key": folder.key, "message": _where(training.step, training.rung.steps)})
                for line in _elsewhere(attempts[-1], attempt) if training.step else ():
                    training.reporter.warn(line)
            folder.write_history([*attempts, attempt])
            training.reporter.write_status("running", step=training.step, steps=training.rung.steps)
            status = training.run(should_stop)
            attempt |= {"ended": now(), "to_step": training.step, "ended_by": status}
            training.finish(status, [*attempts, attempt])
            event({"event": "done", "key": folder.key, **folder.ending()})
            return status
        except BaseException as error:
            reason = "interrupted" if isinstance(error, Interrupted | KeyboardInterrupt) else "failed"
            step = training.step if training is not None else None
            attempt |= {"ended": now(), "to_step": step, "ended_by": reason}
            if reason == "failed":
                text = {"error": type(error).__name__, "message": str(error), "traceback": traceback.format_exc()}
                with suppress(OSError):  # a full disk must not hide what went wrong
                    write_json(folder.failure, {**text, "step": step, "time": now()})
            with suppress(OSError):
                folder.write_history([*attempts, attempt])
            raise


def _where(step: int, steps: int) -> str:
    """Where a trial goes on that was begun before."""
    return f"resumes from step {step:,} of {steps:,}" if step else "begins again: it had written no checkpoint"


def _elsewhere(before: Mapping[str, Any], attempt: Mapping[str, Any]) -> Iterator[str]:
    """What an attempt does not share with the one it goes on from; its numbers may then differ in the last bits."""
    for name in ("hardware", "processor", "git_revision"):
        if before.get(name) and before[name] != attempt.get(name):
            yield f"{name.replace('_', ' ')}: begun with {before[name]}, goes on with {attempt.get(name)}"
