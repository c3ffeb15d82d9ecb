"""What a board cost to make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from results.records import Records


def costs(records: Records) -> dict[str, float | None]:
    """Core-hours and accelerator-hours of all trials that left a record, the A/A arm and the other horizons included.

    On a CPU it is the CPU time of the training steps where trials noted it, and training time by the clock times the
    trial's threads where they did not. A trial that several arms share counts once.
    """
    hours: dict[str, float] = {}
    unique = {outcome.trial_key: outcome.record for outcome in records if outcome.record}
    for record in unique.values():
        on_cpu = record["config"].get("device", "cpu") == "cpu"
        kind = "core_hours" if on_cpu else "accelerator_hours"
        hours[kind] = hours.get(kind, 0.0) + (_cpu_seconds(record) if on_cpu else _seconds(record)) / 3600
    return {"core_hours": hours.get("core_hours"), "accelerator_hours": hours.get("accelerator_hours")}


def _cpu_seconds(record: Mapping[str, Any]) -> float:
    step = record["timing"]["step_ms"].get("cpu")
    if step is not None:
        return float(step) / 1000 * int(record["measures"]["steps"])
    return _seconds(record) * int(record["config"].get("threads", 1))


def _seconds(record: Mapping[str, Any]) -> float:
    return float(record["timing"]["train_seconds"] or 0.0)
