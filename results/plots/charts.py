"""What the page draws from: the numbers of a figure, rounded to what a screen can show, arms by their index.

Each function returns a JSON object of one of the kinds that `templates/kinds.js` draws: lines, rows, points, heat,
panels. Shapes: N points of a curve, E experts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from results.plots.aggregate import over_seeds
from results.plots.style import ArmStyle

Chart = dict[str, Any]
Styles = Mapping[str, ArmStyle]
LEVELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
STRIP_LINES = 32  # lines of a strip of the heatmap: neighbours in order of load share one beyond
PANEL_POINTS = 32


def rounded(values: Iterable[float], digits: int = 5) -> list[float | None]:
    """Values to so many significant digits; None for what is not finite."""
    return [_round(value, digits) for value in values]


def _round(value: float | None, digits: int = 5) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    short = float(f"{value:.{digits}g}")
    return int(short) if short.is_integer() else short


def over_training(
    curves: pd.DataFrame, styles: Styles, x: str, y: str, *, labels: tuple[str, str], x_unit: str, **look: Any
) -> Chart:
    """Mean over seeds with its band, and single runs that diverged; columns as `aggregate.over_seeds` wants them.

    Args:
        labels: of the axes.
        x_unit: of x, as the cursor says it.
        look: further properties of the chart.
    """
    chart = _Lines()
    means = {str(arm): rows for arm, rows in over_seeds(curves, x, y).groupby("arm", observed=True)}
    lost = curves[curves["diverged"].astype(bool)].dropna(subset=[y])
    for arm, style in styles.items():
        if arm in means:
            own = means[arm]
            down, up = own["mean"] - own["low"], own["high"] - own["mean"]
            band = {"down": rounded(down, 2), "up": rounded(up, 2)} if own["n"].max() > 1 else {}
            chart.add(style.index, own["x"], own["mean"], **band)
        for _, run in lost[lost["arm"] == arm].groupby("seed"):
            chart.add(style.index, run[x], run[y], lost=True)
    return chart.content | {"xLabel": labels[0], "yLabel": labels[1], "xUnit": x_unit} | look


def lines(
    x: Sequence[float], values: Mapping[str, Sequence[float]], styles: Styles, labels: tuple[str, str], x_unit: str,
    intervals: Mapping[str, Sequence[tuple[float, float]]] | None = None, **look: Any,
) -> Chart:  # fmt: skip
    """One line per arm against a shared x, with each point's interval as a band; arms without values are left out."""
    chart = _Lines()
    for arm, style in styles.items():
        if len(values.get(arm, ())):
            ends = list(zip(values[arm], intervals[arm], strict=True)) if intervals else []
            down, up = [y - low for y, (low, _) in ends], [high - y for y, (_, high) in ends]
            band = {"down": rounded(down, 2), "up": rounded(up, 2)} if ends else {}
            chart.add(style.index, x, values[arm], **band)
    return chart.content | {"xLabel": labels[0], "yLabel": labels[1], "xUnit": x_unit} | look


class _Lines:
    """A chart of lines under way: equal x are kept once."""

    def __init__(self) -> None:
        self.content: Chart = {"kind": "lines", "xs": [], "series": []}

    def add(self, arm: int, x: Iterable[float], y: Iterable[float], **more: Any) -> None:
        pairs = [(a, b) for a, b in zip(x, y, strict=True) if math.isfinite(b)]
        if not pairs:
            return
        places = rounded(a for a, _ in pairs)
        if places not in self.content["xs"]:
            self.content["xs"].append(places)
        self.content["series"].append(
            {"arm": arm, "x": self.content["xs"].index(places), "y": rounded(b for _, b in pairs), **more}
        )


def rows(entries: Sequence[tuple[int, Sequence[Sequence[float | None] | None], str, bool]], marks: Sequence[str],
         label: str, **look: Any) -> Chart:  # fmt: skip
    """One row per arm.

    Args:
        entries: arm's index; per mark its value, alone or with its interval, or None; a note; whether marks are hollow.
        marks: what each mark is.
    """
    shown = [
        {"arm": arm, "marks": [None if mark is None else [_round(v) for v in mark] for mark in values]}
        | ({"note": note} if note else {})
        | ({"hollow": True} if hollow else {})
        for arm, values, note, hollow in entries
    ]
    return {"kind": "rows", "marks": list(marks), "rows": shown, "xLabel": label} | look


def points(trials: pd.DataFrame, families: Sequence[Sequence[str]], styles: Styles, floor: float | None,
           labels: tuple[str, str]) -> Chart:  # fmt: skip
    """Trials and their means; columns arm, seed, max_vio, val_loss."""
    shown = [
        {"arm": styles[str(arm)].index, "x": _round(own["max_vio"].mean()), "y": _round(own["val_loss"].mean()),
         "xs": rounded(own["max_vio"], 3), "ys": rounded(own["val_loss"]), "seeds": [int(seed) for seed in own["seed"]]}
        for arm, own in trials.groupby("arm", sort=False, observed=True)
    ]  # fmt: skip
    joined = [[styles[arm].index for arm in family if arm in styles] for family in families]
    look = {"floor": _round(floor)} if floor else {}
    return {"kind": "points", "points": shown, "joined": joined, "xLabel": labels[0], "yLabel": labels[1]} | look


def heat(loads: Mapping[str, np.ndarray], steps: np.ndarray, styles: Styles, reach: float) -> Chart:
    """Load over ideal (N, E) of each arm, experts sorted by their load at the end, heaviest first.

    The heaviest and the lightest expert keep a line of their own; between them neighbours share one where there are
    more than `STRIP_LINES`. Levels are log2 of the ratio within ± `reach`, one of 64 characters each.
    """
    strips = []
    for arm, style in styles.items():
        if arm not in loads:
            continue
        load_NE = loads[arm]
        order = np.argsort(load_NE[-max(1, len(load_NE) // 10) :].mean(0), kind="stable")[::-1]
        lines_LN = _merged(load_NE[:, order].T)
        level = np.clip(np.log2(np.maximum(lines_LN, 2.0**-10)) / reach, -1, 1)
        places = np.rint((level + 1) / 2 * (len(LEVELS) - 1)).astype(int)
        text = "".join(LEVELS[place] for place in places.ravel())
        strips.append({"arm": style.index, "lines": len(lines_LN), "levels": text})
    return {"kind": "heat", "steps": rounded(steps), "reach": reach, "strips": strips}


def _merged(load_EN: np.ndarray) -> np.ndarray:
    if len(load_EN) <= STRIP_LINES:
        return load_EN
    edges = np.linspace(1, len(load_EN) - 1, STRIP_LINES - 1).round().astype(int)
    middle = [load_EN[low:high].mean(0) for low, high in pairwise(edges)]
    return np.vstack([load_EN[:1], *(line[None] for line in middle), load_EN[-1:]])


def panels(biases: Mapping[str, np.ndarray], steps: np.ndarray, styles: Styles, experts: int) -> Chart:
    """The range of biases (N, E) over experts, and `experts` single ones from lowest to highest at the end."""
    kept = np.unique(np.linspace(0, len(steps) - 1, min(PANEL_POINTS, len(steps))).round().astype(int))
    shown = []
    for arm, style in styles.items():
        if arm not in biases:
            continue
        bias_NE = biases[arm][kept[kept < len(biases[arm])]]
        ranked = np.argsort(bias_NE[-1], kind="stable")
        places = np.linspace(0, len(ranked) - 1, min(experts, len(ranked))).round().astype(int)
        single = [rounded(bias_NE[:, ranked[place]], 3) for place in places]
        shown.append(
            {"arm": style.index, "low": rounded(bias_NE.min(1), 3), "high": rounded(bias_NE.max(1), 3), "lines": single}
        )
    return {"kind": "panels", "steps": rounded(steps[kept]), "panels": shown}
