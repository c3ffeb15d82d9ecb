"""Numbers, intervals and tables as text."""

from __future__ import annotations

from collections.abc import Sequence


def number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def counted(number: int, one: str, many: str | None = None) -> str:
    """1 trial, 2 trials, 3 strategies."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def interval(mean: float | None, low: float | None, high: float | None, digits: int = 4) -> str:
    """`mean [low, high]`, signed; what is not known is left out."""
    if mean is None:
        return "–"
    sign = "+" if digits == 4 else ""
    if low is None or high is None:
        return f"{mean:{sign}.{digits}f}"
    return f"{mean:{sign}.{digits}f} [{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"


def cell(text: str) -> str:
    """Text that can neither leave its table cell nor become a tag or a link."""
    for mark, harmless in (("|", "\\|"), ("<", "&lt;"), ("](", "]\\(")):
        text = text.replace(mark, harmless)
    return " ".join(text.split())


class Made(str):
    """Text of a cell that is Markdown already."""


def link(words: str, target: str) -> Made:
    """Words linked to a target, which is not a stranger's."""
    return Made(f"[{cell(words)}]({target})")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    return lines + [
        "| " + " | ".join(text if isinstance(text, Made) else cell(text) for text in row) + " |" for row in rows
    ]
