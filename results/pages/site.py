"""The site: an index over all published boards and the page of claims, ready for any static host."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import jinja2

from results.boards.words import cost_words
from results.claims.report import claims_markdown
from results.pages import recommendation
from results.pages.embedded import figures_data
from results.pages.markdown import boards_markdown
from results.pages.rendering import headline, render, seeds_run, slug, too_few
from results.pages.tracks import renew_page, side_by_side
from results.plots import board_figures, svg
from results.plots.style import ArmStyle, arm_styles
from results.records import load_manifest
from results.statistics.verdict import WORDS
from results.text import cell, counted

_SET_ASIDE = "protocol-"  # and its number: a folder of boards of a protocol that no longer holds


def write_index(published: Path) -> Path:
    """Write `published`/index.html, README.md, and claims.html and claims.md where there is a claims.json (a list of
    verdicts); in a folder `protocol-N` of what was set aside its page too.

    Boards' own pages get their tracks side by side; pages of older protocols are left as they were made.

    Args:
        published: each folder below it that holds a leaderboard.json is a board, with its manifest.json and index.html.

    Raises:
        ValueError: a board lacks a file or holds one that cannot be read; one line naming it.
    """
    styles: list[ArmStyle] = []
    boards = [_board(path.parent, published, styles) for path in _found(published)]
    set_aside = [number + 1 for board in boards if (number := _set_aside(board["folder"]))]
    newest = max([_version(board["board"]) for board in boards] + [(n, str(n)) for n in set_aside], default=(0, ""))
    for board in boards:
        board["superseded_by"] = newest[1] if _version(board["board"]) < newest else None
    boards.sort(
        key=lambda board: (
            bool(board["superseded_by"]),
            board["indicative"],
            -_size(board["board"]),  # the largest models first,
            -len(board["board"]["rows"]),  # of equal size the board that compares most
            board["folder"],
        )
    )
    claims = _read(published / "claims.json") if (published / "claims.json").exists() else []
    published.mkdir(parents=True, exist_ok=True)
    for place in [published, *(path for path in sorted(published.iterdir()) if _set_aside(path.name))]:
        _write_claims(place, _set_aside(place.name))
    text = boards_markdown([(board["folder"], board["board"], board["superseded_by"]) for board in boards])
    told = recommendation.of(published)
    (published / "README.md").write_text("\n".join([*told.markdown, "", text]), encoding="utf-8")
    told.write_files(published)
    for number in {_set_aside(board["folder"]) for board in boards} - {0}:
        kept = [board for board in boards if _set_aside(board["folder"]) == number]
        (published / f"{_SET_ASIDE}{number}" / "README.md").write_text(_set_aside_page(number, kept), encoding="utf-8")
    tracks = side_by_side(boards)
    index = published / "index.html"
    page = render(
        "index.j2",
        boards=boards,
        claims=claims,
        words=WORDS,
        told=told,
        tracks=tracks,
        here="",
        up="",
        variable=svg.variable,
        figures_data=figures_data([board["forest"] for board in boards], styles),
    )
    index.write_text(page, encoding="utf-8")
    for board in boards:
        own = told if told.foretold and told.foretold[0]["board"] == unquote(board["folder"]) else None
        renew_page(published / unquote(board["href"]), board["href"], tracks, own)
    return index


def _write_claims(place: Path, set_aside: int) -> None:
    """The pages of the verdicts that a folder has; `set_aside`: the protocol whose verdicts it keeps, 0 for today's."""
    path = place / "claims.json"
    verdicts = _read(path) if path.exists() else []
    if verdicts:
        try:
            page = render("claims.j2", claims=verdicts, set_aside=set_aside, kept=not set_aside)
        except (jinja2.UndefinedError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}: not a list of verdicts on claims ({error})") from None
        path.with_suffix(".html").write_text(page, encoding="utf-8")
        if not set_aside:
            path.with_suffix(".md").write_text(claims_markdown(verdicts), encoding="utf-8")


def _version(board: Mapping[str, Any]) -> tuple[int, str]:
    """A protocol's version, comparable: "10" comes after "9"."""
    text = str(board["protocol_version"])
    digits = text.split(".")[0]
    return (int(digits) if digits.isdecimal() else 0, text)


def _found(published: Path) -> list[Path]:
    return sorted(path for path in published.rglob("leaderboard.json") if path.parent != published)


def _board(folder: Path, published: Path, looks: list[ArmStyle]) -> dict[str, Any]:
    board, manifest = _read(folder / "leaderboard.json"), load_manifest(folder / "manifest.json")
    if not (folder / "index.html").exists():
        raise ValueError(f"{folder / 'index.html'}: not there; expected the board's report beside its leaderboard.json")
    try:
        return _summary(board, manifest, folder.relative_to(published), looks)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder / 'leaderboard.json'}: not a leaderboard ({error!r})") from None


def _summary(
    board: Mapping[str, Any], manifest: Mapping[str, Any], place: Path, looks: list[ArmStyle]
) -> dict[str, Any]:
    """What the index shows of a board; its arms' looks join those of the page."""
    styles = {arm: replace(style, index=len(looks) + style.index) for arm, style in arm_styles(manifest).items()}
    looks.extend(styles.values())
    names: set[str] = set()
    tasks = [
        {
            "title": headline(task),
            "slug": slug(task["name"], names),
            "verdicts": Counter(row["delta_loss"]["verdict"] for row in own),
            "word": (task.get("sensitivity") or {}).get("word"),
            "better": [row["title"] for row in own if row["delta_loss"]["verdict"] == "better"],
        }
        for task in board["tasks"]
        for own in [[row for row in board["rows"] if row["task"] == task["name"]]]
    ]
    first = board["tasks"][0]
    name = slug(place.as_posix())
    picture = board_figures.forest(board, first["name"], styles, f"{name}-forest")
    seeds = seeds_run(board["rows"])
    return {
        "board": board,
        "slug": f"board-{name}",
        "styles": styles,
        "folder": quote(place.as_posix()),
        "title": board["title"],
        "href": quote(f"{place.as_posix()}/index.html"),
        "made": board.get("generated") or "",
        "facts": [
            str(board["hardware"] or "no record yet"),
            f"{counted(board['n_arms'], 'strategy', 'strategies')} against {styles[board['baseline']].title}",
            counted(1, "seed") if seeds == "1" else f"{seeds} seeds",
            cost_words(board),
            str(board.get("track") or "").replace("-", " "),
            f"protocol {board['protocol_version']}",
        ],
        "tasks": tasks,
        "indicative": too_few(board["rows"]),
        "forest": replace(picture, title=f"{picture.title}, {headline(first)}"),
    }


def _set_aside(folder: str) -> int:
    """The protocol whose boards a folder `protocol-N` keeps; 0 for any other folder."""
    first = folder.split("/")[0]
    number = first.removeprefix(_SET_ASIDE)
    return int(number) if first.startswith(_SET_ASIDE) and number.isdecimal() else 0


def _set_aside_page(number: int, boards: Sequence[Mapping[str, Any]]) -> str:
    """What stands beside boards that are kept unchanged, since their own pages cannot say it."""
    places = [(board["folder"].partition("/")[2], cell(board["title"])) for board in boards]
    lines = [f"# Superseded: boards of protocol {number}", ""]
    lines += ["They are kept as they were published, as evidence and not as advice; [newer boards](../README.md).", ""]
    lines += [f"- [{title}]({place}/leaderboard.md) ([page]({place}/index.html))" for place, title in places]
    lines += ["", f"`equipoise reproduce protocol-{number}/BOARD/ARM/TASK` says how a row of theirs is run again."]
    return "\n".join(lines) + "\n"


def _size(board: Mapping[str, Any]) -> int:
    """Parameters of its largest model; 0 where no record says."""
    return max((task.get("parameters") or {}).get("total") or 0 for task in board["tasks"])


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from None
