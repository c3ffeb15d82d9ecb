"""Curves over training: held-out loss against tokens and time, its difference to the baseline, MaxVio against step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from results.plots.aggregate import over_seeds
from results.plots.panels import grid
from results.plots.style import (
    BAND,
    INK,
    MUTED,
    NARROW,
    OVERLAY,
    ArmStyle,
    calm_ticks,
    canvas,
    compact,
    label_lines,
    label_width,
    themed,
)

LOSS, CHANGE = "held-out loss (nats/token)", "difference (nats/token)"


@dataclass(frozen=True)
class _View:
    """What one kind of curve shows and how its axes are scaled."""

    x: str
    y: str
    x_label: str
    y_label: str
    settled: float = 0.0  # the y scale is set by what happens after this share of training
    log: bool = False
    zero: bool = False  # rule a line at zero
    floor: float | None = None  # shade what lies below this level


@themed
def loss_against_tokens(evaluations: pd.DataFrame, styles: Mapping[str, ArmStyle], reference: str) -> Figure:
    """Held-out loss (nats/token) against training tokens, mean over seeds with a 95 % t interval.

    Args:
        evaluations: columns arm, seed, diverged, step, tokens, val_loss; one row per evaluation.
        reference: the arm that stands in every panel when there are too many arms for one.
    """
    return _draw(evaluations, styles, reference, _View("tokens", "val_loss", "training tokens", LOSS, 0.3))


@themed
def loss_against_time(evaluations: pd.DataFrame, styles: Mapping[str, ArmStyle], reference: str) -> Figure:
    """Held-out loss (nats/token) against training time in seconds, as `loss_against_tokens`."""
    return _draw(evaluations, styles, reference, _View("seconds", "val_loss", "training time (s)", LOSS, 0.3))


def differences(evaluations: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Difference in held-out loss to `reference` at the same step and seed; columns as given and `difference`."""
    base = evaluations.loc[evaluations["arm"] == reference, ["seed", "step", "val_loss"]]
    paired = evaluations[evaluations["arm"] != reference].merge(base, on=["seed", "step"], suffixes=("", "_base"))
    paired["difference"] = paired["val_loss"] - paired["val_loss_base"]
    return paired


@themed
def difference_against_tokens(paired: pd.DataFrame, styles: Mapping[str, ArmStyle], reference: str) -> Figure:
    """`differences` against tokens; lower is better."""
    return _draw(paired, styles, reference, _View("tokens", "difference", "training tokens", CHANGE, 0.3, zero=True))


@themed
def max_vio_against_step(
    curves: pd.DataFrame, styles: Mapping[str, ArmStyle], reference: str, noise_floor: float | None
) -> Figure:
    """MaxVio of a step's batch, mean over layers, against step, on a logarithmic scale.

    Args:
        curves: columns arm, seed, diverged, step, max_vio.
        noise_floor: MaxVio under i.i.d. balanced routing with as many tokens: a band (None: not drawn).
    """
    return _draw(curves, styles, reference, _View("step", "max_vio", "step", "MaxVio", log=True, floor=noise_floor))


def _draw(curves: pd.DataFrame, styles: Mapping[str, ArmStyle], reference: str, view: _View) -> Figure:
    """One pair of axes with labels beside the lines, or a panel per arm over the reference where there are many."""
    means = {str(arm): rows for arm, rows in over_seeds(curves, view.x, view.y).groupby("arm", observed=True)}
    diverged = curves[curves["diverged"].astype(bool)].dropna(subset=[view.y])
    broken = {str(arm): rows for arm, rows in diverged.groupby("arm", observed=True)}
    arms = [arm for arm in styles if arm in means or arm in broken]
    xlim, ylim = _limits(pd.concat(means.values()) if means else _alone(diverged, view), view)
    if view.log:  # what is balanced perfectly lies on the lower edge
        means = {arm: _raised(rows, ("mean", "low", "high"), ylim[0]) for arm, rows in means.items()}
        broken = {arm: _raised(rows, (view.y,), ylim[0]) for arm, rows in broken.items()}
    if len(arms) > OVERLAY:
        shown = [arm for arm in arms if arm != reference]
        figure, panels = grid(len(shown), xlim, ylim, view.x_label, view.y_label, log_y=view.log)
        for arm, panel in zip(shown, panels, strict=True):
            _behind(panel.axes, xlim, ylim, view, panel.where)
            if reference in means:
                _plot(panel.axes, means[reference], panel.where, color=MUTED, linewidth=0.8)
            _line(panel.axes, styles[arm], means.get(arm), broken.get(arm), view, panel.where)
            panel.title(styles[arm])
        return figure
    figure, ax = canvas(NARROW, 3.1, right=0.2 + label_width([styles[arm].title for arm in arms]), left=0.68)
    ax.set(xlabel=view.x_label, ylabel=view.y_label, xlim=xlim, ylim=ylim)
    calm_ticks(ax)
    if view.log:
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if ylim[1] / ylim[0] < 200 else (1,)))
        ax.yaxis.set_minor_locator(NullLocator())
        ax.yaxis.set_major_formatter(compact)
    _behind(ax, xlim, ylim, view, {})
    for arm in arms:
        _line(ax, styles[arm], means.get(arm), broken.get(arm), view, {})
    if view.floor:
        ax.annotate("noise floor", (0, view.floor), xycoords=("axes fraction", "data"), xytext=(3, -2),
                    textcoords="offset points", va="top", fontsize=6.5, color=MUTED)  # fmt: skip
    ends = [(styles[arm], *means[arm][["x", "mean"]].iloc[-1]) for arm in arms if arm in means]
    ends += [(styles[arm], *broken[arm][[view.x, view.y]].iloc[-1]) for arm in arms if arm not in means]
    label_lines(ax, ends)
    return figure


def _behind(ax: Axes, xlim: tuple[float, float], ylim: tuple[float, float], view: _View, where: dict[str, Any]) -> None:
    if view.zero:
        ax.plot(xlim, [0, 0], color=INK, linewidth=0.8, **where)
    if view.floor:
        ax.fill_between(xlim, ylim[0], view.floor, color=BAND, linewidth=0, zorder=0, **where)


def _line(ax: Axes, style: ArmStyle, mean: pd.DataFrame | None, broken: pd.DataFrame | None, view: _View,
          where: dict[str, Any]) -> None:  # fmt: skip
    if mean is not None:
        ax.fill_between(mean["x"], mean["low"], mean["high"], alpha=0.16, linewidth=0, **style.paint, **where)
        _plot(ax, mean, where, **style.line)
    if broken is not None:
        for _, run in broken.groupby("seed"):
            ax.plot(run[view.x], run[view.y], linewidth=0.7, **style.line, **where)
            ax.plot(run[view.x].iloc[-1], run[view.y].iloc[-1], marker="x", markersize=5, **style.paint, **where)


def _plot(ax: Axes, mean: pd.DataFrame, where: dict[str, Any], **look: Any) -> None:
    ax.plot(mean["x"], mean["mean"], **look, **where)


def _raised(rows: pd.DataFrame, columns: Sequence[str], floor: float) -> pd.DataFrame:
    return rows.assign(**{column: rows[column].clip(lower=floor) for column in columns})


def _alone(runs: pd.DataFrame, view: _View) -> pd.DataFrame:
    """Single runs in the form of means, for a scale where no run finished."""
    y = runs[view.y]
    return pd.DataFrame({"step": runs["step"], "x": runs[view.x], "mean": y, "low": y, "high": y})


def _limits(rows: pd.DataFrame, view: _View) -> tuple[tuple[float, float], tuple[float, float]]:
    """What the axes span; defined also where nothing varies."""
    left, right = float(rows["x"].min()), float(rows["x"].max())
    late = rows[rows["step"] >= view.settled * rows["step"].max()]
    if view.log:
        levels = [*late.loc[late["mean"] > 0, "mean"], *([view.floor] if view.floor else [])] or [1.0]
        low, high = float(min(levels)) / 1.5, float(max(levels)) * 1.5
    else:
        low, high = float(late["low"].min()), float(np.nanpercentile(late["high"], 99.5))
        pad = 0.06 * (high - low) or 0.01
        low, high = low - pad, high + pad
    return (left, right if right > left else left + 1), (low, high)
