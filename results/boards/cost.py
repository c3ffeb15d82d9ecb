"""What a board cost to make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from results.boards.sharing import attempts, busy_seconds, on_accelerator
from results.records import Records


def costs(records: Records) -> dict[str, float | None]:
    """Core-hours and accelerator-hours of all trials that left a record, the A/A arm and the other horizons included.

    On a CPU it is the CPU time of the training steps where trials noted it, and training time by the clock times the
    trial's threads where they did not. An accelerator's is the time in which trials were at work on a machine, however
    many shared it, or training time where no trial noted when it was. A trial that several arms share counts once.
    """
    unique = {outcome.trial_key: outcome.record for outcome in records if outcome.record}
    on_cpu = [record for record in unique.values() if not on_accelerator(record)]
    others = [record for record in unique.values() if on_accelerator(record)]
    accelerator = busy_seconds(records) + sum(_seconds(record) for record in others if not any(attempts(record)))
    return {
        "core_hours": sum(map(_cpu_seconds, on_cpu)) / 3600 if on_cpu else None,
        "accelerator_hours": accelerator / 3600 if others else None,
    }


def _cpu_seconds(record: Mapping[str, Any]) -> float:
    step = record["timing"]["step_ms"].get("cpu")
    if step is not None:
        return float(step) / 1000 * int(record["measures"]["steps"])
    return _seconds(record) * int(record["config"].get("threads", 1))


def _seconds(record: Mapping[str, Any]) -> float:
    return float(record["timing"]["train_seconds"] or 0.0)
