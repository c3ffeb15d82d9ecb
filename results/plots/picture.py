"""A figure ready for the page: its drawing, caption and text alternative."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from results.plots import svg
from results.plots.style import WIDE

_SPOKEN = 12  # arms that a text alternative names one by one


@dataclass(frozen=True)
class Picture:
    """What the page needs of a figure."""

    name: str  # unique in the page; also the file's name
    title: str
    caption: str
    alt: str
    svg: str
    width: float  # inches

    @property
    def wide(self) -> bool:
        return self.width >= WIDE


def picture(name: str, title: str, caption: str, alt: str, figure: Figure) -> Picture:
    """Export `figure` under a name that is unique in the page."""
    return Picture(
        name, title, " ".join(caption.split()), alt, svg.inline(figure, name, title, alt), figure.get_figwidth()
    )


def spoken(parts: Sequence[str]) -> str:
    """The arms' figures one by one, as many as anybody would listen to."""
    more = f"; and {len(parts) - _SPOKEN} more, in the table" if len(parts) > _SPOKEN else ""
    return "; ".join(parts[:_SPOKEN]) + more + "."
