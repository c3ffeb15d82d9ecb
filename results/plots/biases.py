"""Bias trajectories: what a bias rule adds to each expert's score over training."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from results.plots.style import MUTED, ArmStyle, calm_ticks, outer_labels, panel_title, panels, themed

EXPERTS_SHOWN = 6


@themed
def bias_trajectories(biases: Mapping[str, np.ndarray], steps: np.ndarray, styles: Mapping[str, ArmStyle]) -> Figure:
    """The selection bias of one layer against step: the range over its experts, and single experts across it.

    Args:
        biases: arm → (N, E), in score units, one seed.
        steps: (N,), the step of each row of the longest run.
    """
    arms = [arm for arm in styles if arm in biases]
    figure, axes = panels(len(arms), left=0.62)
    for arm, ax in zip(arms, axes, strict=True):
        style, bias_NE = styles[arm], biases[arm]
        known = steps[: len(bias_NE)]
        ax.axhline(0, color=MUTED, linewidth=0.6)
        ax.fill_between(known, bias_NE.min(1), bias_NE.max(1), alpha=0.14, linewidth=0, **style.paint)
        ranked = np.argsort(bias_NE[-1])
        for place in np.linspace(0, len(ranked) - 1, min(EXPERTS_SHOWN, len(ranked))).round().astype(int):
            ax.plot(known, bias_NE[:, ranked[place]], linewidth=0.7, **style.paint)
        panel_title(ax, style)
    calm_ticks(axes[0], 3)
    outer_labels(figure, "step", "bias")
    return figure
