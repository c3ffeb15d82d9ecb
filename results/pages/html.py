"""The report: one board as one HTML page that opens from disk and asks for nothing else, plus its figures as files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from results.pages.rendering import headline, render, seeds_run, slug
from results.plots import board_figures, svg, task_figures
from results.plots.picture import Picture
from results.plots.sources import Run, gather
from results.plots.style import ArmStyle, arm_styles
from results.statistics.verdict import WORDS

_TRIED = ("finished", "diverged")  # what leaves a record
Row = Mapping[str, Any]


def write_report(
    board: dict[str, Any],
    manifest: dict[str, Any],
    trials_dir: Path,
    out: Path,
    claims: list[dict[str, Any]] | None = None,
) -> list[Path]:
    """Write `out`/index.html and `out`/figures/*.svg.

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
    names: set[str] = set()
    rows = [_row(row, trials_dir, styles, slug(f"{row['arm']}-{row['task']}", names)) for row in board["rows"]]
    page = render(
        "report.j2",
        board=board,
        tasks=tasks,
        across=across,
        rows=rows,
        styles=styles,
        variable=svg.variable,
        words=WORDS,
        lost=_lost(board),
        seeds=seeds_run(board["rows"]),
        indicative=any(row["delta_loss"]["verdict"] == "indicative" for row in board["rows"]),
        claims=claims or [],
    )
    pictures = [picture for task in tasks for picture in (task["forest"], *task["pictures"])] + across
    return [_write(out / "index.html", page), *(_figure(out / "figures", picture) for picture in pictures)]


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
        if seed["status"] in _TRIED and (trials_dir / seed["trial_key"] / "record.json").exists()
    ]
    return {
        "name": task["name"],
        "title": headline(task),
        "slug": name,
        "facts": _facts(task),
        "verdicts": Counter(row["delta_loss"]["verdict"] for row in own),
        "aa": board["aa"]["tasks"].get(task["name"]) if board["aa"] else None,
        "margin": board["margins"][task["name"]],
        "forest": board_figures.forest(board, task["name"], styles, f"{name}-forest"),
        "pictures": task_figures.of_task(board, manifest, task["name"], gather(runs), styles, name),
    }


def _facts(task: Row) -> list[str]:
    shown = []
    if task.get("rung"):
        shown.append(f"rung {task['rung']}")
    if task.get("tokens"):
        shown.append(f"{task['tokens']:,} training tokens")
    if task.get("experts"):
        shown.append(f"{task['experts']} experts, {task.get('top_k')} per token")
    if task.get("uniform_loss"):
        shown.append(f"a uniform guess loses {task['uniform_loss']:.2f} nats/token")
    return shown


def _row(row: Row, trials_dir: Path, styles: Mapping[str, ArmStyle], name: str) -> dict[str, Any]:
    """A row with what its details show besides: how it was made."""
    return {**row, "slug": f"row-{name}", "style": styles[row["arm"]], "head": _head(row["seeds"], trials_dir)}


def _head(seeds: Sequence[Row], trials_dir: Path) -> dict[str, Any] | None:
    """Configuration and provenance of the row's first trial; None where no trial is at hand."""
    for seed in seeds:
        path = trials_dir / seed["trial_key"] / "record.json"
        if seed["status"] in _TRIED and path.exists():
            record = json.loads(path.read_text(encoding="utf-8"))
            return {key: record.get(key) for key in ("config", "provenance", "measures", "timing")} | {
                "seed": seed["seed"]
            }
    return None


def _lost(board: Row) -> list[dict[str, Any]]:
    """Every trial without a loss: what happened to it."""
    return [
        {"title": row["title"], "task": row["task"], **seed}
        for row in board["rows"]
        for seed in row["seeds"]
        if seed["status"] != "finished"
    ]


def _figure(folder: Path, picture: Picture) -> Path:
    return _write(folder / f"{picture.name}.svg", svg.standalone(picture.svg))


def _write(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path
