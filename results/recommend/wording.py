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
    said += [f"{', '.join(entry['title'] for entry in found['absent'])} not run"] if found["absent"] else []
    said += [upper(words) for words in [dense_words(found)] if words]
    out: dict[str, list[str]] = {}
    for entry in found["left_out"]:
        out.setdefault(entry["why"], []).append(entry["title"])
    return said + [f"{', '.join(titles)} left out: {why}" for why, titles in out.items()]


def dense_words(found: Answer) -> str:
    """Which of those named first a dense network of as many FLOPs is ahead of; empty where it is of none."""
    beaten = _beaten(found)
    if not beaten:
        return ""
    twin = found["twin"]
    named = ", ".join(f"{_named(entry)} by {by(twin['ahead_of'][entry['row']])}" for entry in beaten)
    return f"the dense twin, without experts, is ahead of {named}" + (" (extrapolated)" if twin["extrapolated"] else "")


def _beaten(found: Answer) -> list[Answer]:
    """Those named first that the dense twin is ahead of."""
    ahead_of = found["twin"]["ahead_of"] if found["twin"] else {}
    return [entry for entry in found["set"] if entry["row"] in ahead_of]


def elsewhere(answer: Answer, found: Answer) -> list[str]:
    """Where, on tasks too blunt to go by, one of those named first is behind the dense twin all the same."""
    return [
        f"behind the dense twin on {other['task']} of {other['board']}: "
        + ", ".join(f"{title} by {by(far)}" for title, far in low)
        for other, low in _beaten_elsewhere(answer, found)
    ]


def _beaten_elsewhere(answer: Answer, found: Answer) -> list[tuple[Answer, list[tuple[str, Answer]]]]:
    titles = {entry["title"] for entry in found["set"]}
    said = []
    for other in answer["blunt"]:
        ahead_of = other["twin"]["ahead_of"] if other["twin"] else {}
        low = [
            (entry["title"], ahead_of[entry["row"]])
            for entry in (*other["set"], *other["behind"])
            if entry["title"] in titles and entry["row"] in ahead_of
        ]
        if low:
            said.append((other, low))
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


GLANCE = (
    "As published: every rule with its source's values; balanced: its knob where its loss is lowest among values that "
    "keep MaxVio under 1, and no rule that is over it on the board. Cells rest on different models, in brackets. Named "
    "first: whoever is not shown to have a higher loss than another. Next: the nearest of those that are, by how many "
    "nats/token. Strategies not named are further behind, or not what is asked for. Times on several devices are "
    "simulated from recorded loads; extrapolated: from more, or fewer, tokens than any run had."
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


def as_markdown(answers: Sequence[Answer], folder: str) -> list[str]:
    """The answers as a table, a need a line, and how to read it.

    Args:
        folder: the way to the published boards, "" or ending in a slash.
    """
    lines = ["| " + " | ".join(line) + " |" for line in grid(answers, _markdown_link(folder))]
    lines.insert(1, "|" + " --- |" * len(grid(answers)[0]))
    return [*(line for words in lead(answers) for line in (words, "")), *lines, "", below(answers)]


def in_full_as_markdown(answers: Sequence[Answer], ranked: Sequence[Answer], folder: str) -> list[str]:
    """What the table leaves out: intervals and what each answer rests on, and how rankings travel."""
    full = in_full(answers, _markdown_link(folder))
    lines = ["", "## In full", "", READING, "", *(f"- *{label}*: {words}" for label, words in full)]
    shown = [entry for entry in ranked if entry["word"] != "no evidence"]
    return [*lines, "", summary(ranked), "", *(f"- {cell(travels(entry))}" for entry in shown)]


def _markdown_link(folder: str) -> Link:
    return lambda words, row: f"[{cell(words)}]({folder}{quote(address(row), safe='/#')})"


def grid(answers: Sequence[Answer], link: Link = plain) -> list[list[str]]:
    """A line per need and a column per track, under a head."""
    tracks = list(dict.fromkeys(answer["track"] for answer in answers))
    head = ["You need", *(upper(TRACK_WORDS[track]) for track in tracks)]
    lines: dict[str, list[str]] = {}
    for i, answer in enumerate(answers):
        line = lines.setdefault(answer["need"], [upper(answer["question"])])
        line.append(_as_above(headline, answer, link, answers[:i]))
    return [head, *lines.values()]


def in_full(answers: Sequence[Answer], link: Link = plain) -> list[tuple[str, str]]:
    """Which answer, and the whole of it: for every answer that has something to say."""
    said = []
    for i, answer in enumerate(answers):
        if answer["evidence"] or answer["blunt"]:
            label = f"{upper(answer['question'])}, {TRACK_WORDS[answer['track']]}"
            said.append((label, _as_above(brief, answer, link, answers[:i])))
    return said


def headline(answer: Answer, link: Link = plain) -> str:
    """The answer at a glance: who is named first, who is the nearest of those behind, on which task; then, without
    figures, what a reader who goes by it has to know. `brief` has them.
    """
    if not answer["evidence"]:
        blunt = answer["blunt"][:1]
        return NONE + "".join(f": {found['task']} is too blunt; there {_leads(found, link)}" for found in blunt) + "."
    found = answer["evidence"][0]
    first = [_first(found, link)]
    for entry in found["behind"][:1]:
        beyond = " (extrapolated)" * (entry["title"] in found["extrapolated"])
        first += [f"next {link(_named(entry), entry['row'])}, +{entry['mean']:.3f}{beyond}"]
    recipe = f", {found['recipe']}" if found["recipe"] else ""
    said = ["; ".join(first) + f" ({found['task']}{recipe}{', blunt' * found['blunt']})"]
    beaten, beyond = [entry["title"] for entry in _beaten(found)], ""
    if beaten:
        beyond = " (extrapolated)" * found["twin"]["extrapolated"]
    if beaten and len(beaten) == len(found["set"]):
        said = [f"None is ahead of the dense twin, which has no experts{beyond}. Of the strategies: {said[0]}"]
    elif beaten:
        said += [f"The dense twin, which has no experts, is ahead of {' and '.join(beaten)}{beyond}"]
    for other, low in _beaten_elsewhere(answer, found):
        said += [f"Behind the dense twin on {_where(other, found)}: {', '.join(title for title, _ in low)}"]
    uneven = [entry["title"] for entry in found["left_out"] if entry["uneven"]]
    said += [f"Not balanced: {', '.join(uneven)}"] if uneven else []
    missed = [entry["title"] for entry in (*found["too_few"], *found["diverged"], *found["absent"])]
    said += [f"Not compared: {', '.join(missed)}"] if missed else []
    return ". ".join([*dict.fromkeys(said), *_elsewhere_first(answer["evidence"], link)])


def _elsewhere_first(evidence: Sequence[Answer], link: Link) -> list[str]:
    """Who is named first on other boards, place by place, where that is not who is here.

    Boards of a place that say different things are told apart by "or". One that leaves a strategy out which leads on
    another says nothing against it.
    """
    places: dict[str, list[Answer]] = {}
    for other in evidence[1:]:
        places.setdefault(_where(other, evidence[0]), []).append(other)
    said = []
    for where, found in places.items():
        sets: dict[frozenset[str], str] = {}
        for other in found:
            leaders, took_part = _titles(other["set"]), _titles((*other["set"], *other["behind"]))
            fuller = [_titles(more["set"]) for more in found if leaders < _titles(more["set"])]
            if not any(not (more - leaders) & took_part for more in fuller):
                sets.setdefault(leaders, _first(other, link))
        if sets.keys() != {_titles(evidence[0]["set"])}:
            said.append(f"On {where}: {' or '.join(sets.values())}")
    return said


def _where(other: Answer, found: Answer) -> str:
    """Another cell's task; its recipe and its board as well, where they are what tells it from the one that answers."""
    where = str(other["task"])
    where += f" with {other['recipe']}" if other["recipe"] and other["recipe"] != found["recipe"] else ""
    return f"{where} of {other['board']}" if where == found["task"] else where


def _titles(entries: Sequence[Answer]) -> frozenset[str]:
    return frozenset(entry["title"] for entry in entries)


def _first(found: Answer, link: Link) -> str:
    return ", ".join(link(_named(entry), entry["row"]) for entry in found["set"])


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


def address(row: str) -> str:
    """Where a row is, from the folder of the published boards."""
    board, arm, task = row.rsplit("/", 2)
    return f"{board}/index.html#{anchor(arm, task)}"


def anchor(arm: str, task: str) -> str:
    """The id of a row on its board's page."""
    return "row-" + re.sub(r"[^a-z0-9]+", "-", f"{arm}-{task}".lower()).strip("-")[:60]


def _as_above(say: Callable[..., str], answer: Answer, link: Link, before: Sequence[Answer]) -> str:
    """The answer as `say` words it, or which one above has the same words."""
    for other in before:
        if answer["evidence"] and other["track"] == answer["track"] and say(other) == say(answer):
            return f"{_first(answer['evidence'][0], link)}: as for {other['question']}"
    return say(answer, link)


def brief(answer: Answer, link: Link = plain) -> str:
    """The answer of the largest cell that has one, with no more of those behind than the nearest and the last; then who
    comes first in the others, where that is not the same.
    """
    if not answer["evidence"]:
        blunt = answer["blunt"][:1]
        return f"{NONE}" + "".join(f": {_blunt(found, link)}" for found in blunt) + "."
    found = answer["evidence"][0]
    inside, behind = found["set"], found["behind"]
    said = _first(found, link)
    if behind:
        others = f"{len(behind)} others" if len(behind) > 1 else "the other"
        ends = [f"{link(_named(entry), entry['row'])} by {_far(entry, found)}" for entry in behind]
        said += f"; {others} behind, {ends[0]}" + (f" to {ends[-1]}" if len(behind) > 1 else "")
    else:
        said += "; none shown to be worse"
    few = [entry["title"] for entry in (*found["too_few"], *found["absent"])]
    said += f"; not compared for want of seeds: {', '.join(few)}" if few else ""
    said += f" ({basis(found)})"
    uneven = [entry["title"] for entry in found["left_out"] if entry["uneven"]]
    said += f"; not balanced: {', '.join(uneven)}" if uneven else ""
    said += "".join(f"; {words}" for words in [dense_words(found), *elsewhere(answer, found)] if words)
    first = {entry["title"] for entry in inside}
    unlike = [other for other in answer["evidence"][1:] if {entry["title"] for entry in other["set"]} != first]
    return said + "".join(f"; on {other['task']}: {_first(other, link)}" for other in unlike)


def _blunt(found: Answer, link: Link) -> str:
    """What is shown on a task on which experts gain too little to go by."""
    return f"{found['task']} {found['why']}; there {_leads(found, link)}"


def _leads(found: Answer, link: Link) -> str:
    if not found["behind"]:
        return NOT_APART
    return f"{_first(found, link)} lead{'s' * (len(found['set']) == 1)}, {_named(found['behind'][-1])} is last"


def _far(entry: Answer, found: Answer) -> str:
    return by(entry) + (" (extrapolated)" if entry["title"] in found["extrapolated"] else "")


def _why_nothing(answers: Sequence[Answer]) -> str:
    words = list(dict.fromkeys(missed["words"] for answer in answers for missed in answer["missing"]))
    more = f"; and {len(words) - 4} more" if len(words) > 4 else ""
    return f"What is missing: {'; '.join(words[:4])}{more}."


def summary(ranked: Sequence[Answer]) -> str:
    """What the words of `travels` mean, and in which directions there is nothing to go by."""
    said = [f'"{word}": {WORDS[word]}' for word in WORDS if any(entry["word"] == word for entry in ranked)]
    return "How rankings travel: " + "; ".join([*said, *_absent(ranked)]) + "."


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
    return how + "; ".join([*said, *_absent(ranked)]) + "."


def _absent(ranked: Sequence[Answer]) -> list[str]:
    absent = [DIMENSIONS[entry["dimension"]] for entry in ranked if entry["word"] == "no evidence"]
    return [f"no evidence {', '.join(absent)}"] if absent else []


def _named(entry: Answer) -> str:
    marks = f" ({', '.join(entry['marks'])})" if entry["marks"] else ""
    return f"{entry['title']}{marks}"


def upper(words: str) -> str:
    return words[:1].upper() + words[1:]
