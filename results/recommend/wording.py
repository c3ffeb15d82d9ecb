"""Answers in words: for a terminal, for Markdown, and as parts that a page links to its rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from results.recommend.rankings import DIMENSIONS
from results.recommend.travel import WORDS
from results.text import cell

Answer = Mapping[str, Any]
Link = Callable[[str, str], str]  # words, row key → the words, linked to the row

TRACK_WORDS = {"as-published": "as published", "tuned": "tuned", "balanced": "balanced"}
NONE = "No evidence"
NOT_APART = "none is shown to be worse than another"
MOST_NAMED = 6  # of those behind, the nearest; the rest is counted


def plain(words: str, _row: str) -> str:
    return words


def verdict(found: Answer, link: Link = plain) -> str:
    """What one cell says: who is not shown to be worse than the best, and how far behind the others are."""
    inside, behind = found["set"], found["behind"]
    named = ", ".join(link(_named(entry), entry["row"]) for entry in inside)
    if not behind:
        return f"{len(inside)} strategies, none shown to be worse than the best: {named}."
    if len(inside) == 1:
        compared = " compared" if found["too_few"] else ""
        said = f"{named}: all others{compared} are shown to be worse."
    else:
        said = f"{named}: none of these {len(inside)} is shown to be worse than the best."
    nearest = behind[:MOST_NAMED]
    said += " Behind: " + ", ".join(f"{link(_named(entry), entry['row'])} by {by(entry)}" for entry in nearest)
    rest = behind[MOST_NAMED:]
    if rest:
        said += f", {len(rest)} more" if len(rest) > 1 else f", {link(_named(rest[0]), rest[0]['row'])}"
        said += f" by up to {rest[-1]['mean']:.3f}" if len(rest) > 1 else f" by {by(rest[0])}"
    return said + "."


def by(entry: Answer) -> str:
    """How far behind the best of the others: mean and the two bounds, each of which holds with 95 %."""
    return f"{entry['mean']:.3f} [{entry['low']:.3f}, {entry['high']:.3f}]"


def basis(found: Answer) -> str:
    """What a cell's answer rests on."""
    ns = sorted({entry["n"] for entry in (*found["set"], *found["behind"])})
    seeds = f"{ns[0]}" if len(ns) == 1 else f"{ns[0]} to {ns[-1]}"
    parts = [f"{found['task']}", f"{found['experts']} experts top-{found['top_k']}"]
    parts += [found["recipe"]] if found["recipe"] else []
    parts += ["blunt"] if found["blunt"] else []
    parts += [found["hardware"] or "no hardware named"] if found["kinds_of_hardware"] > 1 else []
    parts += [f"equal time on {found['devices']} devices, simulated"] if found["devices"] > 1 else []
    return ", ".join([*parts, f"{seeds} seeds"])


def caveats(found: Answer) -> list[str]:
    """What did not take part, and why."""
    said = [upper(NOISY)] if found["blunt"] else []
    if found["extrapolated"]:
        said += [f"{', '.join(found['extrapolated'])}: at equal time beyond half or double the horizon, extrapolated"]
    said += [f"{entry['title']} diverged" for entry in found["diverged"]]
    said += [f"{entry['title']} has only {entry['n']} seeds" for entry in found["too_few"]]
    said += [upper(words) for words in [dense_words(found)] if words]
    out: dict[str, list[str]] = {}
    for entry in found["left_out"]:
        out.setdefault(entry["why"], []).append(entry["title"])
    return said + [f"{', '.join(titles)} left out: {why}" for why, titles in out.items()]


def dense_words(found: Answer) -> str:
    """Which of those named first a dense network of as many FLOPs is ahead of; empty where it is of none."""
    twin = found["twin"]
    beaten = (
        [(entry, twin["ahead_of"][entry["row"]]) for entry in found["set"] if entry["row"] in twin["ahead_of"]]
        if twin
        else []
    )
    if not beaten:
        return ""
    named = ", ".join(f"{_named(entry)} by {by(far)}" for entry, far in beaten)
    return f"the dense twin, without experts, is ahead of {named}" + (" (extrapolated)" if twin["extrapolated"] else "")


def elsewhere(answer: Answer, found: Answer) -> list[str]:
    """Where, on tasks too blunt to go by, one of those named first is behind the dense twin all the same."""
    titles = {entry["title"] for entry in found["set"]}
    said = []
    for other in answer["blunt"]:
        twin = other["twin"] or {"ahead_of": {}}
        low = [
            f"{entry['title']} by {by(twin['ahead_of'][entry['row']])}"
            for entry in (*other["set"], *other["behind"])
            if entry["title"] in titles and entry["row"] in twin["ahead_of"]
        ]
        if low:
            said.append(f"behind the dense twin on {other['task']} of {other['board']}: {', '.join(low)}")
    return said


def as_text(answers: Sequence[Answer], ranked: Sequence[Answer] = ()) -> str:
    """All answers for a terminal."""
    lines: list[str] = []
    for answer in answers:
        lines += [f"{answer['question']} ({TRACK_WORDS[answer['track']]})"]
        if not answer["evidence"]:
            lines += [f"  {NONE}."]
        for found in answer["evidence"]:
            lines += [f"  {verdict(found)}", f"    from {found['board']}: {basis(found)}"]
            lines += [f"    {caveat}" for caveat in (*caveats(found), *map(upper, elsewhere(answer, found)))]
        lines += [
            f"  too blunt to go by, {found['task']} on {found['board']}: {verdict(found)}" for found in answer["blunt"]
        ]
        lines += [f"  missing: {missed['words']}" for missed in answer["missing"]]
        lines += [""]
    if any(answer["evidence"] for answer in answers):
        lines += [READING, ""]
    if ranked:
        lines += ["How rankings travel", *(f"  {travels(entry)}" for entry in ranked), ""]
    return "\n".join(lines).rstrip()


NOISY = "blunt: experts gain enough, but less than ten times the spread; who is named first may still be behind"

READING = (
    "A strategy is named first unless some other is shown to have the lower loss (one-sided paired t tests, adjusted; "
    "the best is named with 95 %). Behind: mean difference in nats/token, and between how much and how much, each "
    "with 95 %. At equal time, the baseline's loss over its horizons, by which time becomes loss, is taken as exact."
)


def travels(entry: Answer) -> str:
    """How one ranking agrees with another."""
    if entry["word"] == "no evidence":
        return f"{NONE}: {entry['words']}."
    first, second = entry["labels"]
    counts = f"{entry['same']} are shown in the same order, {entry['opposite']} in opposite, {entry['open']} open"
    return (
        f"{DIMENSIONS[entry['dimension']]}, {first} to {second}: {entry['word']}, "
        f"τ {entry['tau']:.2f} [{entry['low']:.2f}, {entry['high']:.2f}]; "
        f"of {entry['pairs']} pairs of {entry['arms']} strategies {counts}."
    )


def as_markdown(answers: Sequence[Answer], ranked: Sequence[Answer], folder: str) -> list[str]:
    """The answers as a table, a need a line; below it what is missing and how rankings travel.

    Args:
        folder: the way to the published boards, "" or ending in a slash.
    """

    def link(words: str, row: str) -> str:
        return f"[{cell(words)}]({folder}{quote(address(row), safe='/#')})"

    lines = ["| " + " | ".join(line) + " |" for line in grid(answers, link)]
    lines.insert(1, "|" + " --- |" * len(grid(answers)[0]))
    lines = [*(line for words in lead(answers) for line in (words, "")), *lines]
    lines += ["", *(line for words in below(answers, ranked) for line in (words, ""))]
    shown = [entry for entry in ranked if entry["word"] != "no evidence"]
    return [*lines, *(f"- {cell(travels(entry))}" for entry in shown)]


def grid(answers: Sequence[Answer], link: Link = plain) -> list[list[str]]:
    """A line per need and a column per track, under a head."""
    tracks = list(dict.fromkeys(answer["track"] for answer in answers))
    needs = dict.fromkeys(answer["need"] for answer in answers)
    head = ["You need", *(TRACK_WORDS[track].capitalize() for track in tracks)]
    lines = []
    for need in needs:
        before = [answer for answer in answers if list(needs).index(answer["need"]) < list(needs).index(need)]
        lines.append(_line([answer for answer in answers if answer["need"] == need], link, before))
    return [head, *lines]


def lead(answers: Sequence[Answer]) -> list[str]:
    """What stands over the table: what size of model all of it is from."""
    found = [found for answer in answers for found in answer["evidence"]]
    if not found:
        return []
    parameters, tokens = ([entry[name] for entry in found] for name in ("parameters", "tokens"))
    return [
        f"From models of {_between(parameters)} parameters, trained on {_between(tokens)} tokens. At other sizes and "
        f"with other recipes the answer may be another: below the table, how far rankings have been seen to travel."
    ]


def _between(counts: Sequence[int]) -> str:
    low, high = (f"{count / 1e6:.3g}" for count in (min(counts), max(counts)))
    return f"{low} million" if low == high else f"{low} to {high} million"


def below(answers: Sequence[Answer], ranked: Sequence[Answer]) -> list[str]:
    """What stands under the table: how to read it, or what is missing; and how rankings travel."""
    noisy = any(found["blunt"] for answer in answers for found in answer["evidence"])
    reading = f"{READING} {upper(NOISY)}." if noisy else READING
    return [
        reading if any(answer["evidence"] for answer in answers) else _why_nothing(answers),
        "How rankings travel: " + _summary(ranked),
    ]


def address(row: str) -> str:
    """Where a row is, from the folder of the published boards."""
    board, arm, task = row.rsplit("/", 2)
    return f"{board}/index.html#{anchor(arm, task)}"


def anchor(arm: str, task: str) -> str:
    """The id of a row on its board's page."""
    return "row-" + re.sub(r"[^a-z0-9]+", "-", f"{arm}-{task}".lower()).strip("-")[:60]


def _line(answers: Sequence[Answer], link: Link, before: Sequence[Answer]) -> list[str]:
    return [upper(answers[0]["question"]), *(_cell(answer, link, before) for answer in answers)]


def _cell(answer: Answer, link: Link, before: Sequence[Answer]) -> str:
    """The short answer, or which need above has the same."""
    said = brief(answer)
    for other in before:
        if answer["evidence"] and other["track"] == answer["track"] and brief(other) == said:
            first = answer["evidence"][0]["set"]
            return ", ".join(link(_named(entry), entry["row"]) for entry in first) + f": as for {other['question']}"
    return brief(answer, link)


def brief(answer: Answer, link: Link = plain) -> str:
    """The answer of the largest cell that has one, with no more of those behind than the nearest and the last; then who
    comes first in the others, where that is not the same.
    """
    if not answer["evidence"]:
        blunt = answer["blunt"][:1]
        return f"{NONE}" + "".join(f": {_blunt(found, link)}" for found in blunt) + "."
    found = answer["evidence"][0]
    inside, behind = found["set"], found["behind"]
    said = ", ".join(link(_named(entry), entry["row"]) for entry in inside)
    if behind:
        others = f"{len(behind)} others" if len(behind) > 1 else "the other"
        ends = [f"{link(_named(entry), entry['row'])} by {_far(entry, found)}" for entry in behind]
        said += f"; {others} behind, {ends[0]}" + (f" to {ends[-1]}" if len(behind) > 1 else "")
    else:
        said += "; none shown to be worse"
    if found["too_few"]:
        said += f"; not compared for want of seeds: {', '.join(_named(entry) for entry in found['too_few'])}"
    said += f" ({basis(found)})"
    uneven = [entry["title"] for entry in found["left_out"] if entry["uneven"]]
    said += f"; not balanced: {', '.join(uneven)}" if uneven else ""
    said += "".join(f"; {words}" for words in [dense_words(found), *elsewhere(answer, found)] if words)
    first = {entry["title"] for entry in inside}
    unlike = [other for other in answer["evidence"][1:] if {entry["title"] for entry in other["set"]} != first]
    for other in unlike:
        named = ", ".join(link(_named(entry), entry["row"]) for entry in other["set"])
        said += f"; on {other['task']}: {named}"
    return said


def _blunt(found: Answer, link: Link) -> str:
    """What is shown on a task on which experts gain too little to go by."""
    inside, behind = found["set"], found["behind"]
    named = ", ".join(link(_named(entry), entry["row"]) for entry in inside)
    shown = f"{named} lead{'s' * (len(inside) == 1)}, {_named(behind[-1])} is last" if behind else NOT_APART
    return f"{found['task']} {found['why']}; there {shown}"


def _far(entry: Answer, found: Answer) -> str:
    return by(entry) + (" (extrapolated)" if entry["title"] in found["extrapolated"] else "")


def _why_nothing(answers: Sequence[Answer]) -> str:
    words = list(dict.fromkeys(missed["words"] for answer in answers for missed in answer["missing"]))
    more = f"; and {len(words) - 4} more" if len(words) > 4 else ""
    return f"What is missing: {'; '.join(words[:4])}{more}."


def _summary(ranked: Sequence[Answer]) -> str:
    absent = [DIMENSIONS[entry["dimension"]] for entry in ranked if entry["word"] == "no evidence"]
    said = [f'"{word}": {WORDS[word]}' for word in WORDS if any(entry["word"] == word for entry in ranked)]
    return "; ".join([*said, *([f"no evidence {', '.join(absent)}"] if absent else [])]) + "."


def _named(entry: Answer) -> str:
    marks = f" ({', '.join(entry['marks'])})" if entry["marks"] else ""
    return f"{entry['title']}{marks}"


def upper(words: str) -> str:
    return words[:1].upper() + words[1:]
