"""How figures look: one colour and marker per strategy over all figures, a quiet frame, labels beside their lines.

Colours are the light theme's; `svg` swaps each of them for a CSS variable, so that a figure follows its page's theme.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.optimize import isotonic_regression

from results.plots import looks
from results.records import beside

P = ParamSpec("P")
R = TypeVar("R")

INK, MUTED, GRID, BAND = "#1b1f24", "#5c6570", "#dfe3e8", "#eceff3"
# At least 3:1 on the page; 18 CIELAB units from one another and from the ink, to protan, deutan and tritan eyes too.
HUES = ("#2c4fbf", "#c32748", "#2e9b7e", "#a77815", "#9776c0", "#90006c", "#541f00")
DARK = {
    INK: "#e8eaed", MUTED: "#a3acb8", GRID: "#2c323a", BAND: "#22272e",
    **dict(zip(HUES, ("#6d84f0", "#d24b57", "#74e6a4", "#f4c63f", "#b79ade", "#a8648a", "#e98f4c"), strict=True)),
}  # fmt: skip
_DASHES: tuple[Any, ...] = (
    "-", (0, (4, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)), (0, (8, 2)), (0, (3, 1, 1, 1, 1, 1)),
)  # fmt: skip
MARKERS = ("o", "s", "D", "^")

NARROW, WIDE = 4.4, 9.1  # inches; a phone shows the narrow ones whole and scrolls the wide ones
OVERLAY = 8  # arms that one pair of axes can still tell apart; more get a panel each
TITLE_LENGTH = 26

_RC: Any = {
    "font.family": ["sans-serif"], "font.sans-serif": ["DejaVu Sans"], "font.size": 8, "text.parse_math": False,
    "text.color": INK, "axes.labelcolor": MUTED, "axes.edgecolor": MUTED, "axes.linewidth": 0.6, "axes.labelsize": 8,
    "xtick.color": MUTED, "ytick.color": MUTED, "xtick.labelsize": 7.5, "ytick.labelsize": 7.5,
    "xtick.major.width": 0.6, "ytick.major.width": 0.6, "xtick.major.size": 3, "ytick.major.size": 3,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": GRID, "grid.linewidth": 0.6,
    "axes.axisbelow": True, "lines.linewidth": 1.3, "lines.markersize": 3.5, "lines.solid_capstyle": "round",
    "figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none", "path.simplify_threshold": 0.3,
}  # fmt: skip


@dataclass(frozen=True)
class ArmStyle:
    """How one arm looks in every figure and table."""

    arm: str
    title: str
    index: int  # position in the manifest, for highlighting in the page
    color: str
    dash: Any = "-"
    marker: str = "o"

    @property
    def gid(self) -> str:
        return f"arm-{self.index}"

    @property
    def paint(self) -> dict[str, Any]:
        return {"color": self.color, "gid": self.gid}

    @property
    def line(self) -> dict[str, Any]:
        return {**self.paint, "linestyle": self.dash}

    @property
    def point(self) -> dict[str, Any]:
        return {**self.paint, "linestyle": "none", "marker": self.marker}


def arm_styles(manifest: Mapping[str, Any]) -> dict[str, ArmStyle]:
    """One style per arm: hue and mark are its strategy's; arms that share them differ in their dashes.

    The A/A arm is dotted in grey.
    """
    styles: dict[str, ArmStyle] = {}
    own: dict[str, looks.Look] = {}
    seen: Counter[looks.Look] = Counter()
    for index, arm in enumerate(manifest["arms"]):
        name, title = arm["arm"], short(arm.get("title") or arm["arm"])
        if name in beside(manifest):
            styles[name] = ArmStyle(name, title, index, MUTED, (0, (1.2, 1.2)), "x")
            continue
        strategy = str(arm.get("strategy") or name)
        hue, mark = own.setdefault(strategy, looks.look(strategy, own.values()))
        dash = _DASHES[(mark + seen[hue, mark]) % len(_DASHES)]
        styles[name] = ArmStyle(name, title, index, INK if hue == looks.INK else HUES[hue], dash, MARKERS[mark])
        seen[hue, mark] += 1
    return styles


def short(title: str, length: int = TITLE_LENGTH) -> str:
    """A title that fits beside a line: one line, printable, at most `length` characters."""
    clean = " ".join("".join(c if c.isprintable() else " " for c in str(title)).split())
    return clean if len(clean) <= length else clean[: length - 1].rstrip() + "…"


@contextmanager
def theme() -> Iterator[None]:
    """The look, for everything drawn inside."""
    with sns.axes_style("ticks"), mpl.rc_context(_RC):
        yield


def themed(draw: Callable[P, R]) -> Callable[P, R]:
    """Decorator: draw a figure in the report's look."""

    @functools.wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        with theme():
            return draw(*args, **kwargs)

    return wrapper


def canvas(width: float, height: float, *, left: float = 0.5, right: float = 0.1, top: float = 0.08,
           bottom: float = 0.42) -> tuple[Figure, Axes]:  # fmt: skip
    """A figure with one pair of axes and margins in inches: text keeps its size whatever the figure's."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    box = (left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height)
    return figure, figure.add_axes(box)


def calm_ticks(ax: Axes, count: int = 5) -> None:
    """Few ticks on both axes, written as people write them."""
    ax.xaxis.set_major_locator(MaxNLocator(nbins=count, min_n_ticks=3))
    ax.yaxis.set_major_locator(MaxNLocator(nbins=count, min_n_ticks=3))
    ax.xaxis.set_major_formatter(compact)


def compact(value: float, _position: float = 0) -> str:
    """A number on an axis: 250k, 1.5M."""
    for size, suffix in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{suffix}"
    return f"{value:.6g}".replace("-", "−")


def label_width(titles: Iterable[str], size: float = 7.5) -> float:
    """Inches that the longest of `titles` needs, estimated generously: browsers choose their own font."""
    return max((len(title) for title in titles), default=0) * size * 0.6 / 72


def spread(positions: Sequence[float], gap: float, low: float, high: float) -> np.ndarray:
    """Move label positions as little as possible (least squares) until neighbours are `gap` apart within low … high.

    Order is kept. Where they do not all fit, the gap gives way.
    """
    wanted = np.asarray(positions, dtype=float)
    gap = min(gap, (high - low) / max(len(wanted) - 1, 1))
    order = np.argsort(wanted, kind="stable")
    steps = gap * np.arange(len(wanted))
    placed = np.empty_like(wanted)
    placed[order] = np.clip(isotonic_regression(wanted[order] - steps).x, low, high - steps[-1]) + steps
    return placed


def label_lines(ax: Axes, ends: Sequence[tuple[ArmStyle, float, float]], size: float = 7.5, left: bool = False) -> None:
    """Write each arm's title beside the axes, level with its line's end (x, y), joined by a thin leader.

    Titles stand to the right, or to the left. Call it once the limits are final.
    """
    if not ends:
        return
    figure = ax.get_figure(root=True)
    assert figure is not None
    height = ax.get_position().height * figure.get_figheight() * 72
    to_axes = ax.transData + ax.transAxes.inverted()
    points = [np.clip(to_axes.transform((x, y)), 0, 1) for _, x, y in ends]
    levels = spread([float(y) for _, y in points], 1.25 * size / height, 0, 1)
    edge, sign = (0.0, -1) if left else (1.0, 1)
    for (style, _, _), (x, y), level in zip(ends, points, levels, strict=True):
        ax.plot([x, edge + 0.025 * sign], [y, level], transform=ax.transAxes, clip_on=False, linewidth=0.5, alpha=0.7,
                solid_capstyle="butt", **style.paint)  # fmt: skip
        ax.text(edge + 0.035 * sign, level, style.title, transform=ax.transAxes, va="center",
                ha="right" if left else "left", fontsize=size, gid=style.gid)  # fmt: skip
