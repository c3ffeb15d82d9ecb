"""The recommendation inside other texts: between two markers, written again whenever boards are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

START, END = "<!-- recommendation: start -->", "<!-- recommendation: end -->"


def put(text: str, lines: Sequence[str], where: str = "text") -> str:
    """`text` with these lines between its markers.

    Raises:
        ValueError: the markers are not there, each once and in order; one line naming `where`.
    """
    if text.count(START) != 1 or text.count(END) != 1 or text.index(START) > text.index(END):
        raise ValueError(f"{where}: expected {START} and after it {END}, each once")
    before, after = text[: text.index(START)], text[text.index(END) :]
    return f"{before}{START}\n" + "\n".join(lines).strip() + f"\n{after}"


def renew(file: Path, lines: Sequence[str]) -> bool:
    """Put the lines into a file. Returns whether that changed it."""
    old = file.read_text(encoding="utf-8")
    new = put(old, lines, str(file))
    if new != old:
        file.write_text(new, encoding="utf-8")
    return new != old
