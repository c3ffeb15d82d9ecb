"""A grid of small panels on shared scales, for boards of many arms.

All panels live in one pair of axes, each through a transform of its own: matplotlib takes some 30 ms to set up and draw
a pair of axes, and a board of twenty arms would have hundreds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.scale import LogTransform
from matplotlib.ticker import LogLocator, MaxNLocator
from matplotlib.transforms import Affine2D, IdentityTransform, blended_transform_factory

from results.plots.style import GRID, MUTED, WIDE, ArmStyle, compact

COLUMNS = 4
_ROW, _GAP, _LEFT, _BOTTOM, _TITLE = 1.35, 0.16, 0.62, 0.45, 0.28  # inches


@dataclass(frozen=True)
class Panel:
    """One cell of the grid. Draw in it by passing `**panel.where` to a method of its axes."""

    axes: Axes
    where: dict[str, Any]
    left: float
    top: float

    def title(self, style: ArmStyle) -> None:
        """The arm's title, behind a sample of its line."""
        self.axes.plot([self.left, self.left + 0.15], [self.top + 0.1] * 2, linewidth=1.4, **style.line)
        self.axes.text(self.left + 0.21, self.top + 0.1, style.title, va="center", fontsize=7.5, gid=style.gid)


def grid(
    count: int,
    xlim: Sequence[float],
    ylim: Sequence[float],
    x_label: str,
    y_label: str,
    *,
    log_x: bool = False,
    log_y: bool = False,
    ticks: Sequence[float] | None = None,
) -> tuple[Figure, list[Panel]]:
    """`count` panels with the same limits, their grid, ticks and labels drawn.

    Args:
        ticks: x values to mark; round ones otherwise.
    """
    columns = min(COLUMNS, count)
    height = -(-count // columns) * _ROW + _BOTTOM
    figure = Figure(figsize=(WIDE, height))
    FigureCanvasAgg(figure)
    ax = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDE), ylim=(0, height), autoscale_on=False)  # data are inches
    ax.set_axis_off()
    wide, tall = (WIDE - _LEFT - 0.1 + _GAP) / columns - _GAP, _ROW - _TITLE
    scale = blended_transform_factory(*(LogTransform(10) if log else IdentityTransform() for log in (log_x, log_y)))
    (x0, y0), (x1, y1) = scale.transform((xlim[0], ylim[0])), scale.transform((xlim[1], ylim[1]))
    stretch = scale + Affine2D().translate(-x0, -y0).scale(wide / (x1 - x0), tall / (y1 - y0))
    ticks_x = _inside(MaxNLocator(3).tick_values(*xlim) if ticks is None else ticks, xlim)
    ticks_y = _inside((LogLocator(subs=(1, 2, 5)) if log_y else MaxNLocator(3)).tick_values(*ylim), ylim)
    ticks_y = ticks_y[:: 1 + len(ticks_y) // 5]
    at_x = [float(stretch.transform((x, ylim[0]))[0]) for x in ticks_x]
    at_y = [float(stretch.transform((xlim[0], y))[1]) for y in ticks_y]
    panels, rules, frames = [], _Path(), _Path()
    for i in range(count):
        row, column = divmod(i, columns)
        left, low = _LEFT + column * (wide + _GAP), height - (row + 1) * _ROW + 0.06
        transform = stretch + Affine2D().translate(left, low) + ax.transData
        clip = (Path.unit_rectangle(), Affine2D().scale(wide, tall).translate(left, low) + ax.transData)
        panels.append(Panel(ax, {"transform": transform, "clip_path": clip}, left, low + tall))
        frames.add((left, low + tall), (left, low), (left + wide, low))
        for x, value in zip(at_x, ticks_x, strict=True):
            rules.add((left + x, low), (left + x, low + tall))
            if i + columns >= count:
                side = "left" if x < 0.1 else "right" if x > wide - 0.1 else "center"  # neighbours must not touch
                ax.text(left + x, low - 0.05, compact(value), ha=side, va="top", fontsize=7.5, color=MUTED)
        for y, value in zip(at_y, ticks_y, strict=True):
            rules.add((left, low + y), (left + wide, low + y))
            if column == 0:
                ax.text(left - 0.05, low + y, compact(value), ha="right", va="center", fontsize=7.5, color=MUTED)
    ax.plot(*rules.points, color=GRID, linewidth=0.6, zorder=0.6)
    ax.plot(*frames.points, color=MUTED, linewidth=0.6, zorder=0.7)
    ax.text(WIDE / 2, 0.05, x_label, ha="center", va="bottom", color=MUTED)
    ax.text(0.04, height / 2, y_label, rotation=90, ha="left", va="center", color=MUTED)
    return figure, panels


class _Path:
    """Many polylines as one line with gaps."""

    def __init__(self) -> None:
        self.points: tuple[list[float], list[float]] = ([], [])

    def add(self, *points: tuple[float, float]) -> None:
        for x, y in (*points, (np.nan, np.nan)):
            self.points[0].append(x)
            self.points[1].append(y)


def _inside(ticks: Sequence[float], limits: Sequence[float]) -> list[float]:
    return [float(tick) for tick in ticks if limits[0] <= tick <= limits[1]]
