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
    A - B, A / B, - A      difference, or ratio, of two such references; one with its sign turned round
    "words"                what is no figure of a board, such as "4 of 256" or "6 seeds"; the sentence must hold it

BOARD is a folder of the published boards. A field that is a word (a verdict) has to stand in the sentence. Figures in
`code` and in links' targets need no reference. A figure agrees if the value rounds to it, sign and all: one without a
sign is of a value that is not negative, so that "0.03 above" is held to B - A > 0; before % the value is a share.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).resolve().parents[2]
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
    """A stretch of a page and the references of the comment behind it."""

    text: str
    references: tuple[str, ...]
    start: int = 0  # its first character's place in the page


@dataclass(frozen=True)
class Figure:
    """A figure as a sentence prints it, where it stands in the sentence, and what the boards have for it."""

    start: int
    end: int
    sign: str
    digits: str
    percent: str | None
    reference: str
    value: float

    @property
    def agrees(self) -> bool:
        return agrees(self.sign, self.digits, self.percent, self.value)

    @property
    def rounded(self) -> str:
        return rounded(self.sign, self.digits, self.percent, self.value)


@dataclass(frozen=True)
class Word:
    """A reference to a word, a verdict, that the sentence has to say."""

    reference: str
    value: str


def disagreements(text: str, published: Path) -> list[str]:
    """A line for every sentence of a page whose figures are not those of the boards."""
    found = []
    for sentence in sentences(text):
        try:
            _agree(sentence, *_compared(sentence, published))
        except ValueError as error:
            found.append(f"{' '.join(sentence.text.split())!r:.160}: {error}")
    return found


def renewed(text: str, published: Path) -> tuple[str, list[str]]:
    """A page with the boards' figures in place of those that are not theirs any more, and its sentences with new ones.

    A figure keeps its places after the point, and shows its sign where it had one or falls below zero. What is said
    around it stays: whether it still holds is for whoever reads the sentences named here, and `disagreements` names
    the words that do not.
    """
    changed = []
    for sentence in reversed(list(sentences(text))):
        try:
            figures, _ = _compared(sentence, published)
        except ValueError:
            continue  # no reference to go by, or none for each figure
        old = new = sentence.text
        for figure in reversed(figures):
            if not figure.agrees:
                new = new[: figure.start] + figure.rounded + new[figure.end :]
        if new != old:
            text = text[: sentence.start] + new + text[sentence.start + len(old) :]
            changed.append(" ".join(new.split()))
    return text, changed[::-1]


def sentences(text: str) -> Iterator[Sentence]:
    """A page in sentences; a comment belongs to the one before it."""
    text = _CODE.sub(_blank, text)
    for start, block in _between(_BLOCK, text):
        at = start
        for index, part in enumerate(COMMENT.split(block)):  # text, comment, text, comment, …, text
            if index % 2:
                at += len(part) + len("<!--" + "-->")
                continue
            said = [Sentence(own.strip(), (), at + place + len(own) - len(own.lstrip()))
                    for place, own in _between(_SENTENCE, part) if own.strip()]  # fmt: skip
            at += len(part)
            comment = COMMENT.match(text, at)
            references = _REFERENCE.findall(comment[1]) if comment and at < start + len(block) else []
            if references:
                last = said.pop() if said else Sentence("", (), at)
                said.append(replace(last, references=tuple(own.strip() for own in references if own.strip())))
            yield from said


def _between(separator: re.Pattern[str], text: str) -> Iterator[tuple[int, str]]:
    """What stands between separators, each with its place in the text."""
    at = 0
    for found in separator.finditer(text):
        yield at, text[at : found.start()]
        at = found.end()
    yield at, text[at:]


def _blank(found: re.Match[str]) -> str:
    """Spaces in place of what is not read, so that all else keeps its place."""
    return re.sub(r"\S", " ", found[0])


def _compared(sentence: Sentence, published: Path) -> tuple[list[Figure], list[Word]]:
    """A sentence's figures and the words that it has to say, with the boards' values.

    Raises:
        ValueError: a reference that leads nowhere, or another number of figures than of references to figures.
    """
    text = " " * len(sentence.text) if _RULE.match(sentence.text) else sentence.text
    for pattern in _UNREAD:
        text = pattern.sub(_blank, text)
    place: str | None = None
    values: list[tuple[str, float]] = []
    words: list[Word] = []
    for reference in sentence.references:
        if reference.startswith('"'):
            quoted = r"\s+".join(re.escape(word) for word in reference.strip('"').split())
            text, there = re.subn(quoted, _blank, text, count=1)
            if not there:
                raise ValueError(f"{reference} is not in the sentence")
            continue
        value, place = _resolve(reference, place, published)
        if isinstance(value, str):
            words.append(Word(reference, value))
        else:
            values.append((reference, value))
    figures = list(FIGURE.finditer(text))
    if len(figures) != len(values):
        shown = ", ".join(figure.group().strip() for figure in figures) or "none"
        raise ValueError(
            f"{len(figures)} figures ({shown}), {len(values)} references to figures; expected a "
            'reference for each, as in <!-- BOARD/ARM/TASK delta_loss.mean; "4 of 256" -->'
        )
    return [
        Figure(found.start(), found.end(), found[1], found[2], found[3], reference, value)
        for found, (reference, value) in zip(figures, values, strict=True)
    ], words


def _agree(sentence: Sentence, figures: list[Figure], words: list[Word]) -> None:
    text = " ".join(sentence.text.split())
    at = 0  # words stand in the order of their references: a row of a table has several verdicts
    for word in words:
        found = re.compile(rf"\b{re.escape(word.value)}\b").search(text, at)
        if not found:
            raise ValueError(f"{word.reference} is {word.value!r}, which the sentence does not say there")
        at = found.end()
    for figure in figures:
        if not figure.agrees:
            shown = sentence.text[figure.start : figure.end].strip()
            raise ValueError(f"{shown}: {figure.reference} is {figure.value:.6g}")


def rounded(sign: str, digits: str, percent: str | None, value: float) -> str:
    """A value as a figure is printed: with its places after the point, its sign, its thousands and its %."""
    exact = 100 * value if percent else value
    places = len(digits.partition(".")[2])
    number = f"{abs(exact):{',' if ',' in digits else ''}.{places}f}"
    minus = "-" if sign == "-" else "−"
    return (minus if exact < 0 else "+" * bool(sign)) + number + (percent or "")


def agrees(sign: str, digits: str, percent: str | None, value: float) -> bool:
    """Whether a figure as printed is the value, rounded."""
    number = float(digits.replace(",", ""))
    exact = 100 * value if percent else value
    stated = {"+": number, "": number}.get(sign, -number)
    return abs(stated - exact) <= 0.5 * 10.0 ** -len(digits.partition(".")[2]) * (1 + 1e-9)


def _resolve(reference: str, place: str | None, published: Path) -> tuple[float | str, str]:
    """The value of a reference, and the place that a bare field after it belongs to."""
    turned = reference.startswith("- ")
    parts = re.split(r"\s([-/])\s", reference.removeprefix("- "))
    value, place = _one(parts[0], place, published)
    for operator, other in zip(parts[1::2], parts[2::2], strict=True):
        second, place = _one(other, place, published)
        if isinstance(value, str) or isinstance(second, str):
            raise ValueError(f"{reference}: words can't be subtracted or divided; expected figures")
        value = value - second if operator == "-" else value / second
    if turned:
        if isinstance(value, str):
            raise ValueError(f"{reference}: a word has no sign; expected a figure")
        value = -value
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


@click.command()
@click.argument("page", type=click.Path(exists=True, dir_okay=False), default=ROOT / "docs" / "findings.md")
@click.option("--renew", is_flag=True, help="Write the boards' figures in place of those that are not theirs any more.")
def main(page: str, renew: bool) -> None:
    """Hold a page of findings to the published boards; exit code 1 where a sentence does not say what they say."""
    file, published = Path(page), ROOT / "results" / "published"
    if renew:
        text, changed = renewed(file.read_text(encoding="utf-8"), published)
        file.write_text(text, encoding="utf-8")
        for sentence in changed:
            click.echo(f"new figures, read it again: {sentence}")
    wrong = disagreements(file.read_text(encoding="utf-8"), published)
    for line in wrong:
        click.echo(line)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
