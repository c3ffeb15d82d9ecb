"""The leaderboard as Markdown, for people, and as CSV, for spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from results.boards.words import (
    SLOPES,
    cost_words,
    ladder_words,
    margin_words,
    overhead_words,
    saved_words,
    sensitivity_words,
    slopes,
)
from results.statistics.verdict import WORDS
from results.text import cell, interval, link, number, percent, table

COLUMNS = (
    "#",
    "Strategy",
    "Δ loss vs baseline [95 % CI]",
    "Verdict",
    "Loss",
    "n",
    "MaxVio global",
    "MaxVio batch",
    "Dead",
    "Overflow 1.25",
    "Tokens/s",
    "Overhead",
)
READING_SAVINGS = (
    "*tokens saved*: how much longer the baseline would have to train for the row's loss, as a share of its tokens.",
    "*step time*: simulated from the recorded loads with the experts spread over devices, over the baseline's.",
    "*time saved*: how much longer than the row's arm the baseline would take for the row's loss, on so many devices.",
    "*dropped at 1.25*: assignments that a capacity of 1.25 times the mean would have dropped over the whole training.",
)
REGISTERED = "Expected beforehand, and written down before its trials (a prediction, not a result)"
SHORT = ("#", "Strategy", "Δ loss vs baseline [95 % CI]", "Verdict", "n", "MaxVio global", "MaxVio batch", "Dead")


def not_run(task: Mapping[str, Any]) -> str:
    """The strategies of a board that have no trial on a task, by title."""
    return ", ".join(arm["title"] for arm in task.get("not_run") or [])


def leaderboard_markdown(board: Mapping[str, Any]) -> str:
    """One table per task, what the columns mean, the A/A arm, the summary over tasks and every warning."""
    lines = [f"# {cell(board['title'])}", "", _facts(board), ""]
    lines += [f"{REGISTERED}: {cell(board['hypothesis'].strip())}", ""] if board.get("hypothesis") else []
    lines += [line for warning in board["warnings"] for line in (f"> {cell(warning)}", "")]
    for task in board["tasks"]:
        rows = [row for row in board["rows"] if row["task"] == task["name"]]
        lines += [f"## {cell(task.get('title') or task['name'])} (`{task['name']}`)", ""]
        lines += table(COLUMNS, [_row(row) for row in rows])
        floors = [row["noise_floor"] for row in rows if row["noise_floor"]]
        floor = max(floors, key=lambda floor: floor.get("batch") or 0, default=None)  # a dense arm has none to speak of
        lines += ["", _below(board, task["name"], floor), ""]
        lines += [f"Not run on this task: {cell(not_run(task))}.", ""] if not_run(task) else []
        lines += [f"- **{cell(row['title'])}**: {cell(_said(row))}" for row in rows if _said(row)]
        lines += ["", *savings_table(rows), *parts_table(rows)]
    if len(board["tasks"]) > 1 and board["across_tasks"]["arms"]:
        lines += ["## Across tasks", "", *_across(board), ""]
    if board.get("ladder"):
        lines += [f"## Along {board['ladder']['title']}", "", ladder_words(board), "", *_along(board), ""]
    lines += ["## How to read it", "", *[f"- *{word}*: {meaning}." for word, meaning in WORDS.items()]]
    lines += [
        f"- *overhead*: step time against `{board['reference']}`, median over seeds [least, most]; +1% is slower."
    ]
    lines += ["- On a CPU both it and *tokens/s* go by CPU time; – where trials did not note theirs."]
    lines += ["- *n*: pairs of seeds behind the difference; all other columns rest on the same seeds."]
    lines += ["- *dead*: share of experts with less than 1 % of the mean load over the last steps of training."]
    lines += [f"- {line}" for line in READING_SAVINGS]
    lines += [f"- Simulated machine: {cell(board['machine']['title'])} (`{board['machine']['machine']}`)."]
    lines += ["- Diverged arms are ranked last; differences are paired by seed; lower loss is better.", ""]
    return "\n".join(lines)


def boards_markdown(boards: Sequence[tuple[str, Mapping[str, Any], str | None]]) -> str:
    """The boards in short, for whoever reads them as text.

    Args:
        boards: each with its folder below the one that this text lies in, and the protocol that superseded its own.
    """
    lines = ["# Published boards", ""]
    lines += [*table(CONTENTS, [_listed(folder, board, old) for folder, board, old in boards]), ""] if boards else []
    for folder, board, superseded_by in boards:
        kept = f" · **superseded** by protocol {superseded_by}, kept as what it was" if superseded_by else ""
        facts = f"{_facts(board)}{kept} · [whole board]({folder}/leaderboard.md)"
        lines += [f"## {cell(unquote(folder))}: {cell(board['title'])}", "", facts, ""]
        for task in board["tasks"]:
            rows = [row for row in board["rows"] if row["task"] == task["name"]]
            lines += [f"### {cell(task.get('title') or task['name'])} (`{task['name']}`)", ""]
            lines += [*table(SHORT, [_short(row) for row in rows]), ""]
            lines += [f"Not run on this task: {cell(not_run(task))}.", ""] if not_run(task) else []
    return "\n".join(lines)


CONTENTS = ("Board", "What it asks", "Track", "Tasks", "Arms", "Seeds")


def _listed(folder: str, board: Mapping[str, Any], superseded_by: str | None) -> list[str]:
    """A board in a line of the contents."""
    track = str(board.get("track") or "").replace("-", " ") + (", superseded" if superseded_by else "")
    seeds = sorted({row["delta_loss"]["n"] for row in board["rows"]})
    span = f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else "".join(map(str, seeds))
    names = [f"`{task['name']}`" for task in board["tasks"]]
    arms = str(len({row["arm"] for row in board["rows"]}))
    return [link(unquote(folder), f"{folder}/leaderboard.md"), board["title"], track, ", ".join(names), arms, span]


def leaderboard_csv(board: Mapping[str, Any]) -> str:
    """One line per row; nested fields become columns such as `delta_loss.mean`; lists are left out."""
    tasks = {
        task["name"]: {"task_margin": task["margin"], "sensitivity": task["sensitivity"]} for task in board["tasks"]
    }
    flat = [_flat({**row, **tasks[row["task"]]}) for row in board["rows"]]
    seen = list(dict.fromkeys(name for row in flat for name in row))
    nested = {name.split(".")[0] for name in seen if "." in name}  # a field that is null in one row, nested in another
    names = [name for name in seen if name not in nested]
    out = io.StringIO()
    writer = csv.DictWriter(out, names, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows([{name: _inert(value) for name, value in row.items()} for row in flat])
    return out.getvalue()


def _facts(board: Mapping[str, Any]) -> str:
    parts = [f"Suite `{board['suite']}`", f"protocol {board['protocol_version']}", str(board.get("track") or "")]
    parts += [str(board["hardware"] or "no record yet"), f"baseline `{board['baseline']}`"]
    parts += [cost_words(board)]
    parts += [f"made {board['generated']}"] if board.get("generated") else []
    return cell(" · ".join(part for part in parts if part))


def _short(row: Mapping[str, Any]) -> list[str]:
    return [
        *_compared(row),
        row["delta_loss"]["verdict"] + (f" ({row['diverged']} diverged)" if row["diverged"] else ""),
        str(row["delta_loss"]["n"]),
        number(row["max_vio_global"], 2),
        number(row["max_vio_batch"], 2),
        percent(row["dead_experts"]),
    ]


def _compared(row: Mapping[str, Any]) -> list[str]:
    delta = row["delta_loss"]
    return [
        "–" if row["rank"] is None else str(row["rank"]),
        named(row),
        interval(delta["mean"], delta["ci_low"], delta["ci_high"]) if delta["verdict"] != "baseline" else "0",
    ]


def _row(row: Mapping[str, Any]) -> list[str]:
    return [
        *_compared(row),
        row["delta_loss"]["verdict"] + _failures(row),
        number(row["val_loss"]["mean"], 4),
        str(row["delta_loss"]["n"]),
        number(row["max_vio_global"], 3),
        number(row["max_vio_batch"], 3),
        percent(row["dead_experts"]),
        percent((row["overflow"] or {}).get("1.25")),
        "–" if row["tokens_per_second"] is None else f"{row['tokens_per_second']:,.0f}",
        overhead_words(row),
    ]


def _failures(row: Mapping[str, Any]) -> str:
    counts = [f"{row[kind]} {kind}" for kind in ("diverged", "failed", "missing") if row[kind]]
    return f" ({', '.join(counts)})" if counts else ""


def _said(row: Mapping[str, Any]) -> str:
    words = row["delta_loss"]["words"] if row["delta_loss"]["verdict"] != "baseline" else ""
    return ". ".join(part.rstrip(".") for part in (words, row["note"] or "") if part)


def _below(board: Mapping[str, Any], task: str, floor: Mapping[str, Any] | None) -> str:
    about = next(entry for entry in board["tasks"] if entry["name"] == task)
    said = [sensitivity_words(about["sensitivity"]), margin_words(about["margin"])]
    if board["aa"]:
        aa = board["aa"]["tasks"][task]
        shown = interval(aa["mean"], aa["ci_low"], aa["ci_high"])
        said.append(f"Baseline against itself (A/A, n = {aa['n']}): {shown}, sd {number(aa['sd'], 4)}.")
    if floor:
        pairs = [f"{name} {number(value, 3)}" for name, value in floor.items()]
        said.append(f"Noise floor of MaxVio: {', '.join(pairs)}.")
    return " ".join(said)


def _across(board: Mapping[str, Any]) -> list[str]:
    summary = board["across_tasks"]
    titles = {row["arm"]: row["title"] for row in board["rows"]}
    order = sorted(summary["arms"].items(), key=lambda item: (item[1]["mean_rank"] is None, item[1]["mean_rank"] or 0))
    rows = [
        [
            str(titles.get(arm, arm)),
            interval(entry["mean_rank"], entry["rank_low"], entry["rank_high"], 2),
            interval(entry["improvement"], entry["improvement_low"], entry["improvement_high"], 2),
        ]
        for arm, entry in order
    ]
    head = ("Strategy", "Mean rank [95 % bootstrap]", "Probability of improvement [95 % bootstrap]")
    return table(head, rows)


def _along(board: Mapping[str, Any]) -> list[str]:
    rows = [[title, *shown, str(n)] for _, title, shown, n in slopes(board)]
    return table(("Per doubling", *SLOPES.values(), "n"), rows)


def parts_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Where the differences come from: a column for training batches and for each domain."""
    split = [row for row in rows if row["parts"] and row["delta_loss"]["verdict"] != "baseline"]
    if not split:
        return []
    names = list(split[0]["parts"])
    shown = [
        [named(row), *(interval(*row["parts"][name].values()) if name in row["parts"] else "–" for name in names)]
        for row in split
    ]
    head = ["Δ loss on [95 % CI, unadjusted]", *("training batches" if name == "training" else name for name in names)]
    return [*table(head, shown), ""]


def savings_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Differences in tokens and in time: empty where neither is known."""
    known = [row for row in rows if row["tokens_saved"] or any((row["step_time"] or {}).values())]
    if not known:
        return []
    counts = list(known[0]["step_time"])
    head = ["Against the baseline", "Tokens saved [95 % CI]"]
    head += [f"Step time, {count} device{'s' if count != '1' else ''}" for count in counts]
    head += [f"Time saved, {count}" for count in counts] + ["Dropped at 1.25"]
    shown = [
        [named(row), saved_words(row["tokens_saved"])]
        + ["–" if row["step_time"][count] is None else f"× {row['step_time'][count]:.2f}" for count in counts]
        + [saved_words((row["time_saved"] or {}).get(count)) for count in counts]
        + [percent((row["dropped"] or {}).get("1.25"))]
        for row in known
    ]
    return [*table(head, shown), ""]


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        elif not isinstance(value, list):
            flat[f"{prefix}{key}"] = value
    return flat


def _inert(value: Any) -> Any:
    """A spreadsheet would run a text that begins like a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") else value


def named(row: Mapping[str, Any]) -> str:
    """A row's title, with what a reader must know before comparing its loss."""
    marks = [
        mark
        for mark, said in (("not causal in training", row["causal"] is False), ("variable FLOPs", row["variable_k"]))
        if said
    ]
    marks += [f"by {entry['by']}, {entry['when']}" for entry in row.get("submitted") or []]
    return str(row["title"]) + (f" ({', '.join(marks)})" if marks else "")
