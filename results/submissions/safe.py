"""Reading what a stranger wrote: JSON that cannot exhaust the reader, and text that stays text wherever it is shown."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

DEPTH = 16  # of nested lists and objects; a record has 7
DIGITS = 40  # of one number
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)  # one that never ends is one too
_MARKUP = re.compile(r"[<>`|\[\]{}\\]|://|&#?\w+;|javascript:", re.IGNORECASE)
_HIDDEN = ("Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp")  # control, direction, private, surrogate, line ends


class Unreadable(ValueError):
    """Not JSON as it may stand in a submission; the message says why."""


def parse(content: bytes) -> Any:
    """A JSON value: no key twice, every number finite, no depth to speak of, nothing that is not Unicode.

    Raises:
        Unreadable: it is anything else.
    """
    if depth(content) > DEPTH:
        raise Unreadable(f"nested deeper than {DEPTH} levels")
    try:
        text = content.decode("utf-8")
        value = json.loads(
            text, object_pairs_hook=_object, parse_float=_float, parse_int=_int, parse_constant=_constant
        )
        for string in strings(value):
            string.encode("utf-8")  # a lone surrogate
    except UnicodeError:
        raise Unreadable("not Unicode text") from None
    except json.JSONDecodeError as error:
        raise Unreadable(f"not JSON ({error})") from None
    return value


def depth(content: bytes) -> int:
    """The deepest nesting in a JSON text, without parsing it."""
    deepest = now = 0
    for bracket in re.findall(rb"[\[\]{}]", _STRING.sub(b"", content)):
        now += 1 if bracket in (b"[", b"{") else -1
        deepest = max(deepest, now)
    return deepest


def strings(value: Any) -> Iterator[str]:
    """Every string in a JSON value, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)


def text_problem(text: Any, longest: int = 200) -> str | None:
    """Why a text may not stand on a board (None: it may).

    One line of letters, digits, punctuation: no markup of HTML or Markdown, no link, nothing invisible.
    """
    if not isinstance(text, str) or not text.strip():
        return f"{_short(text)}: expected a text"
    if len(text) > longest:
        return f"{_short(text)}: {len(text)} characters; expected at most {longest}"
    hidden = next((character for character in text if unicodedata.category(character) in _HIDDEN), None)
    if hidden is not None:
        return f"{_short(text)}: holds the invisible character U+{ord(hidden):04X}"
    found = _MARKUP.search(text)
    return f"{_short(text)}: holds markup or a link ({found[0]})" if found else None


def _short(value: Any) -> str:
    shown = ascii(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}…"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise Unreadable(f"the key {_short(max(names, key=names.count))} is there twice")
    return found


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise Unreadable(f"{_short(text)} is not a finite number")
    return value


def _int(text: str) -> int:
    if len(text) > DIGITS:
        raise Unreadable(f"a number of {len(text)} digits")
    return int(text)


def _constant(text: str) -> float:
    raise Unreadable(f"{text}; expected null for a number that is missing")
