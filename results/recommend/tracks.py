"""A strategy's rows on the tracks of one suite, side by side: as published, tuned, balanced. They are never mixed.

Differences on different boards are to different baselines: each board's own, with its own value of the knob.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from results.recommend.evidence import Board, Cell, cells
from results.recommend.needs import BALANCED_BELOW

TRACKS = ("as-published", "tuned", "balanced")


def tracks(boards: Sequence[Board]) -> list[dict[str, Any]]:
    """One table per suite and task that is on more than one track.

    Returns:
        `suite`, `task`, `boards` (track → folder) and `strategies`: {arm, title, rows: {track: row or None}}, in the order
        of the as-published board, a row being {row, value (of the knob), mean, ci_low, ci_high, verdict, max_vio, balanced}.
    """
    grouped: dict[tuple[str, str, int, str], dict[str, Cell]] = {}
    for cell in cells(boards):
        place = (suite_of(cell.board), cell.name, cell.board.protocol, str(cell.board.content.get("hardware")))
        grouped.setdefault(place, {})[cell.board.track] = cell
    return [
        {
            "suite": suite,
            "task": task,
            "title": str(next(iter(found.values())).task.get("title") or task),
            "boards": {track: found[track].board.folder for track in TRACKS if track in found},
            "strategies": _strategies(found),
        }
        for (suite, task, _, _), found in grouped.items()
        if len(found) > 1
    ]


def suite_of(board: Board) -> str:
    """The suite that a board is a track of: the tracks other than as published are called SUITE-TRACK."""
    return str(board.content["suite"]).removesuffix(f"-{board.track}")


def _strategies(found: dict[str, Cell]) -> list[dict[str, Any]]:
    by_track = {track: {row.arm: row for row in found[track].rows} for track in TRACKS if track in found}
    arms = {row.arm: row.title for rows in by_track.values() for row in rows.values()}
    return [
        {
            "arm": arm,
            "title": title,
            "rows": {track: _row(rows[arm]) if arm in rows else None for track, rows in by_track.items()},
        }
        for arm, title in arms.items()
    ]


def _row(row: Any) -> dict[str, Any]:
    delta = row.content["delta_loss"]
    return {
        "row": row.key,
        "parameter": row.knob["parameter"] if row.knob else None,
        "value": row.content["config"].get(row.knob["parameter"]) if row.knob else None,
        **{name: delta[name] for name in ("mean", "ci_low", "ci_high", "verdict")},
        "max_vio": row.max_vio,
        "balanced": row.max_vio is not None and row.max_vio < BALANCED_BELOW,
    }
