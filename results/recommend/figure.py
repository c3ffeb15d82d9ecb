"""The recommendation's figures: how far every strategy is behind the best, and what its balance foretells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from results.plots import looks
from results.plots.picture import Picture, picture, spoken
from results.plots.style import HUES, INK, MARKERS, MUTED, calm_ticks, canvas, compact, label_width, short, themed
from results.recommend.foretelling import DROPPED, LATE, MEASURES, between, most
from results.recommend.glance import shown
from results.recommend.wording import TRACK_WORDS, basis, upper

Answer = Mapping[str, Any]
Panel = tuple[str, Answer]  # track and cell
_PANEL, _GAP, _ROW = 1.55, 0.14, 0.24  # inches
_AXES = {DROPPED: "dropped, over all of training", LATE: "MaxVio of late batches"}  # what losses are drawn against


def behind_the_best(answers: Sequence[Answer], name: str = "recommendation") -> Picture | None:
    """One need's answers, a panel for each line that the table has of it; None without any evidence."""
    panels = list(shown(answers))
    if not panels:
        return None
    titles = list(dict.fromkeys(entry["title"] for _, found in panels for entry in (*found["set"], *found["behind"])))
    said = [
        f"{entry['title']} on {found['task']} {TRACK_WORDS[track]} {entry['mean']:+.3f}"
        for track, found in panels
        for entry in (*found["set"], *found["behind"])
    ]
    caption = (
        f"{upper(answers[0]['question'])}: how far each strategy is behind the best of the others. Each end of a "
        "bar holds with 95 %; a filled point is a strategy not shown to be worse than the best. "
        + "; ".join(f"{TRACK_WORDS[track].capitalize()}: {basis(found)}" for track, found in panels)
        + "."
    )
    return picture(name, "Behind the best", caption, spoken(said), _draw(panels, titles), {})


@themed
def _draw(panels: Sequence[Panel], titles: Sequence[str]) -> Figure:
    names = [short(title, 30) for title in titles]
    left = 0.15 + label_width(names, 8)
    width = left + len(panels) * (_PANEL + _GAP) + 0.06
    figure, first = canvas(
        width, 0.95 + _ROW * len(titles), left=left, right=width - left - _PANEL, bottom=0.45, top=0.45
    )
    box = first.get_position()
    for number, (track, found) in enumerate(panels):
        start = (left + number * (_PANEL + _GAP)) / width
        ax = first if number == 0 else figure.add_axes((start, box.y0, _PANEL / width, box.height), sharex=first)
        _fill(ax, found, titles)
        ax.set_title(f"{found['task']}\n{TRACK_WORDS[track]}", fontsize=8, color=MUTED, loc="left")
    for y, title in enumerate(names):
        first.text(-0.04, y, title, transform=first.get_yaxis_transform(), ha="right", va="center", fontsize=8)
    figure.text((left + width) / 2 / width, 0.02, "behind the best of the others (nats/token)", ha="center", fontsize=8)
    return figure


def _fill(ax: Axes, found: Answer, titles: Sequence[str]) -> None:
    ax.set(ylim=(len(titles) - 0.4, -0.6))
    ax.axvline(0, color=INK, linewidth=0.8)
    for entry in (*found["set"], *found["behind"]):
        y = titles.index(entry["title"])
        ax.plot([entry["low"], entry["high"]], [y, y], color=INK, linewidth=1.4)
        ax.plot(
            entry["mean"],
            y,
            marker="o",
            color=INK,
            markersize=4.5,
            markerfacecolor="none" if entry["worse_than"] else INK,
            linestyle="none",
        )
    ax.grid(False, axis="y")
    calm_ticks(ax, 4)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)


def foretold(entries: Sequence[Answer], name: str = "foretelling") -> Picture | None:
    """Losses of settings against two measures of balance, a row for each task of the board with the most settings."""
    own = most(entries)
    if not own:
        return None
    left, right = ("; ".join(f"{one.words}, {one.window}" for one in MEASURES if one.name == axis) for axis in _AXES)
    caption = (
        f"Held-out loss against balance, a point for each setting of a learned router on {own[0]['board']}: left "
        f"{left}; then {right}. Lines join one rule's settings, filled points are the published ones. Right in how "
        "many pairs of settings the one with the lower mean MaxVio over a tenth of training has the lower loss."
    )
    said = [
        f"{entry['task']}, {words}: {between(entry['measures'][axis]['share'])} of pairs"
        for entry in own
        for axis, words in _AXES.items()
    ]
    return picture(name, "What balance foretells", caption, spoken(said), _scatter(own), {})


@themed
def _scatter(entries: Sequence[Answer]) -> Figure:
    wide, high, left, gap, bottom, legend = 2.5, 2.1, 0.65, 0.5, 0.5, 0.35
    columns = len(_AXES) + any(entry["parts"] for entry in entries)
    width, height = left + columns * (wide + gap) - gap + 0.1, len(entries) * (high + bottom + 0.25) + legend
    figure, first = canvas(width, height, left=left, right=width - left - wide, top=0.25, bottom=height - 0.25 - high)

    def axes(line: int, column: int) -> Axes:
        x, y = left + column * (wide + gap), height - (0.25 + high + line * (high + bottom + 0.25))
        place = (x / width, y / height, wide / width, high / height)
        return first if (line, column) == (0, 0) else figure.add_axes(place)

    for line, entry in enumerate(entries):
        for column, (axis, words) in enumerate(_AXES.items()):
            ax = axes(line, column)
            _settings(ax, entry, axis)
            share = entry["measures"][axis]["share"]["mean"]
            ax.set_title(f"{entry['task']}: the more even wins {share:.0%}", fontsize=8, color=MUTED, loc="left")
            ax.set_xlabel(words)
            if column == 0:
                ax.set_ylabel("Δ held-out loss (nats/token)")
        if entry["parts"]:
            ax, count = axes(line, len(_AXES)), len(entry["parts"])
            ax.axhline(0.5, color=MUTED, linewidth=0.8)
            ax.text(0.02, 0.51, "a coin", color=MUTED, fontsize=7.5)
            ax.plot([(part + 0.5) / count for part in range(count)], entry["parts"], color=INK, marker="o")
            ax.set(ylim=(0.3, 1.02), xlim=(0, 1), xlabel="part of training whose MaxVio is taken")
            ax.set_title(f"{entry['task']}: share of pairs", fontsize=8, color=MUTED, loc="left")
    lines, titles = first.get_legend_handles_labels()
    figure.legend(lines, titles, loc="lower center", ncols=len(titles), frameon=False, fontsize=8)
    return figure


def _settings(ax: Axes, entry: Answer, axis: str) -> None:
    """A line for each rule over its settings, its published one filled."""
    rules = {point["strategy"]: point["title"].partition(" (")[0] for point in entry["points"]}
    for rule, title in rules.items():
        own = sorted((point for point in entry["points"] if point["strategy"] == rule), key=lambda point: point[axis])
        hue, mark = looks.look(rule)
        look: dict[str, Any] = {
            "color": INK if hue == looks.INK else HUES[hue],
            "marker": MARKERS[mark],
            "markersize": 4.5,
        }
        x, y = [point[axis] for point in own], [point["loss"] for point in own]
        ax.plot(x, y, **look, linewidth=0.7, markerfacecolor="none", label=title)
        published = [(point[axis], point["loss"]) for point in own if point["row"].split("/")[-2] == rule]
        if published:
            ax.plot(*zip(*published, strict=True), **look, linestyle="none")
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(compact)
    ax.minorticks_off()
