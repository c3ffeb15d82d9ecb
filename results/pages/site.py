"""The site: an index over all published boards and the page of claims, ready for any static host."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2

from results.pages.markdown import boards_markdown
from results.pages.rendering import headline, render, seeds_run
from results.plots import board_figures
from results.plots.style import arm_styles
from results.records import load_manifest
from results.statistics.verdict import WORDS


def write_index(published: Path) -> Path:
    """Write `published`/index.html, README.md, and claims.html where there is a claims.json (a list of verdicts).

    Args:
        published: each folder below it that holds a leaderboard.json is a board, with its manifest.json and index.html.

    Raises:
        ValueError: a board lacks a file or holds one that cannot be read; one line naming it.
    """
    boards = [_board(path.parent, published, number) for number, path in enumerate(_found(published))]
    boards.sort(key=lambda board: (board["indicative"], _newest_first(board["made"]), board["title"]))
    claims = _read(published / "claims.json") if (published / "claims.json").exists() else []
    published.mkdir(parents=True, exist_ok=True)
    if claims:
        try:
            page = render("claims.j2", claims=claims)
        except (jinja2.UndefinedError, TypeError, AttributeError) as error:
            raise ValueError(f"{published / 'claims.json'}: not a list of verdicts on claims ({error})") from None
        (published / "claims.html").write_text(page, encoding="utf-8")
    text = boards_markdown([(board["folder"], board["board"]) for board in boards])
    (published / "README.md").write_text(text, encoding="utf-8")
    index = published / "index.html"
    index.write_text(render("index.j2", boards=boards, claims=claims, words=WORDS), encoding="utf-8")
    return index


def _found(published: Path) -> list[Path]:
    return sorted(path for path in published.rglob("leaderboard.json") if path.parent != published)


def _board(folder: Path, published: Path, number: int) -> dict[str, Any]:
    board, manifest = _read(folder / "leaderboard.json"), load_manifest(folder / "manifest.json")
    if not (folder / "index.html").exists():
        raise ValueError(f"{folder / 'index.html'}: not there; expected the board's report beside its leaderboard.json")
    try:
        return _summary(board, manifest, folder.relative_to(published), number)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder / 'leaderboard.json'}: not a leaderboard ({error!r})") from None


def _summary(board: Mapping[str, Any], manifest: Mapping[str, Any], place: Path, number: int) -> dict[str, Any]:
    styles = arm_styles(manifest)
    tasks = [
        {
            "title": headline(task),
            "verdicts": Counter(row["delta_loss"]["verdict"] for row in own),
            "better": [row["title"] for row in own if row["delta_loss"]["verdict"] == "better"],
        }
        for task in board["tasks"]
        for own in [[row for row in board["rows"] if row["task"] == task["name"]]]
    ]
    first = board["tasks"][0]
    picture = board_figures.forest(board, first["name"], styles, f"board-{number}")
    return {
        "board": board,
        "folder": quote(place.as_posix()),
        "title": board["title"],
        "href": quote(f"{place.as_posix()}/index.html"),
        "made": board.get("generated") or "",
        "facts": [
            str(board["hardware"] or "no record yet"),
            f"{board['n_arms']} strategies against {styles[board['baseline']].title}",
            f"{seeds_run(board['rows'])} seeds",
            str(board.get("track") or "").replace("-", " "),
        ],
        "tasks": tasks,
        "indicative": any(row["delta_loss"]["verdict"] == "indicative" for row in board["rows"]),
        "forest": replace(picture, title=f"{picture.title}, {headline(first)}"),
    }


def _newest_first(made: str) -> list[int]:
    return [-ord(character) for character in made]


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from None
