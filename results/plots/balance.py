"""Loss against balance, and what imbalance would cost: Pareto, dead experts, overflow, fluctuation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from results.plots.lines import draw_lines
from results.plots.style import (
    BAND,
    MUTED,
    NARROW,
    ArmStyle,
    calm_ticks,
    canvas,
    compact,
    label_lines,
    label_width,
    themed,
)

_ROW = 0.2  # inches


@themed
def pareto(trials: pd.DataFrame, families: Sequence[Sequence[str]], styles: Mapping[str, ArmStyle],
           noise_floor: float | None) -> Figure:  # fmt: skip
    """Held-out loss against MaxVio on the held-out set: small points are seeds, large ones means.

    Args:
        trials: columns arm, max_vio, val_loss; one row per finished trial.
        families: arms that are one strategy at several values of its knob, in the knob's order: joined by a line.
        noise_floor: MaxVio that sampling alone gives.
    """
    positive = [x for x in [*trials["max_vio"], noise_floor] if x and x > 0] or [1.0]
    edge = min(positive) / 1.4  # perfect balance has no place on a logarithmic scale: it lies on the edge
    means = trials.groupby("arm", sort=False, observed=True)[["max_vio", "val_loss"]].mean()
    means["max_vio"] = means["max_vio"].clip(lower=edge)
    trials = trials.assign(max_vio=trials["max_vio"].clip(lower=edge))
    arms = [arm for arm in styles if arm in means.index]
    right = 0.25 + label_width([styles[arm].title for arm in arms])
    figure, ax = canvas(NARROW, max(3.1, 0.6 + 0.145 * len(arms)), left=0.62, right=right)
    for family in families:
        known = [arm for arm in family if arm in means.index]
        if len(known) > 1:
            style = styles[known[0]]
            ax.plot(
                means.loc[known, "max_vio"], means.loc[known, "val_loss"], color=style.color, linewidth=1, gid=style.gid
            )
    for arm in arms:
        style, own = styles[arm], trials[trials["arm"] == arm]
        ax.plot(own["max_vio"], own["val_loss"], linestyle="none", marker=style.marker, markersize=2.2, alpha=0.35,
                color=style.color, markeredgewidth=0, gid=style.gid)  # fmt: skip
        ax.plot(
            *means.loc[arm], linestyle="none", marker=style.marker, markersize=5.5, color=style.color, gid=style.gid
        )
    calm_ticks(ax)
    ax.set(xlabel="MaxVio (held-out set)", ylabel="held-out loss (nats/token)", xscale="log")
    ax.set_xlim(edge, max(positive) * 1.4)
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if max(positive) / edge < 30 else (1,)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(compact)
    if noise_floor:
        ax.axvspan(edge, noise_floor, color=BAND, linewidth=0, zorder=0)
    label_lines(ax, [(styles[arm], *means.loc[arm]) for arm in arms])
    return figure


@themed
def dead_experts(readings: pd.DataFrame, styles: Mapping[str, ArmStyle]) -> Figure:
    """Share of experts that are dead, by three readings, mean over seeds.

    Args:
        readings: columns arm, reading, share (0 … 1); readings in the order they appear.
    """
    kinds = list(dict.fromkeys(readings["reading"]))
    values = {(r.arm, r.reading): 100 * r.share for r in readings.itertuples()}
    arms = [arm for arm in styles if any((arm, kind) in values for kind in kinds)]
    left = 0.15 + label_width([styles[arm].title for arm in arms])
    figure, ax = _rows(arms, styles, left, top=0.42)
    marks = ("o", "s", "D")
    for kind, mark, shift in zip(kinds, marks, (-0.16, 0.0, 0.16), strict=False):
        known = [(values[arm, kind], row + shift, arm) for row, arm in enumerate(arms) if (arm, kind) in values]
        for value, y, arm in known:
            point = {**styles[arm].point, "marker": mark}
            ax.plot(value, y, markersize=4, clip_on=False, zorder=3, **point)
        ax.plot([], [], marker=mark, markersize=4, color=MUTED, linestyle="none", label=kind)
    _key(figure)
    ax.set_xlim(0, max([5.0, *(1.08 * value for value in values.values())]))
    ax.set_xlabel("experts (%)")
    return figure


@themed
def overflow(shares: Mapping[str, Mapping[str, float]], styles: Mapping[str, ArmStyle], reference: str) -> Figure:
    """Tokens that a capacity limit would drop, against the capacity factor.

    Args:
        shares: arm → capacity factor (as text) → share of assignments (0 … 1), mean over seeds.
    """
    factors, percent = common_factors(shares)
    most = max(max(values) for values in percent.values())
    labels = ("capacity factor", "assignments over capacity (%)")
    return draw_lines(
        factors, percent, styles, reference, labels, (0, 1.05 * most or 1), ticks=factors, side="left", at=0
    )


def common_factors(shares: Mapping[str, Mapping[str, float]]) -> tuple[list[float], dict[str, list[float]]]:
    """Capacity factors that every arm has a share for, and the shares at them in percent, by arm."""
    factors = sorted(set.intersection(*({float(factor) for factor in own} for own in shares.values())))
    return factors, {
        arm: [100 * share for factor, share in sorted((float(k), v) for k, v in own.items()) if factor in factors]
        for arm, own in shares.items()
    }


@themed
def fluctuation(shares: pd.DataFrame, styles: Mapping[str, ArmStyle]) -> Figure:
    """Share of held-out tokens whose first expert still changes after 20, 50 and 80 % of training.

    Args:
        shares: columns arm, after (0 … 1), share (0 … 1); mean over seeds.
    """
    arms = [arm for arm in styles if arm in set(shares["arm"])]
    left = 0.15 + label_width([styles[arm].title for arm in arms])
    figure, ax = _rows(arms, styles, left, top=0.42)
    sizes = dict(zip(sorted(shares["after"].unique()), (6.0, 4.4, 2.8), strict=False))
    for row, arm in enumerate(arms):
        style, own = styles[arm], shares[shares["arm"] == arm]
        x = 100 * own["share"].to_numpy()
        ax.plot([x.min(), x.max()], [row, row], linewidth=1, alpha=0.5, **style.paint)
        for after, value in zip(own["after"], x, strict=True):
            ax.plot(value, row, markersize=sizes.get(after, 3), clip_on=False, **{**style.point, "marker": "o"})
    for after, size in sizes.items():
        ax.plot([], [], marker="o", markersize=size, color=MUTED, linestyle="none", label=f"after {after:.0%}")
    _key(figure)
    ax.set_xlim(left=0)
    ax.set_xlabel("held-out tokens (%)")
    return figure


def _key(figure: Figure) -> None:
    """What the marks mean, in a line across the top of the figure."""
    figure.legend(loc="upper left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, fontsize=7, handletextpad=0.1,
                  columnspacing=1.0, borderaxespad=0.2)  # fmt: skip


def _rows(arms: Sequence[str], styles: Mapping[str, ArmStyle], left: float, top: float) -> tuple[Figure, Axes]:
    """Axes with one row per arm, titles to the left."""
    figure, ax = canvas(NARROW, max(2.0, top + 0.5 + _ROW * len(arms)), left=left, right=0.2, top=top, bottom=0.42)
    for row, arm in enumerate(arms):
        ax.text(-0.07 / (NARROW - left - 0.2), row, styles[arm].title, transform=ax.get_yaxis_transform(), ha="right",
                va="center", fontsize=7.5, gid=styles[arm].gid)  # fmt: skip
    ax.set(yticks=range(len(arms)), yticklabels=[], ylim=(len(arms) - 0.4, -0.6))
    ax.tick_params(axis="y", length=0)
    sns.despine(ax=ax, left=True)
    return figure, ax
