"""What follows from all boards inside other texts: between two markers, written again whenever boards are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

RECOMMENDATION = "recommendation"


def markers(name: str) -> tuple[str, str]:
    """What stands before and after the block of that name."""
    return f"<!-- {name}: start -->", f"<!-- {name}: end -->"


START, END = markers(RECOMMENDATION)


def put(text: str, lines: Sequence[str], where: str = "text", name: str = RECOMMENDATION) -> str:
    """`text` with these lines between the markers of a block.

    Raises:
        ValueError: the markers are not there, each once and in order; one line naming `where`.
    """
    start, end = markers(name)
    if text.count(start) != 1 or text.count(end) != 1 or text.index(start) > text.index(end):
        raise ValueError(f"{where}: expected {start} and after it {end}, each once")
    before, after = text[: text.index(start)], text[text.index(end) :]
    return f"{before}{start}\n" + "\n".join(lines).strip() + f"\n{after}"


def renew(file: Path, lines: Sequence[str], name: str = RECOMMENDATION) -> bool:
    """Put the lines into a file's block. Returns whether that changed it."""
    old = file.read_text(encoding="utf-8")
    new = put(old, lines, str(file), name)
    if new != old:
        file.write_text(new, encoding="utf-8")
    return new != old
