"""Over all tasks: mean rank, probability of improvement, performance profile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from results.plots.lines import draw_lines
from results.plots.style import INK, WIDE, ArmStyle, calm_ticks, label_width, themed

_ROW = 0.24  # inches


@themed
def summary(arms: Mapping[str, Mapping[str, Any]], styles: Mapping[str, ArmStyle]) -> Figure:
    """Mean rank and probability of improvement over the baseline, each with its 95 % bootstrap interval, best first.

    Args:
        arms: arm → mean_rank, rank_low, rank_high, improvement, improvement_low, improvement_high; None where unknown.
    """
    order = sorted((a for a in styles if a in arms and arms[a]["mean_rank"] is not None),
                   key=lambda arm: arms[arm]["mean_rank"])  # fmt: skip
    left = 0.2 + label_width([styles[arm].title for arm in order], 8)
    height = 0.65 + _ROW * len(order)
    figure = Figure(figsize=(WIDE, height))
    FigureCanvasAgg(figure)
    each = (WIDE - left - 0.6) / 2
    for column, (key, low, high, words) in enumerate((
        ("mean_rank", "rank_low", "rank_high", "mean rank (1 is best)"),
        ("improvement", "improvement_low", "improvement_high", "probability of a lower loss than the baseline"),
    )):  # fmt: skip
        ax = figure.add_axes(
            ((left + column * (each + 0.4)) / WIDE, 0.45 / height, each / WIDE, (height - 0.55) / height)
        )
        for row, arm in enumerate(order):
            style, entry = styles[arm], arms[arm]
            if column == 0:
                ax.text(-0.07 / each, row, style.title, transform=ax.get_yaxis_transform(), ha="right", va="center",
                        fontsize=8, gid=style.gid)  # fmt: skip
            if entry[key] is None:
                continue
            if entry[low] is not None:
                ax.plot([entry[low], entry[high]], [row, row], linewidth=1.6, **style.paint)
            ax.plot(entry[key], row, markersize=5, **style.point)
        ax.set(ylim=(len(order) - 0.4, -0.6), xlabel=words)
        calm_ticks(ax)
        ax.set_yticks([])
        ax.spines["left"].set_visible(False)
        if key == "improvement":
            ax.set_xlim(-0.02, 1.02)
            ax.axvline(0.5, color=INK, linewidth=0.8)
    return figure


@themed
def performance_profile(
    excess: Sequence[float], shares: Mapping[str, Sequence[float]], styles: Mapping[str, ArmStyle], reference: str
) -> Figure:
    """Share of an arm's trials whose loss exceeds the best arm's mean on the task by no more than each excess.

    Args:
        excess: (G,), nats/token.
        shares: arm → (G,), 0 … 1; empty where an arm has no trial.
    """
    percent = {arm: [100 * share for share in own] for arm, own in shares.items() if own}
    labels = ("loss above the best arm's mean (nats/token)", "trials (%)")
    look = {"drawstyle": "steps-post"}
    return draw_lines(excess, percent, styles, reference, labels, (0, 103), at=len(excess) // 2, look=look)
