"""Which measure of balance foretells the loss, on every task of a board that has enough settings of learned rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from results.recommend.evidence import Board, Cell, Row, cells, current
from results.recommend.needs import TABLES
from results.statistics.foretelling import FEWEST_SETTINGS, concordance, foretell

PARTS = 10  # of training, whose balance is held against the final loss one by one
Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Measure:
    """A measure of how uneven a row's loads are."""

    name: str
    words: str
    window: str  # when loads were counted
    place: tuple[str, ...]  # where a row of leaderboard.json has it

    def of(self, row: Row) -> float | None:
        found: Any = row.content
        for key in self.place:
            found = found.get(key) if isinstance(found, Mapping) else None
        return found


DROPPED = "dropped"  # what all others are held against
LATE = "max_vio_batch"  # what papers call a rule balanced by
MEASURES = (
    Measure(DROPPED, "Dropped: assignments beyond 1.25 × the mean", "all of training", ("dropped", "1.25")),
    Measure("device_rows", "Rows of the busiest of 8 devices", "all of training", ("device_rows", "8")),
    Measure("peak", "Greatest MaxVio of a batch", "all of training, after warm-up", ("peak_max_vio",)),
    Measure("overflow", "Overflow: assignments beyond 1.25 × the mean", "late batches", ("overflow", "1.25")),
    Measure("max_vio_batch", "MaxVio of a batch", "late batches", ("max_vio_batch",)),
    Measure("max_vio_global", "MaxVio", "held-out text, at the end", ("max_vio_global",)),
    Measure("dead", "Dead experts", "the last batches", ("dead_experts",)),
)


def foretelling(boards: Sequence[Board]) -> list[dict[str, Any]]:
    """How well each measure foretells the loss, per board and task; those with the most settings first.

    Settings of one rule are kin: an interval over settings speaks for other settings of these rules, not of others.
    A setting is a row of a rule whose router goes on learning and that a decoder can use: tables of tokens lead for
    what the table tells, whatever their balance. Rows with a diverged trial take no part. A cell all of whose settings
    another has, trial by trial, says nothing more, and is left out.

    Returns:
        per cell `key` (BOARD/TASK), `board`, `task`, `settings`, `rules` and `pairs` (how many), `seeds` (the fewest of
        a setting), `measures`: name → the fields of a `Foretold`, `even_at_end`: the share by each measure among the
        half of the settings whose late batches are the most even, and how many these are, `parts`: the share of pairs
        that the mean MaxVio of batches foretells, for each tenth of training (empty where curves are missing), and
        `points`: per setting `row`, `title`, `strategy`, `loss` (mean difference to the baseline, nats/token) and each
        measure.
    """
    newest, _ = current(boards)
    placed = [(cell, _points(cell)) for cell in cells(newest) if cell.experts_pay]
    found: list[dict[str, Any]] = []
    seen: list[set[str]] = []  # the trials that each cell told rests on
    for cell, points in sorted(placed, key=lambda pair: (-len(pair[1]), pair[0].key)):
        trials = _trials(cell, points)
        if len(points) < FEWEST_SETTINGS or any(trials and trials <= others for others in seen):
            continue
        seen.append(trials)
        told = foretell(
            {measure.name: [point[measure.name] for point in points] for measure in MEASURES},
            [point["loss"] for point in points],
            [point["strategy"] for point in points],
            DROPPED,
        )
        found.append(
            {
                "key": cell.key,
                "board": cell.board.folder,
                "task": cell.name,
                "settings": len(points),
                "rules": len({point["strategy"] for point in points}),
                "pairs": len(points) * (len(points) - 1) // 2,
                "seeds": min(point["seeds"] for point in points),
                "measures": {name: asdict(one) for name, one in told.items()},
                "even_at_end": _even_at_end(points),
                "parts": _parts(cell, points),
                "points": points,
            }
        )
    return found


def _points(cell: Cell) -> list[dict[str, Any]]:
    return [
        {
            "row": row.key,
            "title": row.title,
            "strategy": row.content["strategy"],
            "loss": row.content["delta_loss"]["mean"],
            "seeds": len(row.losses),
            **measured,
        }
        for row in cell.settings
        if row.content["strategy"] not in TABLES and row.causal and not row.content["diverged"]
        if row.content["delta_loss"]["mean"] is not None
        for measured in [{measure.name: measure.of(row) for measure in MEASURES}]
        if None not in measured.values()
    ]


def _even_at_end(points: Sequence[Entry]) -> dict[str, float]:
    middle = np.median([point[LATE] for point in points])
    even = [point for point in points if point[LATE] <= middle]
    losses = [point["loss"] for point in even]
    shares = {one.name: concordance([point[one.name] for point in even], losses) for one in MEASURES}
    return {"settings": len(even), **shares}


def _parts(cell: Cell, points: Sequence[Entry]) -> list[float]:
    keys = {row.key: row.content.get("trial_keys") or [] for row in cell.settings}
    files = [[cell.board.trials / key / "curves.parquet" for key in keys[point["row"]]] for point in points]
    if not all(own and all(file.exists() for file in own) for own in files):
        return []
    by_part_SP = np.array([np.mean([_over_training(file) for file in own], axis=0) for own in files])
    if not np.isfinite(by_part_SP).all():  # fewer steps than parts
        return []
    losses = [point["loss"] for point in points]
    return [concordance(part_S, losses) for part_S in by_part_SP.T]


def _over_training(curves: Path) -> np.ndarray:
    """The mean MaxVio of batches in each tenth of training; a stretch of thinned curves counts where it ends."""
    table = pq.read_table(curves, columns=["step", "max_vio"])
    step, max_vio = (table[name].to_numpy().astype(float) for name in ("step", "max_vio"))
    part = np.minimum(step / (step[-1] + 1) * PARTS, PARTS - 1).astype(int)
    steps = np.diff(step, prepend=-1)  # that each row stands for
    total, weight = (np.bincount(part, weights=of, minlength=PARTS) for of in (steps * max_vio, steps))
    return np.divide(total, weight, out=np.full(PARTS, np.nan), where=weight > 0)


def _trials(cell: Cell, points: Sequence[Entry]) -> set[str]:
    """The keys of all trials that points rest on."""
    rows = {point["row"] for point in points}
    return {key for row in cell.settings if row.key in rows for key in row.content.get("trial_keys") or []}


def most(entries: Sequence[Entry]) -> list[Entry]:
    """Those of the board with the most settings."""
    return [entry for entry in entries if entry["board"] == entries[0]["board"]]


def grid(entries: Sequence[Entry]) -> list[list[str]]:
    """A line per measure and a column per task of the board with the most settings, under a head."""
    own = most(entries)
    places = [f"{entry['task']}, {entry['settings']} settings of {entry['board']}" for entry in own]
    lines = [["Measure", "Counted over", *places]]
    for measure in MEASURES:
        shares = [entry["measures"][measure.name]["share"] for entry in own]
        lines.append([measure.words, measure.window, *(between(share) for share in shares)])
    return lines


READING = (
    "Of two settings of learned routers, how often has the one whose loads are more even, by each measure, the lower "
    "held-out loss? 50 % is a coin; brackets hold with 95 % for other settings, with the losses taken as they are."
)


def elsewhere(entries: Sequence[Entry]) -> str:
    """What other boards say, whose rules differ in more than a knob; empty where there are none."""
    said = [
        f"{entry['task']} of {entry['board']} {between(entry['measures'][DROPPED]['share'])} and "
        f"{between(entry['measures'][LATE]['share'])} ({entry['settings']} settings)"
        for entry in entries[len(most(entries)) :]
    ]
    head = "On boards with fewer settings, whose rules differ in more than a knob, by dropped and by late MaxVio"
    return f"{head}: {'; '.join(said)}." if said else ""


def in_short(entries: Sequence[Entry]) -> str:
    """The same in two sentences, of the board with the most settings; empty where there is none."""
    own = most(entries)
    if not own:
        return ""
    dropped, late = (
        " and ".join(f"{between(entry['measures'][name]['share'])} of pairs on {entry['task']}" for entry in own)
        for name in (DROPPED, LATE)
    )
    return (
        f"What balance foretells: of two of {own[0]['settings']} settings of learned routers ({own[0]['board']}), the "
        "one with less overload over all of training (assignments beyond 1.25 times the mean; none is really dropped) "
        f"has the lower loss in {dropped}; the one with the lower MaxVio of late batches in {late}. 50 % is a "
        "coin."
    )


def between(share: Mapping[str, float]) -> str:
    mean, low, high = (f"{100 * share[name]:.0f}" for name in ("mean", "low", "high"))
    return f"{mean} % [{low}, {high}]"
