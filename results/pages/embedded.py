"""What a page carries in itself for its script: figures as numbers, and how each row's first trial was made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from results.plots import svg
from results.plots.picture import Picture
from results.plots.style import ArmStyle

TRIED = ("finished", "diverged")  # what leaves a record
Row = Mapping[str, Any]


def figures_of(pictures: Sequence[Picture]) -> list[dict[str, Any]]:
    """Figures of the page, in order: pictures that belong together are one figure with several views."""
    figures: dict[str, dict[str, Any]] = {}
    for picture in pictures:
        title = "Held-out loss over training" if picture.view else picture.title
        figure = figures.setdefault(picture.of, {"name": picture.of, "title": title, "pictures": []})
        figure["pictures"].append(picture)
    return list(figures.values())


def figures_data(pictures: Sequence[Picture], styles: Sequence[ArmStyle]) -> dict[str, Any]:
    """How arms look, by their index, and the numbers of every figure."""
    arms = [
        {"arm": style.arm, "title": style.title, "color": svg.VARIABLES[style.color], "marker": style.marker}
        | ({"dash": " ".join(f"{1.6 * length:g}" for length in style.dash[1])} if style.dash != "-" else {})
        for style in styles
    ]
    figures = {
        figure["name"]: {
            "title": figure["title"],
            "views": [
                {**one.chart, "name": one.view, "caption": one.caption, "alt": one.alt} for one in figure["pictures"]
            ],
        }
        for figure in figures_of(pictures)
    }
    return {"arms": arms, "figures": figures}


def rows_data(board: Row, slugs: Sequence[str], trials_dir: Path) -> dict[str, Any]:
    """For each row of the board its address and how its first trial was made.

    Returns:
        `slugs`; `heads`: per row {seed, config, provenance, measures, timing} or None where no trial is at hand, every
        part of configuration and provenance a place in `parts`, since most rows share them.
    """
    parts: dict[str, int] = {}

    def placed(content: Any) -> Any:
        if not isinstance(content, dict):
            return content
        return {
            key: parts.setdefault(json.dumps(value, sort_keys=True, ensure_ascii=False), len(parts))
            for key, value in content.items()
        }

    heads = []
    for row in board["rows"]:
        head = _head(row["seeds"], trials_dir)
        if head:
            head |= {key: placed(head[key]) for key in ("config", "provenance")}
            head |= {key: _short(head[key]) for key in ("measures", "timing")}
        heads.append(head)
    return {"slugs": list(slugs), "heads": heads, "parts": [json.loads(part) for part in parts]}


def _head(seeds: Sequence[Row], trials_dir: Path) -> dict[str, Any] | None:
    """Configuration and provenance of a row's first trial."""
    for seed in seeds:
        path = trials_dir / seed["trial_key"] / "record.json"
        if seed["status"] in TRIED and path.exists():
            record = json.loads(path.read_text(encoding="utf-8"))
            return {key: record.get(key) for key in ("config", "provenance", "measures", "timing")} | {
                "seed": seed["seed"]
            }
    return None


def _short(content: Any) -> Any:
    """The same with six significant digits: the record itself has them all."""
    if isinstance(content, dict):
        return {key: _short(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_short(value) for value in content]
    return float(f"{content:.6g}") if isinstance(content, float) else content
