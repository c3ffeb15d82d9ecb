"""What a suite's jobs on a cluster would take, before any is submitted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from results.text import counted
from suite.planning.estimate import measured_seconds, trial_seconds
from suite.planning.plan import Plan, states
from suite.words import duration


def priced(plan: Plan, home: Path, submissions: Iterable[Any]) -> list[dict[str, Any]]:
    """Each job array with the seconds its jobs run and the hours for which they hold what they ask for.

    The trials of a job run side by side, so it lasts as long as its longest; by how much they slow each other, nobody
    knows beforehand. Where a task was not measured, the processes of a trial are taken to share its work evenly.

    Args:
        submissions: `slurm.submit.Submission`, of a dry run.
    """
    measured = measured_seconds(plan, home, states(plan, home))
    seconds = trial_seconds(plan, measured)
    whole = {trial.key: (trial.task, None) in measured for trial in plan.trials}
    arrays = []
    for one in submissions:
        asked = one.resources
        lengths = [max(seconds[key] / (1 if whole[key] else asked.tasks) for key in keys) for keys in one.elements]
        unit = "GPU-hours" if asked.gpus else "core-hours"
        held = asked.nodes * asked.gpus or asked.tasks * asked.cpus_per_task
        arrays.append(
            {
                "partition": asked.partition,
                "time_limit_seconds": 60 * asked.time,
                "jobs": len(one.elements),
                "trials": len(one.keys),
                "seconds": lengths,
                "held_per_job": held,
                "unit": unit,
                "hours": held * sum(lengths) / 3600,
            }
        )
    return arrays


def as_text(profile: str, arrays: Sequence[dict[str, Any]]) -> list[str]:
    """A line for each kind of job, whichever suites and arrays they are of."""

    def kind(array: dict[str, Any]) -> tuple[str, str, int, int]:
        return array["partition"] or "", array["unit"], array["held_per_job"], array["time_limit_seconds"]

    lines = []
    for (partition, unit, held, limit), group in groupby(sorted(arrays, key=kind), key=kind):
        of_kind = list(group)
        seconds = [length for array in of_kind for length in array["seconds"]]
        trials = counted(sum(array["trials"] for array in of_kind), "trial")
        holds = counted(held, unit.removesuffix("-hours"))
        longest = max(seconds)
        cut = "; the longest are cut off, requeued and go on" if longest > limit else ""
        where = f"{profile}, partition {partition}" if partition else profile
        lines.append(
            f"{where}: {counted(len(seconds), 'job')} of {holds} for {trials}, {duration(sum(seconds) / len(seconds))} "
            f"a job, {duration(longest)} at most (limit {duration(limit)}{cut}), "
            f"{sum(array['hours'] for array in of_kind):.2f} {unit}"
        )
    return lines or [f"{profile}: no job, every trial is done"]
