"""Bias trajectories: what a bias rule adds to each expert's score over training."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from results.plots.panels import grid
from results.plots.style import MUTED, ArmStyle, themed

EXPERTS_SHOWN = 6


@themed
def bias_trajectories(biases: Mapping[str, np.ndarray], steps: np.ndarray, styles: Mapping[str, ArmStyle]) -> Figure:
    """The selection bias of one layer against step: the range over its experts, and single experts across it.

    Args:
        biases: arm → (N, E), in score units, one seed; at least one arm.
        steps: (N,), the step of each row of the longest run.
    """
    arms = [arm for arm in styles if arm in biases]
    reach = 1.06 * max(float(np.abs(bias_NE).max()) for bias_NE in biases.values()) or 1.0
    figure, panels = grid(len(arms), (0, float(steps[-1])), (-reach, reach), "step", "bias")
    for arm, panel in zip(arms, panels, strict=True):
        style, bias_NE, ax = styles[arm], biases[arm], panel.axes
        known = steps[: len(bias_NE)]
        ax.plot([0, steps[-1]], [0, 0], color=MUTED, linewidth=0.6, **panel.where)
        ax.fill_between(known, bias_NE.min(1), bias_NE.max(1), alpha=0.14, linewidth=0, **style.paint, **panel.where)
        ranked = np.argsort(bias_NE[-1])
        for place in np.linspace(0, len(ranked) - 1, min(EXPERTS_SHOWN, len(ranked))).round().astype(int):
            ax.plot(known, bias_NE[:, ranked[place]], linewidth=0.7, **style.paint, **panel.where)
        panel.title(style)
    return figure
