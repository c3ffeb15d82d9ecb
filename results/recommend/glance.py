"""Answers at a glance: the table of needs and tracks, and how to read it. `wording` has them in full."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from results.recommend.rankings import DIMENSIONS
from results.recommend.wording import (
    NOISY,
    NONE,
    TRACK_WORDS,
    Link,
    as_above,
    beaten,
    beaten_elsewhere,
    first_named,
    leads,
    markdown_link,
    named,
    not_seen,
    plain,
    upper,
)

Answer = Mapping[str, Any]

MOST_MISSED = 3  # of those not compared; more are counted

GLANCE = (
    "As published: every rule with its source's values; balanced: its knob where its loss is lowest among values that "
    "keep MaxVio under 1, and no rule that is over it on the board. Cells rest on different models, in brackets. Named "
    "first: every strategy not shown to be worse than some other. Next: the closest of the rest, and how far behind in "
    "nats/token. Strategies not named are further behind, or not what is asked for. Times on several devices are "
    "simulated from recorded loads; extrapolated: from more, or fewer, tokens than any run had."
)


def as_markdown(answers: Sequence[Answer], folder: str) -> list[str]:
    """The answers as a table, a need a line, and how to read it.

    Args:
        folder: the way to the published boards, "" or ending in a slash.
    """
    lines = ["| " + " | ".join(line) + " |" for line in grid(answers, markdown_link(folder))]
    lines.insert(1, "|" + " --- |" * len(grid(answers)[0]))
    return [*(line for words in lead(answers) for line in (words, "")), *lines, "", below(answers)]


def grid(answers: Sequence[Answer], link: Link = plain) -> list[list[str]]:
    """A line per need and a column per track, under a head."""
    tracks = list(dict.fromkeys(answer["track"] for answer in answers))
    head = ["You need", *(upper(TRACK_WORDS[track]) for track in tracks)]
    lines: dict[str, list[str]] = {}
    for i, answer in enumerate(answers):
        line = lines.setdefault(answer["need"], [upper(answer["question"])])
        line.append(as_above(headline, answer, link, answers[:i]))
    return [head, *lines.values()]


def headline(answer: Answer, link: Link = plain) -> str:
    """The answer at a glance: who is named first, who is the nearest of those behind, on which task; then, without
    figures, what a reader who goes by it has to know. `brief` has them.
    """
    if not answer["evidence"]:
        blunt = answer["blunt"][:1]
        return NONE + "".join(f": {found['task']} is too blunt; there {leads(found, link)}" for found in blunt) + "."
    found = answer["evidence"][0]
    first = [first_named(found, link)]
    for entry in found["behind"][:1]:
        beyond = " (extrapolated)" * (entry["title"] in found["extrapolated"])
        first += [f"next {link(named(entry), entry['row'])}, +{entry['mean']:.3f}{beyond}"]
    recipe = f", {found['recipe']}" if found["recipe"] else ""
    said = ["; ".join(first) + f" ({found['task']}{recipe}{', blunt' * found['blunt']})"]
    lost, beyond = [entry["title"] for entry in beaten(found)], ""
    if lost:
        beyond = " (extrapolated)" * found["twin"]["extrapolated"]
    if lost and len(lost) == len(found["set"]):
        said = [f"None is ahead of the dense twin, which has no experts{beyond}. Of the strategies: {said[0]}"]
    elif lost:
        said += [f"The dense twin, which has no experts, is ahead of {' and '.join(lost)}{beyond}"]
    for other, low in beaten_elsewhere(answer, found):
        said += [f"Behind the dense twin on {_where(other, found)}: {', '.join(title for title, _ in low)}"]
    uneven = [entry["title"] for entry in found["left_out"] if entry["uneven"]]
    said += [f"Not balanced: {', '.join(uneven)}"] if uneven else []
    missed = [entry["title"] for entry in (*found["too_few"], *found["diverged"], *found["absent"])]
    if missed:
        said += [
            f"Not compared: {', '.join(missed)}" if len(missed) <= MOST_MISSED else f"Not compared: {len(missed)} more"
        ]
    return ". ".join([*dict.fromkeys(said), *_elsewherefirst_named(answer["evidence"], link)])


def _elsewherefirst_named(evidence: Sequence[Answer], link: Link) -> list[str]:
    """Who is named first on other boards, place by place, where that is not who is here.

    Boards of a place that say different things are told apart by "or". One that leaves a strategy out which leads on
    another says nothing against it.
    """
    places: dict[str, list[Answer]] = {}
    own = evidence[0]
    for other in evidence[1:]:
        same_place = (other["task"], other["recipe"]) == (own["task"], own["recipe"])
        if not same_place or _titles(own["set"]) & _titles((*other["set"], *other["behind"])):
            places.setdefault(_where(other, own), []).append(other)
    said = []
    for where, found in places.items():
        sets: dict[frozenset[str], str] = {}
        for other in found:
            leaders, took_part = _titles(other["set"]), _titles((*other["set"], *other["behind"]))
            fuller = [_titles(more["set"]) for more in found if leaders < _titles(more["set"])]
            if not any(not (more - leaders) & took_part for more in fuller):
                sets.setdefault(leaders, first_named(other, link))
        if sets.keys() != {_titles(own["set"])}:
            said.append(f"On {where}: {' or '.join(sets.values())}")
    return said


def _where(other: Answer, found: Answer) -> str:
    """Another cell's task; its recipe and its board as well, where they are what tells it from the one that answers."""
    where = str(other["task"])
    where += f" with {other['recipe']}" if other["recipe"] and other["recipe"] != found["recipe"] else ""
    return f"{where} of {other['board']}" if where == found["task"] else where


def _titles(entries: Sequence[Answer]) -> frozenset[str]:
    return frozenset(entry["title"] for entry in entries)


def lead(answers: Sequence[Answer]) -> list[str]:
    """What stands over the table: what size of model all of it is from."""
    found = [found for answer in answers for found in answer["evidence"]]
    if not found:
        return []
    parameters, tokens = ([entry[name] for entry in found] for name in ("parameters", "tokens"))
    return [
        f"From models of {_between(parameters)} parameters, trained on {_between(tokens)} tokens: small and short. "
        f"With other sizes and recipes the answer may be another: below the table, how far rankings have been seen to "
        f"travel."
    ]


def _between(counts: Sequence[int]) -> str:
    low, high = (f"{count / 1e6:.3g}" for count in (min(counts), max(counts)))
    return f"{low} million" if low == high else f"{low} to {high} million"


def below(answers: Sequence[Answer]) -> str:
    """What stands under the table: how to read it, or what is missing."""
    if not any(answer["evidence"] for answer in answers):
        return _why_nothing(answers)
    noisy = any(found["blunt"] for answer in answers for found in answer["evidence"])
    return f"{GLANCE} {upper(NOISY)}." if noisy else GLANCE


def _why_nothing(answers: Sequence[Answer]) -> str:
    words = list(dict.fromkeys(missed["words"] for answer in answers for missed in answer["missing"]))
    more = f"; and {len(words) - 4} more" if len(words) > 4 else ""
    return f"What is missing: {'; '.join(words[:4])}{more}."


def travel_in_short(ranked: Sequence[Answer]) -> str:
    """How rankings travel in a sentence: between which two τ they lie in each direction, and the lowest end of their
    intervals.
    """
    found: dict[str, list[Answer]] = {}
    for entry in ranked:
        if entry["word"] != "no evidence":
            found.setdefault(DIMENSIONS[entry["dimension"]], []).append(entry)
    said = []
    for words, entries in found.items():
        low, high = (f"{end(entry['tau'] for entry in entries):.2f}" for end in (min, max))
        between = low if low == high else f"{low} to {high}"
        said.append(f"{words} {between} (at least {min(entry['low'] for entry in entries):.2f})")
    how = (
        "How rankings travel, by Kendall's τ (1: the same order; above 0.5 at least, one place speaks for the other): "
    )
    return how + "; ".join([*said, *not_seen(ranked)]) + "."
