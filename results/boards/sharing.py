"""Trials that had the same accelerator at the same time: their speeds say nothing of a strategy's own.

Which one a trial had is `hardware.unit` of its record; records without it are taken to have shared the machine's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from results.records import Records


def at_once(records: Records) -> int:
    """The largest number of a board's trials that trained on one accelerator at the same time; 0 on CPUs."""
    most = 0
    for spans in _spans(records).values():
        now = 0
        # one that ends in the second in which another starts was not beside it
        for _, change in sorted([(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans]):
            now += change
            most = max(most, now)
    return most


def busy_seconds(records: Records) -> float:
    """Seconds in which at least one of a board's trials was at work, added up over accelerators."""
    total = 0.0
    for spans in _spans(records).values():
        until = float("-inf")
        for start, end in sorted(spans):
            total += max(0.0, end - max(start, until))
            until = max(until, end)
    return total


def on_accelerator(record: Mapping[str, Any]) -> bool:
    return bool(record["config"].get("device", "cpu") != "cpu")


def _spans(records: Records) -> dict[tuple[str, str], list[tuple[float, float]]]:
    """Accelerator → start and end of every attempt on it, in seconds; a trial that arms share counts once."""
    spans: dict[tuple[str, str], list[tuple[float, float]]] = {}
    unique = {outcome.trial_key: outcome.record for outcome in records if outcome.record}
    for record in unique.values():
        if on_accelerator(record):
            unit = str(record["provenance"]["hardware"].get("unit"))
            for host, start, end in _attempts(record):
                spans.setdefault((host, unit), []).append((start, end))
    return spans


def _attempts(record: Mapping[str, Any]) -> Iterator[tuple[str, float, float]]:
    for attempt in record.get("attempts") or []:
        if attempt.get("started") and attempt.get("ended"):
            start, end = (datetime.fromisoformat(attempt[name]).timestamp() for name in ("started", "ended"))
            yield str(attempt.get("host")), start, end
