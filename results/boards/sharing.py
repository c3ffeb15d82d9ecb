"""Trials that had the same accelerator at the same time: their speeds say nothing of a strategy's own.

Which accelerator an attempt had is its `unit`; attempts that do not say are taken to have shared the machine's. Only a
board's own trials are seen, and of those only attempts that noted when they ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from results.records import Records

TIME = "%Y-%m-%dT%H:%M:%SZ"
Span = tuple[float, float, str]  # start and end in seconds, the trial's key


def at_once(records: Records) -> int:
    """The largest number of a board's trials that trained on one accelerator at the same time; 0 on CPUs."""
    most = 0
    for spans in _spans(records).values():
        now = 0
        # one that ends in the second in which another starts was not beside it
        for _, change in sorted([(start, 1) for start, _, _ in spans] + [(end, -1) for _, end, _ in spans]):
            now += change
            most = max(most, now)
    return most


def crowded(records: Records) -> set[str]:
    """The keys of trials of which an attempt had its accelerator together with another trial's."""
    found: set[str] = set()
    for spans in _spans(records).values():
        beside: list[Span] = []
        for start, end, key in sorted(spans):
            beside = [other for other in beside if other[1] > start and other[2] != key]
            found |= {key, *(other[2] for other in beside)} if beside else set()
            beside.append((start, end, key))
    return found


def busy_seconds(records: Records) -> float:
    """Seconds in which at least one of a board's trials was at work, added up over accelerators."""
    total = 0.0
    for spans in _spans(records).values():
        until = float("-inf")
        for start, end, _ in sorted(spans):
            total += max(0.0, end - max(start, until))
            until = max(until, end)
    return total


def on_accelerator(record: Mapping[str, Any]) -> bool:
    return bool(record["config"].get("device", "cpu") != "cpu")


def attempts(record: Mapping[str, Any]) -> Iterator[tuple[str, float, float]]:
    """Accelerator, start and end of each attempt whose times are told as records tell them."""
    for attempt in record.get("attempts") or []:
        with suppress(TypeError, ValueError):  # killed before it could say, or not written by us
            start, end = (
                datetime.strptime(attempt.get(name), TIME).replace(tzinfo=UTC).timestamp()
                for name in ("started", "ended")
            )
            yield str(attempt.get("unit") or f"of {attempt.get('host')}"), start, end


def _spans(records: Records) -> dict[str, list[Span]]:
    """Accelerator → the attempts on it; a trial that arms share counts once."""
    spans: dict[str, list[Span]] = {}
    unique = {outcome.trial_key: outcome.record for outcome in records if outcome.record}
    for key, record in unique.items():
        if on_accelerator(record):
            for unit, start, end in attempts(record):
                spans.setdefault(unit, []).append((start, end, key))
    return spans
