"""Curves over training: held-out loss against tokens and time, its difference to the baseline, MaxVio against step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from results.plots.aggregate import over_seeds
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
    outer_labels,
    panel_title,
    panels,
    themed,
)

LOSS = "held-out loss (nats/token)"


@dataclass(frozen=True)
class _View:
    """What one kind of curve shows and how its axes are scaled."""

    x: str
    y: str
    x_label: str
    y_label: str
    settled: float = 0.0  # the y scale is set by what happens after this share of training
    log: bool = False
    include: float | None = None  # a level that the y axis must reach
    behind: Callable[[Axes], None] = field(default=lambda ax: None)


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


@themed
def difference_against_tokens(evaluations: pd.DataFrame, styles: Mapping[str, ArmStyle], reference: str) -> Figure:
    """Difference in held-out loss to `reference` at the same step and seed, against tokens; lower is better."""
    base = evaluations.loc[evaluations["arm"] == reference, ["seed", "step", "val_loss"]]
    paired = evaluations[evaluations["arm"] != reference].merge(base, on=["seed", "step"], suffixes=("", "_base"))
    paired["difference"] = paired["val_loss"] - paired["val_loss_base"]

    def zero(ax: Axes) -> None:
        ax.axhline(0, color=INK, linewidth=0.8)

    view = _View("tokens", "difference", "training tokens", "difference (nats/token)", 0.3, behind=zero)
    return _draw(paired, styles, reference, view)


@themed
def max_vio_against_step(
    curves: pd.DataFrame, styles: Mapping[str, ArmStyle], reference: str, noise_floor: float | None
) -> Figure:
    """MaxVio of a step's batch, mean over layers, against step, on a logarithmic scale.

    Args:
        curves: columns arm, seed, diverged, step, max_vio.
        noise_floor: MaxVio under i.i.d. balanced routing with as many tokens: a band (None: not drawn).
    """

    def floor(ax: Axes) -> None:
        if noise_floor:
            ax.axhspan(1e-9, noise_floor, color=BAND, linewidth=0, zorder=0)
            ax.annotate("noise floor", (0, noise_floor), xycoords=("axes fraction", "data"), xytext=(3, -2),
                        textcoords="offset points", va="top", fontsize=6.5, color=MUTED)  # fmt: skip

    view = _View("step", "max_vio", "step", "MaxVio", log=True, behind=floor, include=noise_floor or None)
    return _draw(curves, styles, reference, view)


def _draw(curves: pd.DataFrame, styles: Mapping[str, ArmStyle], reference: str, view: _View) -> Figure:
    """One pair of axes with labels beside the lines, or a panel per arm over the reference where there are many."""
    means = {str(arm): rows for arm, rows in over_seeds(curves, view.x, view.y).groupby("arm", observed=True)}
    diverged = curves[curves["diverged"].astype(bool)].dropna(subset=[view.y])
    broken = {str(arm): rows for arm, rows in diverged.groupby("arm", observed=True)}
    arms = [arm for arm in styles if arm in means or arm in broken]
    if len(arms) <= OVERLAY:
        figure, ax = canvas(NARROW, 3.1, right=0.2 + label_width([styles[arm].title for arm in arms]), left=0.55)
        ax.set(xlabel=view.x_label, ylabel=view.y_label)
        _scale(ax, means, view, ticks=5)
        view.behind(ax)
        for arm in arms:
            _line(ax, styles[arm], means.get(arm), broken.get(arm), view)
        ends = [(styles[arm], *means[arm][["x", "mean"]].iloc[-1]) for arm in arms if arm in means]
        ends += [(styles[arm], *broken[arm][[view.x, view.y]].iloc[-1]) for arm in arms if arm not in means]
        label_lines(ax, ends)
        return figure
    shown = [arm for arm in arms if arm != reference]
    figure, axes = panels(len(shown), left=0.62)
    outer_labels(figure, view.x_label, view.y_label)
    _scale(axes[0], means, view, ticks=3)
    for arm, ax in zip(shown, axes, strict=True):
        view.behind(ax)
        if reference in means:
            ax.plot(means[reference]["x"], means[reference]["mean"], color=MUTED, linewidth=0.8)
        _line(ax, styles[arm], means.get(arm), broken.get(arm), view)
        panel_title(ax, styles[arm])
    return figure


def _line(ax: Axes, style: ArmStyle, mean: pd.DataFrame | None, broken: pd.DataFrame | None, view: _View) -> None:
    if mean is not None:
        ax.fill_between(mean["x"], mean["low"], mean["high"], alpha=0.16, linewidth=0, **style.paint)
        ax.plot(mean["x"], mean["mean"], **style.line)
    if broken is not None:
        for _, run in broken.groupby("seed"):
            ax.plot(run[view.x], run[view.y], linewidth=0.7, **style.line)
            ax.plot(run[view.x].iloc[-1], run[view.y].iloc[-1], marker="x", markersize=5, **style.paint)


def _scale(ax: Axes, means: Mapping[str, pd.DataFrame], view: _View, ticks: int) -> None:
    if not means:
        return
    rows = pd.concat(means.values())
    ax.set_xlim(float(rows["x"].min()), float(rows["x"].max()))
    late = rows[rows["step"] >= view.settled * rows["step"].max()]
    calm_ticks(ax, ticks)
    if view.log:
        positive = late.loc[late["mean"] > 0, "mean"]
        levels = [*positive, *([view.include] if view.include else [])] or [1.0]
        low, high = min(levels), max(levels)
        ax.set_yscale("log")
        ax.set_ylim(low / 1.5, high * 1.5)
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 100 else (1,)))
        ax.yaxis.set_minor_locator(NullLocator())
        ax.yaxis.set_major_formatter(compact)
        return
    low, high = float(late["low"].min()), float(np.nanpercentile(late["high"], 99.5))
    pad = 0.06 * (high - low or 1.0)
    ax.set_ylim(low - pad, high + pad)
