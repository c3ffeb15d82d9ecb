"""Differences to the baseline along a ladder of tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from results.plots.lines import draw_lines
from results.plots.style import ArmStyle, themed


@themed
def draw(
    numbers: Sequence[float],
    means: Mapping[str, Sequence[float]],
    ends: Mapping[str, Sequence[tuple[float, float]]],
    styles: Mapping[str, ArmStyle],
    labels: tuple[str, str],
    ylim: tuple[float, float],
) -> Figure:
    """One line per arm over the numbers of the ladder, on a logarithmic axis, each point with its interval.

    Args:
        means: arm → mean difference at each number, nats/token.
        ends: arm → its 95 % interval at each number.
        labels: of the x and the y axis.
    """
    return draw_lines(numbers, means, styles, "", labels, ylim, log_x=True, ticks=numbers, whiskers=ends)
