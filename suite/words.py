"""Small words for people: nearest names, durations, sizes."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(word: str, words: Iterable[str], cutoff: float = 0.5) -> str:
    """ " (did you mean 'x'?)", or nothing if nothing is near."""
    found = get_close_matches(word, list(words), n=1, cutoff=cutoff)
    return f" (did you mean {found[0]!r}?)" if found else ""


def duration(seconds: float) -> str:
    """12 s, 3 min 20 s, 5 h 10 min, 4 d 2 h."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    if seconds < 86400:
        return f"{seconds // 3600} h {seconds % 3600 // 60} min"
    return f"{seconds // 86400} d {seconds % 86400 // 3600} h"


def quantity(value: float, unit: str = "") -> str:
    """1.2 k, 3.4 M, 5.6 G, … with the unit behind."""
    for factor, prefix in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}".rstrip()
