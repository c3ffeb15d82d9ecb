"""What a board's page says of a task beside its rows, and which columns its rows can fill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from results.statistics.sensitivity import FIT_GAIN, FIT_SPREADS
from results.text import interval

Row = Mapping[str, Any]
FIT = {
    "fit": "Fit: experts help here, so that balancing can matter.",
    "blunt": f"Blunt: experts gain less than {FIT_GAIN} nats/token, "
    f"or less than {FIT_SPREADS} spreads of a difference; no tie is called.",
}
MARGINS = {
    "tokens": "what {more} more training tokens would bring the baseline",
    "stated": "as the suite states it",
    "aa": "the spread of the baseline against itself with other seeds",
}


@dataclass(frozen=True)
class Column:
    """One column of the leaderboard."""

    name: str
    hint: str
    path: tuple[str, ...]  # where a row has it
    format: str  # of `report.j2`


def columns(rows: Sequence[Row], reference: str) -> list[Column]:
    """The columns after the verdict, those that no row fills left out.

    Args:
        reference: title of the arm that costs are measured against.
    """
    shown = [
        Column("Loss", "Held-out loss, nats/token, mean over seeds", ("val_loss", "mean"), "loss"),
        Column("n", "Paired seeds", ("delta_loss", "n"), "count"),
        Column(
            "Tokens saved",
            "How many more tokens the baseline would need for this loss, as a share of the run; below zero: fewer",
            ("tokens_saved", "mean"),
            "saved",
        ),
        *(
            Column(
                f"Time saved, {devices}",
                f"How much longer the baseline would take for this loss on {devices} device{'s' * (devices != '1')}, "
                "simulated from recorded loads",
                ("time_saved", devices, "mean"),
                "saved",
            )
            for devices in ("1", "8", "64")
        ),
        Column(
            "MaxVio",
            "By how much the busiest expert exceeds the mean load on the held-out set: 0 is perfect, "
            "1 is twice the mean",
            ("max_vio_global",),
            "number",
        ),
        Column(
            "MaxVio batch",
            "The same per training batch, over the last fifth of training; sampling alone keeps it above the "
            "noise floor",
            ("max_vio_batch",),
            "number",
        ),
        Column("Dead", "Experts with less than 1 % of the mean load", ("dead_experts",), "percent"),
        Column(
            "Overflow 1.25",
            "Assignments that a capacity factor of 1.25 would drop; nothing is dropped in these runs",
            ("overflow", "1.25"),
            "percent",
        ),
        Column("Tokens/s", "Training speed, median over seeds", ("tokens_per_second",), "thousands"),
        Column(
            "Overhead",
            f"Step time beyond that of {reference} on the same seed: median over seeds, least and most",
            ("overhead",),
            "overhead",
        ),
    ]
    return [column for column in shown if any(value(row, column.path) is not None for row in rows)]


def value(row: Row, path: Sequence[str]) -> Any:
    """What stands at a path of a row; None where the path ends early."""
    found: Any = row
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def statements(board: Row, task: Row) -> list[tuple[str, str]]:
    """What must be known of a task before its rows are read: (name, words), without what the board does not say."""
    said = [("Practical margin", _margin(board, task))]
    aa = board["aa"]["tasks"].get(task["name"]) if board["aa"] else None
    if aa and aa["mean"] is not None:
        shown = interval(aa["mean"], aa["ci_low"], aa["ci_high"]).replace("-", "−")
        said.append(("Baseline against itself", f"{shown}, n = {aa['n']}: other seeds, nothing else changed"))
    sensitivity = task.get("sensitivity") or {}
    if sensitivity.get("word") in FIT:
        said.append(("Can balancing be seen?", FIT[sensitivity["word"]]))
    gain = sensitivity.get("gain") or {}
    if gain.get("mean") is not None:
        ends = "" if gain.get("ci_low") is None else f" [{gain['ci_low']:.3f}, {gain['ci_high']:.3f}]"
        best = f" ({gain['arm']})" if gain.get("arm") else ""
        said.append(
            ("Gain of experts", f"{gain['mean']:.3f}{ends} nats/token below the dense twin of equal FLOPs{best}")
        )
    for key, words in (("spread", "Spread of a difference"), ("resolution", "Smallest difference found")):
        if sensitivity.get(key) is not None:
            said.append((words, f"{sensitivity[key]:.4f} nats/token"))
    return said


def _margin(board: Row, task: Row) -> str:
    margin = board["margins"][task["name"]]
    if not margin:
        return "none: no tie can be shown"
    detail = task.get("margin") if isinstance(task.get("margin"), Mapping) else {}
    source = (detail or {}).get("source") or ("stated" if board.get("margin") is not None else "aa")
    words = MARGINS.get(source, source).format(more=f"{(detail or {}).get('more_tokens') or 0.02:.0%}")
    return f"±{margin:.4g} nats/token, {words}"
