"""Whether a page of findings says what the published boards say: every figure of every sentence, by reference.

A sentence, heading, list item or row of a table that holds a figure ends in a comment that says where each comes from,
in the sentence's order, separated by semicolons:

    Hash leads by 0.210 nats [0.190, 0.230] at 4 of 256.
    <!-- standard-cpu/hash/text-bench delta_loss.mean; delta_loss.ci_low; delta_loss.ci_high; "4 of 256" -->

    BOARD/ARM/TASK field   of a row of the board's leaderboard.json
    BOARD/TASK field       of a task's entry there; BOARD field of the whole
    claims/ID field        of a verdict in claims.json
    claims WORD            how many claims have that verdict: reproduced, not_reproduced, contradicted, undecided
    PATH.json field        of any other published file
    field                  of the place before
    A - B, A / B           difference, or ratio, of two such references
    "words"                what is no figure of a board, such as "4 of 256" or "6 seeds"; the sentence must hold it

BOARD is a folder of the published boards. A field that is a word (a verdict) has to stand in the sentence. Figures in
`code` and in links' targets need no reference. A figure agrees if the value rounds to it; its sign counts where it has
one; before % the value is a share.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

COMMENT = re.compile(r"<!--(.*?)-->", re.DOTALL)
FIGURE = re.compile(r"(?<![\w.–-])([+−-]?)(\d[\d,]*(?:\.\d+)?)(\s?%)?")
_BLOCK = re.compile(r"\n\s*\n|\n(?=\s*(?:[-*] |\d+\. |#|\|))")
_SENTENCE = re.compile(r"(?<=[.!?:])\s+(?=[A-Z*_\[(`])")
_REFERENCE = re.compile(r'"[^"]*"|[^;"]+')
_CODE = re.compile(r"^```.*?^```\s*?$", re.DOTALL | re.MULTILINE)
_UNREAD = (re.compile(r"`[^`]*`"), re.compile(r"(?<=\])\([^)]*\)"))
_RULE = re.compile(r"^\|(?:\s*:?-+:?\s*\|)+$")


@dataclass(frozen=True)
class Sentence:
    """A stretch of text and the references of the comment behind it."""

    text: str
    references: tuple[str, ...]


def disagreements(text: str, published: Path) -> list[str]:
    """A line for every sentence of a page whose figures are not those of the boards."""
    found = []
    for sentence in sentences(text):
        try:
            _check(sentence, published)
        except ValueError as error:
            found.append(f"{' '.join(sentence.text.split())!r:.160}: {error}")
    return found


def sentences(text: str) -> Iterator[Sentence]:
    """A page in sentences; a comment belongs to the one before it."""
    for block in _BLOCK.split(_CODE.sub("", text)):
        parts = COMMENT.split(block)  # text, comment, text, comment, …, text
        for index in range(0, len(parts), 2):
            said = [part for part in _SENTENCE.split(parts[index].strip()) if part]
            comment = parts[index + 1] if index + 1 < len(parts) else ""
            references = tuple(part.strip() for part in _REFERENCE.findall(comment) if part.strip())
            yield from (Sentence(part, ()) for part in (said[:-1] if references else said))
            if references:
                yield Sentence(said[-1] if said else "", references)


def _check(sentence: Sentence, published: Path) -> None:
    text = "" if _RULE.match(sentence.text.strip()) else sentence.text
    for pattern in _UNREAD:
        text = pattern.sub(" ", text)
    text = " ".join(text.split())
    place: str | None = None
    values: list[tuple[str, float]] = []
    for reference in sentence.references:
        if reference.startswith('"'):
            words = " ".join(reference.strip('"').split())
            if words not in text:
                raise ValueError(f"{reference} is not in the sentence")
            text = text.replace(words, " ", 1)
            continue
        value, place = _resolve(reference, place, published)
        if isinstance(value, str):
            if not re.search(rf"\b{re.escape(value)}\b", text):
                raise ValueError(f"{reference} is {value!r}, which the sentence does not say")
        else:
            values.append((reference, value))
    figures = list(FIGURE.finditer(text))
    shown = [figure.group().strip() for figure in figures]
    if len(figures) != len(values):
        raise ValueError(
            f"{len(figures)} figures ({', '.join(shown) or 'none'}), {len(values)} references to figures; expected a "
            'reference for each, as in <!-- BOARD/ARM/TASK delta_loss.mean; "4 of 256" -->'
        )
    for figure, (reference, value) in zip(figures, values, strict=True):
        sign, digits, percent = figure.groups()
        if not agrees(sign, digits, percent, value):
            raise ValueError(f"{figure.group().strip()}: {reference} is {value:.6g}")


def agrees(sign: str, digits: str, percent: str | None, value: float) -> bool:
    """Whether a figure as printed is the value, rounded."""
    number = float(digits.replace(",", ""))
    exact = 100 * value if percent else value
    stated = {"+": number, "": number}.get(sign, -number)
    wanted = exact if sign else abs(exact)
    return abs(stated - wanted) <= 0.5 * 10.0 ** -len(digits.partition(".")[2]) * (1 + 1e-9)


def _resolve(reference: str, place: str | None, published: Path) -> tuple[float | str, str]:
    """The value of a reference, and the place that a bare field after it belongs to."""
    parts = re.split(r"\s([-/])\s", reference)
    value, place = _one(parts[0], place, published)
    for operator, other in zip(parts[1::2], parts[2::2], strict=True):
        second, place = _one(other, place, published)
        if isinstance(value, str) or isinstance(second, str):
            raise ValueError(f"{reference}: words can't be subtracted or divided; expected figures")
        value = value - second if operator == "-" else value / second
    return value, place


def _one(reference: str, place: str | None, published: Path) -> tuple[float | str, str]:
    words = reference.split()
    if len(words) > 2 or (len(words) == 1 and place is None):
        raise ValueError(f"{reference!r}; expected PLACE FIELD, or FIELD after another reference")
    where = words[0] if len(words) == 2 else str(place)
    found: Any = _at(where, published)
    keys = words[-1].split(".")
    while keys:
        # A key such as 1.25 holds a dot.
        for length in range(len(keys), 0, -1):
            key = ".".join(keys[:length])
            if isinstance(found, dict) and key in found:
                found, keys = found[key], keys[length:]
                break
            if isinstance(found, list) and key.isdecimal() and int(key) < len(found):
                found, keys = found[int(key)], keys[length:]
                break
        else:
            known = list(found) if isinstance(found, dict) else type(found).__name__
            raise ValueError(f"{reference}: no {'.'.join(keys)!r}; expected one of {known}")
    if isinstance(found, bool) or not isinstance(found, int | float | str):
        raise ValueError(f"{reference}: {found!r:.80} is neither figure nor word")
    return found, where


def _at(place: str, published: Path) -> Any:
    """What a place names: a row, a task's entry, a board, a verdict on a claim, a file."""
    if place.endswith(".json"):
        return _file(published / place)
    if place.split("/")[-1] == "claims":
        return Counter(
            verdict["verdict"].replace(" ", "_") for verdict in _file((published / place).with_suffix(".json"))
        )
    home, _, identifier = place.rpartition("/")
    if home.split("/")[-1] == "claims":
        verdicts = {verdict["id"]: verdict for verdict in _file((published / home).with_suffix(".json"))}
        return _among(verdicts, identifier, place)
    names = place.split("/")
    for length in range(len(names), 0, -1):
        path = published.joinpath(*names[:length]) / "leaderboard.json"
        if path.exists():
            board, rest = _file(path), names[length:]
            if not rest:
                return board
            if len(rest) == 1:
                return _among({task["name"]: task for task in board["tasks"]}, rest[0], place)
            return _among({f"{row['arm']}/{row['task']}": row for row in board["rows"]}, "/".join(rest), place)
    raise ValueError(f"{place}: no published board; expected BOARD/ARM/TASK, BOARD/TASK, claims/ID or a .json file")


def _among(known: dict[str, Any], name: str, place: str) -> Any:
    if name not in known:
        raise ValueError(f"{place}: no {name!r}; expected one of {', '.join(known)}")
    return known[name]


@lru_cache(maxsize=16)
def _file(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path.name}: cannot be read ({error})") from None
