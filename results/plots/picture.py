"""A figure ready for the page: its drawing, caption and text alternative."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib.figure import Figure

from results.plots import svg

_SPOKEN = 12  # arms that a text alternative names one by one


@dataclass(frozen=True)
class Picture:
    """What the page needs of a figure."""

    name: str  # unique in the page; also the file's name
    title: str
    caption: str
    alt: str
    svg: str  # a file of its own
    chart: Mapping[str, Any] = field(default_factory=dict)  # what the page draws, see `charts`
    of: str = ""  # pictures of one figure of the page, which shows one of them at a time
    view: str = ""  # what this one of them shows


def picture(
    name: str, title: str, caption: str, alt: str, figure: Figure, chart: Mapping[str, Any], of: str = "",
    view: str = "",
) -> Picture:  # fmt: skip
    """Export `figure` under a name that is unique in the page."""
    drawing = svg.standalone(svg.inline(figure, name, title, alt))
    return Picture(name, title, " ".join(caption.split()), alt, drawing, chart, of or name, view)


def spoken(parts: Sequence[str]) -> str:
    """The arms' figures one by one, as many as anybody would listen to."""
    more = f"; and {len(parts) - _SPOKEN} more, in the table" if len(parts) > _SPOKEN else ""
    return "; ".join(parts[:_SPOKEN]) + more + "."
