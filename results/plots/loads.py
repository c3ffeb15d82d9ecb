"""Expert × step load heatmaps: load over ideal, 1.0 neutral, one strip per arm."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgb
from matplotlib.figure import Figure

from results.plots.style import MUTED, WIDE, ArmStyle, canvas, compact, label_width, themed

REACH = 2.0  # log2 of the ratio at which colours end: a quarter and four times the ideal load
_BELOW, _ABOVE = "#3b7dd8", "#d4621f"
# Balance is transparent, so that it is the page itself in either theme.
DIVERGING = LinearSegmentedColormap.from_list(
    "load", [(place, (*to_rgb(color), alpha)) for place, color, alpha in
             ((0.0, _BELOW, 1.0), (0.5, _BELOW, 0.0), (0.5, _ABOVE, 0.0), (1.0, _ABOVE, 1.0))]
)  # fmt: skip


@themed
def load_heatmap(loads: Mapping[str, np.ndarray], steps: np.ndarray, styles: Mapping[str, ArmStyle]) -> Figure:
    """Load of every expert over training in one layer, one strip per arm, experts sorted by their load at the end.

    Args:
        loads: arm → (N, E), load / ideal, one seed.
        steps: (N,), the last step of each column of the longest run.
    """
    arms = [arm for arm in styles if arm in loads]
    left = 0.2 + label_width([styles[arm].title for arm in arms], 8)
    strip = 0.52 if len(arms) <= 10 else 0.38
    right, top, bottom, gap = 0.85, 0.1, 0.45, 0.08
    figure, ax = canvas(WIDE, top + bottom + strip * len(arms), left=left, right=right, top=top, bottom=bottom)
    for row, arm in enumerate(arms):
        load_NE = loads[arm]
        order = np.argsort(load_NE[-max(1, len(load_NE) // 10) :].mean(0))[::-1]
        ratio_EN = np.log2(np.maximum(load_NE[:, order].T, 2.0**-10))
        ax.imshow(ratio_EN, cmap=DIVERGING, norm=Normalize(-REACH, REACH), aspect="auto", interpolation="none",
                  extent=(0, steps[len(load_NE) - 1], row + 1 - gap, row + gap), zorder=2)  # fmt: skip
        style = styles[arm]
        ax.text(-0.1 / (WIDE - left - right), row + 0.5, style.title, transform=ax.get_yaxis_transform(), ha="right",
                va="center", fontsize=8, gid=style.gid)  # fmt: skip
    ax.set(xlim=(0, steps[-1]), ylim=(len(arms), 0), yticks=[], xlabel="step")
    ax.xaxis.set_major_formatter(compact)
    ax.grid(False)
    ax.spines["left"].set_visible(False)
    _key(figure, ax.get_position().y0, ax.get_position().y1, right)
    return figure


def _key(figure: Figure, low: float, high: float, right: float) -> None:
    width, height = figure.get_figwidth(), figure.get_figheight()
    tall = min(high - low, 1.6 / height)
    key = figure.add_axes((1 - (right - 0.2) / width, high - tall, 0.1 / width, tall))
    key.imshow(np.linspace(REACH, -REACH, 65)[:, None], cmap=DIVERGING, norm=Normalize(-REACH, REACH), aspect="auto",
               extent=(0, 1, -REACH, REACH), interpolation="none")  # fmt: skip
    key.set(xticks=[], yticks=[-2, -1, 0, 1, 2], yticklabels=["¼×", "½×", "ideal", "2×", "4×"])
    key.yaxis.tick_right()
    key.grid(False)
    key.tick_params(length=0, labelcolor=MUTED, labelsize=7, pad=2)
    for spine in key.spines.values():
        spine.set(visible=True, linewidth=0.4)
