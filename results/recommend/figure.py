"""The recommendation as one figure: how far every strategy is behind the best, as published and balanced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from results.plots.picture import Picture, picture, spoken
from results.plots.style import HUES, INK, MUTED, calm_ticks, canvas, label_width, short, themed
from results.recommend.wording import TRACK_WORDS, basis, upper

Answer = Mapping[str, Any]
_LOOKS = {"as-published": (INK, "o", -0.14), "balanced": (HUES[0], "s", 0.14), "tuned": (HUES[3], "D", 0.28)}
_WIDTH, _ROW = 5.6, 0.28  # inches


def behind_the_best(answers: Sequence[Answer], name: str = "recommendation") -> Picture | None:
    """One need's answers, a series per track, from the largest cell of each; None without any evidence."""
    found = {answer["track"]: answer["evidence"][0] for answer in answers if answer["evidence"]}
    if not found:
        return None
    series = {track: [*cell["set"], *cell["behind"]] for track, cell in found.items()}
    titles = list(dict.fromkeys(entry["title"] for entries in series.values() for entry in entries))
    said = [
        f"{entry['title']} {TRACK_WORDS[track]} {entry['mean']:+.3f}"
        for track, entries in series.items()
        for entry in entries
    ]
    caption = (
        f"{upper(answers[0]['question'])}: how far each strategy is behind the best of the others. Each end of a "
        "bar holds with 95 %; a filled point is a strategy not shown to be worse than the best. "
        + "; ".join(f"{TRACK_WORDS[track].capitalize()}: {basis(cell)}" for track, cell in found.items())
        + "."
    )
    figure = _draw(series, titles)
    return picture(name, "Behind the best", caption, spoken(said), figure, {})


@themed
def _draw(series: Mapping[str, Sequence[Answer]], titles: Sequence[str]) -> Figure:
    shown = [short(title, 30) for title in titles]
    left = 0.15 + label_width(shown, 8)
    figure, ax = canvas(_WIDTH, 0.85 + _ROW * len(titles), left=left, right=0.2, bottom=0.45, top=0.35)
    ax.set(ylim=(len(titles) - 0.4, -0.6), xlabel="behind the best of the others (nats/token)")
    ax.axvline(0, color=INK, linewidth=0.8)
    for track, entries in series.items():
        color, marker, offset = _LOOKS[track]
        for number, entry in enumerate(entries):
            y = titles.index(entry["title"]) + (offset if len(series) > 1 else 0)
            ax.plot([entry["low"], entry["high"]], [y, y], color=color, linewidth=1.4)
            ax.plot(
                entry["mean"],
                y,
                marker=marker,
                color=color,
                markersize=4.5,
                markerfacecolor="none" if entry["worse_than"] else color,
                linestyle="none",
                label=TRACK_WORDS[track] if number == 0 else None,
            )
    for y, title in enumerate(shown):
        ax.text(-0.02, y, title, transform=ax.get_yaxis_transform(), ha="right", va="center", fontsize=8)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, fontsize=7.5, labelcolor=MUTED)
    ax.grid(False, axis="y")
    calm_ticks(ax)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    return figure
