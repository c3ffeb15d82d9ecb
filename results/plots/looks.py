"""Which hue and mark each strategy has on every board and page: `looks.yaml` says it of those that it lists.

Any other takes one of the free pairs by its name, so that it too keeps its look.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection
from pathlib import Path

import yaml

HUES, MARKS = 7, 4  # how many there are of each
INK = -1  # in place of a hue: the colour of text
Look = tuple[int, int]  # hue, mark


def _known() -> dict[str, Look]:
    listed = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
    hues: dict[str, Look] = {name: (place % HUES, place // HUES) for place, name in enumerate(listed["hues"])}
    return {name: (INK, mark) for mark, name in enumerate(listed["ink"])} | hues


KNOWN = _known()
_FREE = [(hue, mark) for mark in range(MARKS) for hue in range(HUES) if (hue, mark) not in KNOWN.values()]


def look(strategy: str, taken: Collection[Look] = ()) -> Look:
    """The strategy's hue and mark; for one that is not listed the first free pair from its own place on."""
    if strategy in KNOWN:
        return KNOWN[strategy]
    start = zlib.crc32(strategy.encode("utf-8", "replace"))
    pairs = [_FREE[(start + step) % len(_FREE)] for step in range(len(_FREE))]
    return next((pair for pair in pairs if pair not in taken), pairs[0])
