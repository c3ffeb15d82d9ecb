"""The recommendation as one figure: how far every strategy is behind the best, a panel for each place and track."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from results.plots.picture import Picture, picture, spoken
from results.plots.style import INK, MUTED, calm_ticks, canvas, label_width, short, themed
from results.recommend.glance import shown
from results.recommend.wording import TRACK_WORDS, basis, upper

Answer = Mapping[str, Any]
Panel = tuple[str, Answer]  # track and cell
_PANEL, _GAP, _ROW = 1.55, 0.14, 0.24  # inches


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
