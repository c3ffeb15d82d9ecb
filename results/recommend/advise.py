"""Answers: for each need and track, what every fitting board says, and what evidence is missing.

Everything returned is plain JSON. Whatever names a strategy carries the key of its row, `BOARD/ARM/TASK`; whatever
says that something is missing carries the boards and tasks it was missed on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from results.recommend.confidence import Standing, behind, confidence_set
from results.recommend.evidence import Board, Cell, Row, cells, current
from results.recommend.needs import EXPERTS, NEEDS, TABLES, TRACKS, Need
from results.statistics.power import MIN_SEEDS
from results.statistics.tuning import BALANCED_BELOW

LONGER = 4.0  # times as many tokens per active parameter, from which on a place is called trained for longer
Answer = dict[str, Any]


def advice(boards: Sequence[Board], tracks: Sequence[str] = (), needs: Iterable[Need] = NEEDS) -> list[Answer]:
    """One answer per need and track, in this order. Only boards of the newest protocol count.

    Without tracks: as published, and balanced, since tuning by loss alone buys imbalance that many devices cannot
    afford; tuned only where that says something and balanced nothing.
    """
    newest, superseded = current(boards)

    def on(need: Need, track: str) -> Answer:
        return answer(need, track, newest, superseded)

    def chosen(need: Need) -> Answer:
        balanced, tuned = on(need, "balanced"), on(need, "tuned")
        return tuned if tuned["evidence"] and not balanced["evidence"] else balanced

    if tracks:
        return [on(need, track) for need in needs for track in tracks]
    return [told for need in needs for told in (on(need, "as-published"), chosen(need))]


def answer(need: Need, track: str, boards: Sequence[Board], superseded: Sequence[Board] = ()) -> Answer:
    """What the boards of one track say on a need.

    Returns:
        `need`, `question`, `track`; `evidence`: one entry per cell that has any, the longest training first, by tokens
        per active parameter in steps of four, since rankings were not seen to travel over length; then the largest
        model, at equal size those of the project before those handed in, and those that compare most before others; a
        cell of which another has all trials is not told again, but named under that one's `same_trials`;
        `blunt`: the same of cells on which experts gain too little to go by, and `why` each does not count;
        `missing`: [{words, where}], what was looked for and not found.
    """
    asked = [cell for cell in cells(boards) if cell.board.track == track and need.asks_for(cell)]
    longest = max((cell.length for cell in asked), default=0.0)
    asked.sort(
        key=lambda cell: (
            math.floor(math.log(longest / cell.length, LONGER)) if cell.length else math.inf,
            [-part for part in cell.size],
            _handed_in(cell.board),
            -len(cell.rows),
            cell.key,
        )
    )
    kinds: dict[tuple[Any, str], set[Any]] = {}
    for cell in asked:
        kinds.setdefault((cell.board.content["suite"], cell.name), set()).add(cell.board.content.get("hardware"))
    evidence: list[Answer] = []
    blunt, missing = [], []
    shown: list[tuple[Cell, Answer]] = []
    for cell in asked:
        why = unfit(cell, need)
        if why:
            missing.append({"words": f"{cell.name} on {cell.board.folder} {why}", "where": [cell.key]})
            if cell.sensitivity == "blunt" and need.devices == 1:
                found = weighed(cell, need)
                found |= {"why": why, "kinds_of_hardware": len(kinds[cell.board.content["suite"], cell.name])}
                blunt.append(found)
            continue
        fuller = next((found for other, found in shown if _within(cell, other, need)), None)
        if fuller is not None:
            fuller["same_trials"].append(cell.board.folder)
            continue
        found = weighed(cell, need)
        found["kinds_of_hardware"] = len(kinds[cell.board.content["suite"], cell.name])
        if found["set"]:
            evidence.append(found)
            shown.append((cell, found))
        else:
            words = f"{cell.name} on {cell.board.folder} has no two strategies with {MIN_SEEDS} seeds to compare"
            missing.append({"words": words, "where": [cell.key]})
    if not asked:
        words = nothing(need, track, boards, superseded)
        missing.append({"words": words, "where": [board.folder for board in superseded]})
    return {
        "need": need.name,
        "question": need.question,
        "track": track,
        "evidence": evidence,
        "blunt": [found for found in blunt if found["set"]],
        "missing": missing,
    }


def _within(cell: Cell, other: Cell, need: Need) -> bool:
    """Whether every finished trial of a cell stands on another as well: then it is no second measurement."""
    theirs = {row.arm: row.losses for row in other.rows}
    own = [row for row in cell.rows if need.allows(row, cell.board.track)]
    known = all(row.losses and row.losses.items() <= theirs.get(row.arm, {}).items() for row in own)
    return bool(own) and cell.name == other.name and known


def _handed_in(board: Board) -> bool:
    """Whether a whole board was submitted: at equal size, its answer stands behind that of the project's own."""
    base = board.content["baseline"]
    return "@" in board.folder or any(row["arm"] == base and row.get("submitted") for row in board.content["rows"])


def unfit(cell: Cell, need: Need) -> str | None:
    """Why a cell says nothing, in words that follow its name; None where it may."""
    if cell.sensitivity is None:
        return "does not say whether balancing can be seen on it"
    if not cell.experts_pay:
        shown = "" if cell.gain is None else f" (experts gain {cell.gain:.3f} nats/token over the dense twin)"
        return f"is too blunt to judge balancing{shown}"
    if need.devices > 1 and not any(cell.losses_at(row, need.devices) for row in cell.rows):
        return f"has no losses at equal time on {need.devices} devices"
    return None


def nothing(need: Need, track: str, boards: Sequence[Board], superseded: Sequence[Board]) -> str:
    """What no board has, and what comes nearest: what the boards have where one condition is let go."""
    kinds = " or ".join(f"{kind}-…" for kind in need.kinds)
    recipe = f" trained with {need.recipe}" if need.recipe else ""
    experts = f" with {need.experts} experts" if need.experts else ""
    older = f"; boards of protocol {superseded[-1].protocol} are superseded" if superseded else ""
    near = nearest(need, track, boards)
    nearby = f"; there is one {', or '.join(near)}" if near else ""
    return f"no board, {track.replace('-', ' ')}, has a task {kinds}{experts}{recipe}{nearby}{older}"


def nearest(need: Need, track: str, boards: Sequence[Board]) -> list[str]:
    """What there is evidence for where one condition of a need is let go, a line per condition."""
    said = []
    if need.experts is not None:
        same = (
            tuple({cell.kind for cell in cells(boards) if cell.kind.startswith(EXPERTS)}) if len(need.kinds) > 1 else ()
        )
        counts = sorted(
            {cell.experts for cell in _fit(replace(need, experts=None, kinds=need.kinds + same), track, boards)}
        )
        said += [f"with {_either(map(str, counts))} experts"] if counts else []
    if need.recipe is not None:
        recipes = sorted({cell.recipe for cell in _fit(replace(need, recipe=None), track, boards)} - {""})
        said += [f"trained with {_either(recipes)}"] if recipes else []
    if len(need.kinds) == 1:
        there = [cell.kind for cell in cells(boards) if cell.board.track == track]
        kinds = sorted({kind for kind in there if _fit(replace(need, kinds=(kind,)), track, boards)})
        said += [f"on {_either(kinds)}"] if kinds else []
    tracks = [other.replace("-", " ") for other in TRACKS if other != track and _fit(need, other, boards)]
    return said + ([_either(tracks)] if tracks else [])


def _fit(need: Need, track: str, boards: Sequence[Board]) -> list[Cell]:
    """The cells that answer a need on a track."""
    asked = [cell for cell in cells(boards) if cell.board.track == track and need.asks_for(cell)]
    return [cell for cell in asked if unfit(cell, need) is None and weighed(cell, need)["set"]]


def _either(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


def weighed(cell: Cell, need: Need) -> Answer:
    """One cell's strategies, those not shown to be worse than the best first; under `learned` the same among routers
    that go on learning.
    """
    allowed, losses, entries = _standings(cell, need)
    by_arm = {row.arm: row for row in allowed}
    _, _, learned = _standings(cell, replace(need, learned=True))
    return {
        "board": cell.board.folder,
        "same_trials": [],
        "task": cell.name,
        "title": str(cell.task.get("title") or cell.name),
        "recipe": cell.recipe or None,
        "experts": cell.experts,
        "top_k": cell.task.get("top_k"),
        "hardware": cell.board.content.get("hardware"),
        "parameters": cell.size[0],
        "active": int((cell.task.get("parameters") or {}).get("active") or 0),
        "tokens": cell.size[1],
        "tokens_per_active": cell.length,
        "vocabulary": cell.vocabulary,
        "margin": cell.margin,
        "blunt": cell.sensitivity != "fit",
        "devices": need.devices,
        "extrapolated": [row.title for row in allowed if need.devices > 1 and cell.extrapolated(row, need.devices)],
        "twin": against_the_twin(cell, {by_arm[arm].key: own for arm, own in losses.items()}, need),
        "set": entries["in the set"],
        "behind": entries["behind"],
        "diverged": entries["diverged"],
        "too_few": entries["too few seeds"],
        "learned": {"set": learned["in the set"], "behind": learned["behind"]},
        "absent": [
            {"arm": arm["arm"], "title": arm["title"]}
            for arm in cell.not_run
            if (arm.get("causal", True) or not need.causal) and not (arm.get("knob") and need.knobless)
        ],
        "left_out": [
            {"row": row.key, "title": row.title, "why": _why_out(row, need), "uneven": need.allows(row, "")}
            for row in cell.rows
            if row not in allowed
        ],
    }


def _standings(cell: Cell, need: Need) -> tuple[list[Row], dict[str, dict[int, float]], dict[str, list[Answer]]]:
    """The rows that may be the answer, their losses by arm and seed, and what became of each, by word."""
    allowed = [row for row in cell.rows if need.allows(row, cell.board.track)]
    by_arm = {row.arm: row for row in allowed}
    losses = {row.arm: row.losses if need.devices == 1 else cell.losses_at(row, need.devices) for row in allowed}
    standings = confidence_set(losses, [row.arm for row in allowed if row.content["diverged"]])
    return allowed, losses, {word: [_entry(s, by_arm) for s in standings if s.word == word] for word in _WORDS}


_WORDS = ("in the set", "behind", "diverged", "too few seeds")


def against_the_twin(cell: Cell, losses: Mapping[str, Mapping[int, float]], need: Need) -> Answer | None:
    """The dense twin, which is no strategy: which rows are shown to be behind it, and how far; None without a twin."""
    twin = cell.twin
    if twin is None:
        return None
    theirs = twin.losses if need.devices == 1 else cell.losses_at(twin, need.devices)
    found = {row: behind(own, theirs) for row, own in losses.items()}
    return {
        "row": twin.key,
        "extrapolated": need.devices > 1 and cell.extrapolated(twin, need.devices),
        "ahead_of": {row: far for row, far in found.items() if far is not None},
    }


def _entry(standing: Standing, rows: dict[str, Row]) -> Answer:
    row = rows[standing.arm]
    return {
        "row": row.key,
        "title": row.title,
        "n": standing.n,
        "mean": standing.mean,
        "low": standing.low,
        "high": standing.high,
        "against": rows[standing.against].key if standing.against else None,
        "worse_than": rows[standing.worse_than].key if standing.worse_than else None,
        "max_vio": row.max_vio,
        "setting": row.setting,
        "marks": marks(row),
    }


def marks(row: Row) -> list[str]:
    """What a reader must know beside a strategy's name."""
    said = (("not causal in training", not row.causal), ("variable FLOPs", bool(row.content.get("variable_k"))))
    return [words for words, true in said if true]


def _why_out(row: Row, need: Need) -> str:
    if need.causal and not row.causal:
        return "not causal in training"
    if need.knobless and row.knob is not None:
        return f"has a knob, {row.knob['parameter']}"
    if need.learned and row.content["strategy"] in TABLES:
        return "routes by a table of tokens"
    if row.max_vio is None:
        return "its MaxVio is not known"
    return f"MaxVio of late batches {row.max_vio:.2f}, not under {BALANCED_BELOW:g}"


def rows_behind(answers: Iterable[Answer]) -> list[str]:
    """The keys of all rows that these answers speak of."""
    keys = []
    for given in answers:
        for found in (*given["evidence"], *given["blunt"]):
            for entry in (*found["set"], *found["behind"], *found["diverged"], *found["too_few"], *found["left_out"]):
                keys += [entry[name] for name in ("row", "against", "worse_than") if entry.get(name)]
    return list(dict.fromkeys(keys))
