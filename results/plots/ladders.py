"""Differences to the baseline along a ladder of tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from results.plots.panels import grid
from results.plots.style import INK, NARROW, OVERLAY, ArmStyle, calm_ticks, canvas, label_lines, label_width, themed

_BESIDE = 1.15  # how far the axis goes beyond its first and last number, as a factor
Ends = Sequence[tuple[float, float]]


@themed
def draw(
    numbers: Sequence[float],
    means: Mapping[str, Sequence[float]],
    ends: Mapping[str, Ends],
    styles: Mapping[str, ArmStyle],
    labels: tuple[str, str],
) -> Figure:
    """One line per arm over the numbers of the ladder, on a logarithmic axis, each point with its interval.

    Args:
        means: arm → mean difference at each number, nats/token.
        ends: arm → its 95 % interval at each number.
        labels: of the x and the y axis.
    """
    arms = [arm for arm in styles if arm in means]
    reached = [0.0, *(value for arm in arms for pair in ends[arm] for value in pair)]
    room = 0.06 * (max(reached) - min(reached))
    xlim, ylim = (numbers[0] / _BESIDE, numbers[-1] * _BESIDE), (min(reached) - room, max(reached) + room)
    if len(arms) > OVERLAY:
        figure, panels = grid(len(arms), xlim, ylim, *labels, log_x=True, ticks=numbers)
        for arm, panel in zip(arms, panels, strict=True):
            panel.axes.plot(xlim, (0, 0), color=INK, linewidth=0.8, **panel.where)
            _line(panel.axes, numbers, means[arm], ends[arm], styles[arm], panel.where)
            panel.title(styles[arm])
        return figure
    figure, ax = canvas(NARROW, 3.1, left=0.65, right=0.2 + label_width([styles[arm].title for arm in arms]))
    ax.axhline(0, color=INK, linewidth=0.8)
    for arm in arms:
        _line(ax, numbers, means[arm], ends[arm], styles[arm], {})
    ax.set(xlabel=labels[0], ylabel=labels[1], xscale="log", xlim=xlim, ylim=ylim)
    calm_ticks(ax)
    ax.set_xticks(list(numbers), [f"{number:g}" for number in numbers])
    ax.set_xticks([], minor=True)
    label_lines(ax, [(styles[arm], numbers[-1], means[arm][-1]) for arm in arms])
    return figure


def _line(
    ax: Axes, numbers: Sequence[float], mean: Sequence[float], ends: Ends, style: ArmStyle, where: Mapping[str, Any]
) -> None:
    ax.plot(numbers, mean, **style.line, **where)
    ax.plot(numbers, mean, markersize=3, **style.point, **where)
    for number, pair in zip(numbers, ends, strict=True):
        ax.plot((number, number), pair, linewidth=1.2, **style.paint, **where)
