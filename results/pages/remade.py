"""Whether published boards and their pages are what their manifests and the folder's records give.

Every board of today's protocol is built again, and what a report writes of it is written again, into a folder that is
thrown away. All of leaderboard.json, .md and .csv, of the superseded entries, of pages and index is compared, but for
drawings that need whole curves or loads, which stay at home, and SVG files, whose bytes change with the version of what
draws them. On a page, such a drawing must have a figure's form and hold nothing but text.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import tempfile
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

from results import records
from results.boards import leaderboard
from results.pages import html, markdown, recommendation, site
from results.records.published import trials_of
from results.statistics.machine import Machine, load, names
from results.submissions.merging import past_manifest
from results.text import counted

CLOSE = 1e-9  # what another order of summation may change
SHOWN = 8  # differences of one board that are told
FROM_CURVES = ("loss", "max-vio", "loads", "biases", "devices")  # figures that published records cannot redraw
PAGES = ("index.html", "README.md", "claims.html")  # over all boards
BELOW = "\n[Superseded entries](superseded.md)\n"  # what a board's Markdown ends with if it has any

_FIGURE = re.compile(
    rf'<figure id="fig-[a-z0-9-]+" data-figure="[a-z0-9-]+-(?:{"|".join(FROM_CURVES)})"(?: class="wide")?>\s*'
    r'(?:<h[34] class="named">[^<>]*</h[34]>)?\s*'
    r'<div class="drawing"><noscript><p class="sub">[^<>]*</p></noscript></div>\s*'
    r"<figcaption data-caption>[^<>]*</figcaption>\s*</figure>"
)
_CHARTS = re.compile(r'(?<=<script type="application/json" id="figures-data">)[^<]*(?=</script>)')

Json = dict[str, Any]


def check_remade(published: Path, protocol: str) -> list[str]:
    """A line for everything below a folder of published boards that would be written otherwise today."""
    found: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        for path in sorted(published.rglob("leaderboard.json")):
            where = path.parent.relative_to(published)
            (Path(scratch) / where).mkdir(parents=True, exist_ok=True)
            run = f"`equipoise report {where.name.partition('@')[0]} --publish {published.name}` writes it anew"
            try:
                lines = list(_board(path.parent, Path(scratch) / where, protocol))
            except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
                lines = [f"cannot be built again ({type(error).__name__}: {str(error)!a:.160})"]
            found += [f"{where.as_posix()}/{line}; {run}" for line in lines[:SHOWN]]
            if len(lines) > SHOWN:
                found.append(f"{where.as_posix()}: {len(lines) - SHOWN} more differences")
        if not found:  # else they differ because their boards do
            found += _pages(published, Path(scratch), protocol)
    return found


def _board(folder: Path, fresh: Path, protocol: str) -> Iterator[str]:
    """Build a board of today's protocol again, and write a report's files into `fresh`; others are copied."""
    if _read(folder / "leaderboard.json")["protocol_version"] != protocol:
        for name in ("leaderboard.json", "manifest.json", "index.html"):
            shutil.copyfile(folder / name, fresh / name)
        return
    manifest = records.load_manifest(folder / "manifest.json")
    board, lines = _built(folder, "leaderboard.json", manifest)
    past = past_manifest(_read(folder / "manifest.json"))
    if past is not None:
        entries, more = _built(folder, "superseded.json", past)
        lines += more
    if board["machine"] not in [load(name).model_dump(mode="json") for name in names()]:
        lines.append(
            f"leaderboard.json: machine: {board['machine']['machine']!r:.40}; not one that comes with Equipoise"
        )
    yield from lines
    if lines:
        return
    (fresh / "leaderboard.md").write_text(markdown.leaderboard_markdown(board), encoding="utf-8")
    (fresh / "leaderboard.csv").write_text(markdown.leaderboard_csv(board), encoding="utf-8")
    if past is not None:
        (fresh / "superseded.md").write_text(markdown.leaderboard_markdown(entries), encoding="utf-8")
        (fresh / "leaderboard.md").write_text(f"{markdown.leaderboard_markdown(board)}{BELOW}", encoding="utf-8")
    for path in sorted(fresh.iterdir()):
        lines += _differs(folder / path.name, path.read_text(encoding="utf-8"), path.name)
    yield from lines
    if lines:
        return
    for name in ("leaderboard.json", "manifest.json"):
        shutil.copyfile(folder / name, fresh / name)
    html.write_report(board, manifest, trials_of(folder), fresh)


def _built(folder: Path, name: str, manifest: Json) -> tuple[Json, list[str]]:
    """A board built from its records, with the published numbers where the two agree; and a line where they don't."""
    old = _read(folder / name)
    new = leaderboard.build(
        manifest,
        records.collect(manifest, trials_of(folder)),
        hardware=old["hardware"],
        generated=old["generated"],
        machine=Machine.model_validate(old["machine"]),
    )
    new = json.loads(json.dumps(new))
    return _joined(old, new), [f"{name}: {line}" for line in _differences(old, new)]


def _joined(theirs: Any, ours: Any) -> Any:
    """What is published, in the order in which it is built: what is written from both can then be compared as text."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        return {key: _joined(theirs.get(key), value) for key, value in ours.items()}
    if isinstance(theirs, list) and isinstance(ours, list):
        return [_joined(*pair) for pair in zip(theirs, ours, strict=False)]
    return theirs


def _differences(theirs: Any, ours: Any, at: str = "") -> Iterator[str]:
    """A line for each place at which two JSON values differ by more than rounding."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in sorted(theirs.keys() | ours.keys()):
            yield from _differences(theirs.get(key), ours.get(key), f"{at}.{key}" if at else key)
    elif isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        for index, pair in enumerate(zip(theirs, ours, strict=True)):
            name = "/".join(str(pair[1][key]) for key in ("arm", "task") if key in pair[1]) if at == "rows" else ""
            yield from _differences(*pair, f"{at}.{name or index}")
    elif isinstance(theirs, list) and isinstance(ours, list):
        yield f"{at:.120}: {counted(len(theirs), 'entry', 'entries')}; its records give {len(ours)}"
    elif theirs != ours and not _close(theirs, ours):
        yield f"{at:.120}: {theirs!r:.60}; its records give {ours!r:.60}"


def _close(theirs: Any, ours: Any) -> bool:
    numbers = [isinstance(value, int | float) and not isinstance(value, bool) for value in (theirs, ours)]
    return all(numbers) and math.isclose(theirs, ours, rel_tol=CLOSE, abs_tol=CLOSE)


def _pages(published: Path, fresh: Path, protocol: str) -> Iterator[str]:
    """The index, what lies beside it, and the boards' own pages, which show the tracks side by side."""
    for path in published.rglob("claims.json"):
        (fresh / path.relative_to(published)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, fresh / path.relative_to(published))
    site.write_index(fresh)
    for path in sorted(fresh.rglob("leaderboard.json")):
        if _read(path)["protocol_version"] == protocol:
            page = path.with_name("index.html")
            where = page.relative_to(fresh)
            run = f"`equipoise report {where.parts[-2].partition('@')[0]} --publish {published.name}` writes it anew"
            lines = _differs(published / where, page.read_text(encoding="utf-8"), where.as_posix())
            yield from (f"{line}; {run}" for line in lines)
    for name in PAGES:
        if (published / name).exists():
            lines = _differs(published / name, (fresh / name).read_text(encoding="utf-8"), name)
            yield from (f"{line}; `equipoise recommend --renew` writes it anew" for line in lines)
    told = published / recommendation.FORETELLING
    for line in _differences(_read(told) if told.exists() else {}, recommendation.of(published).told):
        yield f"{told.name}: {line}; `equipoise recommend --renew` writes it anew"


def _differs(path: Path, ours: str, name: str) -> Iterator[str]:
    """The first line in which a published file is not what is written today; none if it is."""
    theirs = path.read_text(encoding="utf-8") if path.exists() else ""
    if name.endswith(".html"):
        if _charts(theirs) != _charts(ours):
            yield f"{name}: the numbers of a figure are not those of its board"
        theirs, ours = (_CHARTS.sub("", _FIGURE.sub("", text)) for text in (theirs, ours))
    old, new = ([line for line in text.split("\n") if line.strip()] for text in (theirs, ours))
    for one, two in zip_longest(old, new, fillvalue=""):
        if one != two:
            start = max(0, next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), 0) - 20)
            has, given = ascii(one[start : start + 60]), ascii(two[start : start + 60])
            yield f"{name}: has {has} where its board gives {given}"
            return


def _charts(page: str) -> Any:
    """The numbers of a page's figures, as far as they follow from records without curves or loads."""
    found = _CHARTS.search(page)
    try:
        figures = json.loads(found[0])["figures"] if found else {}
        return {name: figure for name, figure in figures.items() if not name.endswith(FROM_CURVES)}
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
