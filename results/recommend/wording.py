"""Answers in full: for a terminal, for Markdown, and as parts that a page links to its rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from results.recommend import foretelling
from results.recommend.rankings import DIMENSIONS
from results.recommend.travel import WORDS
from results.text import cell, counted

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
    leaders = first_named(found, link)
    if not behind:
        return f"{len(inside)} strategies, none shown to be worse than the best: {leaders}."
    if len(inside) == 1:
        others = f"the {len(behind)} others compared are" if len(behind) > 1 else "the one other compared is"
        said = f"{leaders}: {others} shown to be worse."
    else:
        said = f"{leaders}: none of these {len(inside)} is shown to be worse than the best."
    nearest = behind[:MOST_NAMED]
    said += " Behind: " + ", ".join(f"{link(named(entry), entry['row'])} by {by(entry)}" for entry in nearest)
    rest = behind[MOST_NAMED:]
    if rest:
        said += f", {len(rest)} more" if len(rest) > 1 else f", {link(named(rest[0]), rest[0]['row'])}"
        said += f" by up to {rest[-1]['mean']:.3f}" if len(rest) > 1 else f" by {by(rest[0])}"
    return said + "."


def of_learned(found: Answer) -> Answer | None:
    """What a cell says of routers that go on learning; None where these are all, or too few to compare."""
    learned = found["learned"]
    same = len(learned["set"]) + len(learned["behind"]) == len(found["set"]) + len(found["behind"])
    return None if same or not learned["set"] else {**found, **learned}


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
    said += [f"{entry['title']} has only {counted(entry['n'], 'seed')}" for entry in found["too_few"]]
    said += [f"{', '.join(entry['title'] for entry in found['absent'])} not run"] if found["absent"] else []
    said += [upper(words) for words in [dense_words(found)] if words]
    out: dict[str, list[str]] = {}
    for entry in found["left_out"]:
        out.setdefault(entry["why"], []).append(entry["title"])
    return said + [f"{', '.join(titles)} left out: {why}" for why, titles in out.items()]


def dense_words(found: Answer) -> str:
    """Which of those named first a dense network of as many FLOPs is ahead of; empty where it is of none."""
    lost = beaten(found)
    if not lost:
        return ""
    twin = found["twin"]
    said = ", ".join(f"{named(entry)} by {by(twin['ahead_of'][entry['row']])}" for entry in lost)
    return f"the dense twin, without experts, is ahead of {said}" + (" (extrapolated)" if twin["extrapolated"] else "")


def beaten(found: Answer) -> list[Answer]:
    """Those named first that the dense twin is ahead of."""
    ahead_of = found["twin"]["ahead_of"] if found["twin"] else {}
    return [entry for entry in found["set"] if entry["row"] in ahead_of]


def elsewhere(answer: Answer, found: Answer) -> list[str]:
    """Where, on tasks too blunt to go by, one of those named first is behind the dense twin all the same."""
    return [
        f"behind the dense twin on {other['task']} of {other['board']}: "
        + ", ".join(f"{title} by {by(far)}" for title, far in low)
        for other, low in beaten_elsewhere(answer, found)
    ]


def beaten_elsewhere(answer: Answer, found: Answer) -> list[tuple[Answer, list[tuple[str, Answer]]]]:
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


def as_text(answers: Sequence[Answer], ranked: Sequence[Answer] = (), foretold: Sequence[Answer] = ()) -> str:
    """All answers for a terminal."""
    lines: list[str] = []
    for answer in answers:
        lines += [f"{answer['question']} ({TRACK_WORDS[answer['track']]})"]
        if not answer["evidence"]:
            lines += [f"  {NONE}."]
        for found in answer["evidence"]:
            lines += [f"  {verdict(found)}", f"    from {found['board']}: {basis(found)}"]
            lines += [f"    the same trials also on {', '.join(found['same_trials'])}"] if found["same_trials"] else []
            lines += [f"    of learned routers {verdict(learned)}" for learned in [of_learned(found)] if learned]
            lines += [f"    {caveat}" for caveat in (*caveats(found), *map(upper, elsewhere(answer, found)))]
        lines += [
            f"  too blunt to go by, {found['task']} on {found['board']}: {verdict(found)}" for found in answer["blunt"]
        ]
        lines += [f"  missing: {missed['words']}" for missed in answer["missing"]]
        lines += [""]
    if any(answer["evidence"] for answer in answers):
        lines += [READING_IN_FULL, ""]
    if ranked:
        lines += ["How rankings travel", *(f"  {travels(entry)}" for entry in ranked), ""]
    if foretold:
        lines += ["What balance foretells", f"  {foretelling.READING}"]
        lines += [f"  {'; '.join(line)}" for line in foretelling.grid(foretold)]
        lines += [f"  {words}" for words in [foretelling.elsewhere(foretold)] if words] + [""]
    return "\n".join(lines).rstrip()


NOISY = "blunt: experts gain enough, but less than ten times the spread; who is named first may still be behind"

READING_IN_FULL = (
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
        f"of {counted(entry['pairs'], 'pair')} of {entry['arms']} strategies {counts}."
    )


def in_full_as_markdown(answers: Sequence[Answer], ranked: Sequence[Answer], folder: str) -> list[str]:
    """What the table leaves out: intervals and what each answer rests on, and how rankings travel."""
    full = in_full(answers, markdown_link(folder))
    lines = ["", "## In full", "", READING_IN_FULL, "", *(f"- *{label}*: {words}" for label, words in full)]
    shown = [entry for entry in ranked if entry["word"] != "no evidence"]
    return [*lines, "", summary(ranked), "", *(f"- {cell(travels(entry))}" for entry in shown)]


def markdown_link(folder: str) -> Link:
    return lambda words, row: f"[{cell(words)}]({folder}{quote(address(row), safe='/#')})"


def in_full(answers: Sequence[Answer], link: Link = plain) -> list[tuple[str, str]]:
    """Which answer, and the whole of it: for every answer that has something to say."""
    said = []
    for answer in answers:
        if answer["evidence"] or answer["blunt"]:
            label = f"{upper(answer['question'])}, {TRACK_WORDS[answer['track']]}"
            said.append((label, brief(answer, link)))
    return said


def first_named(found: Answer, link: Link) -> str:
    return ", ".join(link(named(entry), entry["row"]) for entry in found["set"])


def address(row: str) -> str:
    """Where a row is, from the folder of the published boards."""
    board, arm, task = row.rsplit("/", 2)
    return f"{board}/index.html#{anchor(arm, task)}"


def anchor(arm: str, task: str) -> str:
    """The id of a row on its board's page."""
    return "row-" + re.sub(r"[^a-z0-9]+", "-", f"{arm}-{task}".lower()).strip("-")[:60]


def brief(answer: Answer, link: Link = plain) -> str:
    """The answer of the first cell that has one, with no more of those behind than the nearest and the last; then who
    comes first in the others, where that is not the same.
    """
    if not answer["evidence"]:
        blunt = answer["blunt"][:1]
        return f"{NONE}" + "".join(f": {_blunt(found, link)}" for found in blunt) + "."
    found = answer["evidence"][0]
    inside, behind = found["set"], found["behind"]
    said = first_named(found, link)
    if behind:
        others = f"{len(behind)} others" if len(behind) > 1 else "the other"
        ends = [f"{link(named(entry), entry['row'])} by {_far(entry, found)}" for entry in behind]
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
    return said + "".join(f"; on {other['task']}: {first_named(other, link)}" for other in unlike)


def _blunt(found: Answer, link: Link) -> str:
    """What is shown on a task on which experts gain too little to go by."""
    return f"{found['task']} {found['why']}; there {leads(found, link)}"


def leads(found: Answer, link: Link) -> str:
    if not found["behind"]:
        return NOT_APART
    return f"{first_named(found, link)} lead{'s' * (len(found['set']) == 1)}, {named(found['behind'][-1])} is last"


def _far(entry: Answer, found: Answer) -> str:
    return by(entry) + (" (extrapolated)" if entry["title"] in found["extrapolated"] else "")


def summary(ranked: Sequence[Answer]) -> str:
    """What the words of `travels` mean, and in which directions there is nothing to go by."""
    said = [f'"{word}": {WORDS[word]}' for word in WORDS if any(entry["word"] == word for entry in ranked)]
    return "How rankings travel: " + "; ".join([*said, *not_seen(ranked)]) + "."


def not_seen(ranked: Sequence[Answer]) -> list[str]:
    absent = [DIMENSIONS[entry["dimension"]] for entry in ranked if entry["word"] == "no evidence"]
    return [f"no evidence {', '.join(absent)}"] if absent else []


def named(entry: Answer) -> str:
    marks = f" ({', '.join(entry['marks'])})" if entry["marks"] else ""
    return f"{entry['title']}{marks}"


def upper(words: str) -> str:
    return words[:1].upper() + words[1:]
