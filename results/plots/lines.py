"""Plain lines, one per arm: together with labels beside them, or where there are many a panel each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from results.plots.panels import grid
from results.plots.style import MUTED, NARROW, OVERLAY, ArmStyle, calm_ticks, canvas, label_lines, label_width

Side = Literal["left", "right"]


def draw_lines(
    x: Sequence[float],
    lines: Mapping[str, Sequence[float]],
    styles: Mapping[str, ArmStyle],
    reference: str,
    labels: tuple[str, str],
    ylim: tuple[float, float],
    *,
    log_x: bool = False,
    ticks: Sequence[float] | None = None,
    side: Side = "right",
    at: int = -1,
    look: Mapping[str, Any] | None = None,
) -> Figure:
    """One line per arm against a shared x.

    Args:
        x: (G,), increasing.
        lines: arm → (G,).
        reference: stands in grey in every panel.
        labels: of the x and the y axis.
        ticks: x values to mark; matplotlib's choice otherwise.
        side: where titles stand; the y axis takes the other side when they stand left.
        at: index of the point a title is level with.
        look: further properties of the lines.
    """
    arms = [arm for arm in styles if arm in lines]
    xlim, extra = (x[0], x[-1]), dict(look or {})
    if len(arms) > OVERLAY:
        shown = [arm for arm in arms if arm != reference]
        figure, panels = grid(len(shown), xlim, ylim, *labels, log_x=log_x, ticks=ticks)
        for arm, panel in zip(shown, panels, strict=True):
            if reference in lines:
                panel.axes.plot(x, lines[reference], color=MUTED, linewidth=0.8, **extra, **panel.where)
            panel.axes.plot(x, lines[arm], **styles[arm].line, **extra, **panel.where)
            panel.title(styles[arm])
        return figure
    room = 0.2 + label_width([styles[arm].title for arm in arms])
    figure, ax = canvas(NARROW, 3.1, left=room if side == "left" else 0.55, right=0.55 if side == "left" else room)
    if side == "left":
        _axis_right(ax)
    for arm in arms:
        ax.plot(x, lines[arm], **styles[arm].line, **extra)
    ax.set(xlabel=labels[0], ylabel=labels[1], xscale="log" if log_x else "linear", ylim=ylim)
    ax.margins(x=0.03)
    calm_ticks(ax)
    if ticks is not None:
        ax.set_xticks(list(ticks), [f"{tick:g}" for tick in ticks])
        ax.set_xticks([], minor=True)
    label_lines(ax, [(styles[arm], x[at], lines[arm][at]) for arm in arms], left=side == "left")
    return figure


def _axis_right(ax: Axes) -> None:
    ax.spines[["left", "right"]].set_visible(False)
    ax.spines["right"].set_visible(True)
    ax.yaxis.tick_right()
    ax.yaxis.set_label_position("right")
