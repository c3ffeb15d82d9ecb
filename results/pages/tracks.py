"""A strategy's rows in all tracks of a suite, side by side: on the index, and on each board's own page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from results.pages.html import row_slugs
from results.pages.rendering import headline, render
from results.plots import svg
from results.recommend.block import markers, renew

TRACKS = ("as-published", "tuned", "balanced")
BLOCK = "tracks"  # between its markers on a board's page


def side_by_side(boards: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Tasks on which the knobs of a suite's strategies were set in more than one way.

    Only boards of one suite, protocol, hardware, baseline and recipe are put together, and of a track the board that
    comes first.

    Args:
        boards: each with `board` (its leaderboard.json), `href`, `styles` and `superseded_by`.

    Returns:
        Per suite and task `task`, `title`, `suite`, `superseded_by`, `pages`, `tracks` in their order, and `lines`:
        title, style, and per track the row with its `page` and `anchor`.
    """
    tables: dict[tuple[Any, ...], dict[str, dict[str, Any]]] = {}
    for board in boards:
        content = board["board"]
        track = str(content.get("track") or "")
        suite = str(content["suite"]).removesuffix(f"-{track}")
        for task in content["tasks"]:
            made = (content["protocol_version"], content["hardware"], content["baseline"], task.get("recipe"))
            tables.setdefault((suite, task["name"], *made), {}).setdefault(track, {"board": board, "task": task})
    return [_table(key[0], found) for key, found in tables.items() if len(found) > 1]


def _table(suite: str, found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    tracks = sorted(found, key=lambda track: (TRACKS.index(track) if track in TRACKS else len(TRACKS), track))
    task = found[tracks[0]]["task"]
    lines: dict[str, dict[str, Any]] = {}
    for track in tracks:
        board = found[track]["board"]
        for row, anchor in zip(board["board"]["rows"], row_slugs(board["board"]), strict=True):
            if row["task"] == task["name"] and row["delta_loss"]["verdict"] != "baseline":
                look = {"title": row["title"], "style": board["styles"][row["arm"]], "rows": {}}
                line = lines.setdefault(row["arm"], look)
                line["rows"][track] = {**row, "page": board["href"], "anchor": f"#{anchor}"}
    whole = [line for line in lines.values() if len(line["rows"]) > 1]
    whole.sort(key=lambda line: min(_mean(row) for row in line["rows"].values()))
    boards = [found[track]["board"] for track in tracks]
    return {
        "task": task["name"],
        "title": headline(task),
        "suite": suite,
        "superseded_by": boards[0]["superseded_by"],
        "pages": [board["href"] for board in boards],
        "tracks": tracks,
        "lines": whole,
    }


def _mean(row: Mapping[str, Any]) -> float:
    mean = row["delta_loss"]["mean"]
    return float("inf") if mean is None else float(mean)


def renew_page(file: Path, href: str, tables: Sequence[Mapping[str, Any]], told: Any = None) -> None:
    """Put a board's tables between the markers of its own page; a page without markers is older, and stays as it is.

    Args:
        href: of the page, from the folder of all boards.
        told: what the boards recommend, for the board that says most of what balance foretells.
    """
    if markers(BLOCK)[0] in file.read_text(encoding="utf-8"):
        own = [table for table in tables if href in table["pages"]]
        up = "../" * href.count("/")
        text = render("tracks.j2", tracks=own, here=href, up=up, variable=svg.variable)
        text += render("foretells.j2", told=told, up=up) if told else ""
        renew(file, text.splitlines(), BLOCK)
