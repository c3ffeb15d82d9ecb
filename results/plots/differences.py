"""Paired differences to the baseline as a forest plot: the figure a board leads with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from results.plots.style import BAND, GRID, INK, MUTED, ArmStyle, calm_ticks, canvas, label_width, themed

WIDTH = 4.9  # inches
_ROW = 0.25
MARK = "mean paired difference"
FILLED = ("better", "worse", "tie")  # verdicts: a hollow point says that there is none


@dataclass(frozen=True)
class Difference:
    """One arm against the baseline."""

    arm: str
    mean: float | None  # nats/token; None: no pair finished
    low: float | None  # 95 % interval
    high: float | None
    n: int  # paired seeds
    verdict: str


@themed
def forest(
    differences: Sequence[Difference],
    styles: Mapping[str, ArmStyle],
    margin: float | None,
    aa: tuple[float, float] | None,
) -> Figure:
    """Mean paired difference in held-out loss (nats/token) with its 95 % interval, one row per arm, in the given order.

    Args:
        margin: the practical margin; drawn as a band around zero.
        aa: interval of the baseline against itself with other seeds; drawn as a hatched band.
    """
    rows = max(len(differences), 1)
    left = 0.15 + label_width([styles[d.arm].title for d in differences], 8)
    right = 0.25 + label_width([f"{d.verdict}, n = {d.n}" for d in differences])
    figure, ax = canvas(WIDTH, 0.75 + _ROW * rows, left=left, right=right, bottom=0.45, top=0.3)
    ends = [v for d in differences for v in (d.low, d.high, d.mean) if v is not None]
    ends += [v for v in (margin, -margin) if v is not None] if margin is not None else []
    ends += list(aa or ())
    reach = 1.08 * max((abs(v) for v in ends), default=0.01) or 0.01
    ax.set(xlim=(-reach, reach), ylim=(rows - 0.4, -0.6), xlabel="difference to the baseline (nats/token)")
    if margin:
        ax.axvspan(-margin, margin, color=BAND, linewidth=0, zorder=0)
    if aa:
        ax.axvspan(*aa, facecolor="none", edgecolor=GRID, hatch="/////", linewidth=0, zorder=0.5)
    ax.axvline(0, color=INK, linewidth=0.8)
    _header(ax, "lower loss  ←", -4, "right")
    _header(ax, "→  higher loss", 4, "left")
    for row, difference in enumerate(differences):
        style = styles[difference.arm]
        ax.text(-0.07 / (WIDTH - left - right), row, style.title, transform=ax.get_yaxis_transform(), ha="right",
                va="center", fontsize=8, gid=style.gid)  # fmt: skip
        ax.text(1.02, row, f"{difference.verdict}, n = {difference.n}", transform=ax.get_yaxis_transform(), va="center",
                fontsize=7.5, color=INK if difference.verdict in FILLED else MUTED)  # fmt: skip
        if difference.mean is None:
            ax.text(0, row, "no pair finished", ha="center", va="center", fontsize=7, color=MUTED)
            continue
        if difference.low is not None and difference.high is not None:
            ax.plot([difference.low, difference.high], [row, row], linewidth=1.6, **style.paint)
        ax.plot(difference.mean, row, marker=style.marker, markersize=5, markeredgewidth=1.2, **style.paint,
                markerfacecolor=style.color if difference.verdict in FILLED else "none")  # fmt: skip
    ax.grid(False, axis="y")
    calm_ticks(ax)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    return figure


def _header(ax: Axes, text: str, offset: float, align: str) -> None:
    ax.annotate(text, (0, 1), xycoords=("data", "axes fraction"), xytext=(offset, 5), textcoords="offset points",
                ha=align, va="bottom", fontsize=7, color=MUTED)  # fmt: skip
