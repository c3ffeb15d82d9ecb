"""What a reader should know of a row and would not see in its figures, derived from the records alone."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from results.records import Outcome

ONE_WAY = 0.2  # sign-flip rate below which a bias is still travelling; at rest it is about one half
IN_WORDS = ("rung.score", "rung.normalize_gates")  # what a manifest's notes say of an arm's routers
CLEARLY_BELOW = 0.75  # share of the reference's tail MaxVio that counts as balancing


def own_note(arm: Mapping[str, Any]) -> str | None:
    """An arm's terms, and the values of the task that it alone has; scores and gates are told in words already."""
    own = {key: value for key, value in (arm.get("task") or {}).items() if key not in IN_WORDS}
    said = [f"{name} {value:g}" for name, value in (arm.get("terms") or {}).items()]
    said += [f"{key} {value}" for key, value in own.items()]
    return f"With {', '.join(said)}" if said else None


def bias_note(finished: Sequence[Outcome], reference: Sequence[Outcome]) -> str | None:
    """Says so where a bias had no time to act: still moving one way at the end, and the load no better than without.

    Args:
        finished: finished trials of one arm on one task.
        reference: finished trials of the arm it is compared with in loads and costs.
    """
    measures: list[dict[str, Any]] = [o.record["measures"] for o in finished if o.record]
    biased = [m for m in measures if m.get("bias")]
    if not biased or len(biased) < len(measures):
        return None
    flips, reach, tail = (
        _median([m["bias"]["flip_rate"] for m in biased]),
        _median([m["bias"]["max_abs"] for m in biased]),
        _tail(biased),
    )
    without = _tail([o.record["measures"] for o in reference if o.record])
    if flips is None or reach is None or tail is None or without is None:
        return None
    if flips >= ONE_WAY or tail < CLEARLY_BELOW * without:
        return None
    steps = int(statistics.median(m["steps"] for m in biased))
    return (
        f"The step size is too small for so short a horizon: after {steps} steps the bias had reached {reach:.2g} "
        f"and was still moving one way."
    )


def _tail(measures: Sequence[dict[str, Any]]) -> float | None:
    return _median([(m["max_vio_batch"] or {}).get("tail_mean") for m in measures])


def _median(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return statistics.median(there) if there else None
