"""The report: one board as one HTML page that opens from disk and asks for nothing else, plus its figures as files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from results.boards.words import SLOPES, cost_words, ladder_words, slopes
from results.pages.embedded import TRIED, figures_data, figures_of, rows_data
from results.pages.markdown import not_run
from results.pages.rendering import headline, render, seeds_run, slug, too_few
from results.pages.statements import columns, statements
from results.plots import board_figures, svg, task_figures
from results.plots.picture import Picture
from results.plots.sources import Run, gather
from results.plots.style import ArmStyle, arm_styles
from results.statistics.verdict import WORDS

Row = Mapping[str, Any]


def write_report(
    board: dict[str, Any],
    manifest: dict[str, Any],
    trials_dir: Path,
    out: Path,
    claims: list[dict[str, Any]] | None = None,
) -> list[Path]:
    """Write `out`/index.html, which draws its figures itself, and `out`/figures/*.svg, the same figures as files.

    Args:
        board: as `results.boards.leaderboard.build` returns it.
        manifest: the suite's, see docs/formats.md.
        trials_dir: folder of the trials; curves and loads that are not there leave their figures out.
        claims: verdicts on published claims, as `results.claims.evaluate` returns them.

    Returns:
        The files written, the page first.
    """
    styles = arm_styles(manifest)
    taken: set[str] = set()
    tasks = [_task(board, manifest, task, trials_dir, styles, slug(task["name"], taken)) for task in board["tasks"]]
    across = board_figures.of_suite(board, styles)
    along = board_figures.along(board, styles)
    pictures = [picture for task in tasks for picture in (task["forest"], *task["pictures"])] + across + along
    slugs = row_slugs(board)
    rows = [{**row, "slug": name, "style": styles[row["arm"]]} for row, name in zip(board["rows"], slugs, strict=True)]
    for task in tasks:
        task["rows"] = [row for row in rows if row["task"] == task["name"]]
    page = render(
        "report.j2",
        board=board,
        tasks=tasks,
        across=figures_of(across),
        along=figures_of(along),
        ladder=ladder_words(board) if board.get("ladder") else "",
        slope_names=list(SLOPES.values()),
        slopes=slopes(board) if board.get("ladder") else [],
        overview=overview(board, rows),
        rows=rows,
        styles=styles,
        variable=svg.variable,
        words=WORDS,
        seeds=seeds_run(board["rows"]),
        cost=cost_words(board),
        indicative=too_few(board["rows"]),
        claims=claims or [],
        figures_data=figures_data(pictures, list(styles.values())),
        rows_data=rows_data(board, slugs, trials_dir),
    )
    written = [_write(out / "index.html", page), *(_figure(out / "figures", picture) for picture in pictures)]
    for stale in set((out / "figures").glob("*.svg")) - set(written):
        stale.unlink()  # of an earlier report, which drew what this one does not
    return written


def row_slugs(board: Row) -> list[str]:
    """Where each row can be linked to; equal boards give equal addresses."""
    names: set[str] = set()
    return ["row-" + slug(f"{row['arm']}-{row['task']}", names) for row in board["rows"]]


def _task(
    board: Row, manifest: Row, task: Row, trials_dir: Path, styles: Mapping[str, ArmStyle], name: str
) -> dict[str, Any]:
    own = [row for row in board["rows"] if row["task"] == task["name"]]
    trials = [(row["arm"], seed) for row in own for seed in row["seeds"]]
    if board["aa"] and board["aa"]["arm"] in styles:
        trials += [(board["aa"]["arm"], seed) for seed in board["aa"]["tasks"][task["name"]]["seeds"]]
    runs = [
        Run(arm, seed["seed"], seed["status"] == "diverged", trials_dir / seed["trial_key"])
        for arm, seed in trials
        if seed["status"] in TRIED and (trials_dir / seed["trial_key"] / "record.json").exists()
    ]
    pictures = task_figures.of_task(board, manifest, task["name"], gather(runs), styles, name)
    return {
        "name": task["name"],
        "title": headline(task),
        "slug": name,
        "facts": _facts(task),
        "verdicts": Counter(row["delta_loss"]["verdict"] for row in own),
        "statements": statements(board, task),
        "columns": columns(own, styles[board["reference"]].title),
        "pairs": max((row["delta_loss"]["n"] for row in own), default=0),
        "lost": _lost(own),
        "not_run": not_run(task),
        "forest": board_figures.forest(board, task["name"], styles, f"{name}-forest"),
        "pictures": pictures,
        "figures": figures_of(pictures),
    }


def _facts(task: Row) -> list[str]:
    shown = []
    if task.get("rung"):
        shown.append(f"rung {task['rung']}")
    if task.get("recipe"):
        shown.append(f"recipe {task['recipe']}")
    if task.get("tokens"):
        shown.append(f"{task['tokens']:,} training tokens")
    if task.get("experts"):
        shown.append(f"{task['experts']} experts, {task.get('top_k')} per token")
    if task.get("uniform_loss"):
        shown.append(f"a uniform guess loses {task['uniform_loss']:.2f} nats/token")
    return shown


def overview(board: Row, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Every arm with its rows on all tasks, by mean rank; empty for a board of one task."""
    if len(board["tasks"]) < 2:
        return []
    summary = board["across_tasks"]["arms"]
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    entries = [
        {
            "arm": arm,
            "rank": (summary.get(arm) or {}).get("mean_rank"),
            "cells": [next((row for row in rows if (row["arm"], row["task"]) == (arm, task["name"])), None)
                      for task in board["tasks"]],
        }
        for arm in arms
    ]  # fmt: skip
    return sorted(entries, key=lambda entry: (entry["rank"] is None, entry["rank"] or 0.0))


def _lost(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Trials without a loss: a line for each that diverged or failed, one per arm for those that have not run."""
    shown = []
    for row in rows:
        shown += [
            {
                "title": row["title"],
                "seeds": str(seed["seed"]),
                "status": seed["status"],
                "failure": seed.get("failure"),
            }
            for seed in row["seeds"]
            if seed["status"] not in ("finished", "missing")
        ]
        missing = [str(seed["seed"]) for seed in row["seeds"] if seed["status"] == "missing"]
        if missing:
            shown.append({"title": row["title"], "seeds": ", ".join(missing), "status": "not run yet", "failure": None})
    return shown


def _figure(folder: Path, picture: Picture) -> Path:
    return _write(folder / f"{picture.name}.svg", picture.svg)


def _write(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path
