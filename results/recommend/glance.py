"""Answers at a glance: a table of the best learned routers and of who has the lowest loss of all, and on what task.

`wording` has all answers in full.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from results.recommend.advise import LONGER
from results.recommend.rankings import DIMENSIONS
from results.recommend.wording import (
    NOISY,
    NONE,
    TRACK_WORDS,
    Link,
    beaten,
    leads,
    markdown_link,
    named,
    not_seen,
    plain,
    upper,
)

Answer = Mapping[str, Any]

HEAD = ["You need", "Of learned routers", "Lowest loss of all", "Ahead by", "Measured on"]
MEASURED = ["Measured on", "Experts", "Active parameters (all)", "Tokens", "Tokens per active parameter", "Seeds"]
FEW = 5  # strategies; where fewer were compared, the table says how many

READING = (
    "Named are all strategies not shown to be worse than some other, with × for the load of their busiest expert over "
    "the mean late in training (1 + MaxVio of a batch). Learned routers: all but hash and StableMoE, which end as "
    "fixed tables of tokens. Distances in nats/token: of others behind the best learned router, and of the lowest loss "
    "of all ahead of it; †: less than the board's margin, no reason to choose by. Values are the sources' own, but "
    "for tuned, balanced: there each knob has the value with the lowest loss among those that keep MaxVio under 1, and "
    "only rules that are so balanced on the board take part. All can be used by a decoder as they were trained."
)
TUNED = "Tuned: the value with the lowest loss, whatever its MaxVio."
SIMULATED = (
    "Times on several devices are simulated from recorded loads; extrapolated: beyond what any run was trained for."
)


def as_markdown(answers: Sequence[Answer], folder: str) -> list[str]:
    """The answers as a table, what they were measured on as another, and how to read both.

    Args:
        folder: the way to the published boards, "" or ending in a slash.
    """
    link = markdown_link(folder)
    tables = [grid(answers, link), measured(answers, link)]
    parts = [[words] for words in lead(answers)]
    parts += [as_table(tables[0]), [below(answers)]] + ([as_table(tables[1])] if len(tables[1]) > 1 else [])
    return [line for i, part in enumerate(parts) for line in ([""] * bool(i) + part)]


def as_table(lines: Sequence[Sequence[str]]) -> list[str]:
    head, *rest = ("| " + " | ".join(line) + " |" for line in lines)
    return [head, "|" + " --- |" * len(lines[0]), *rest]


def as_text(answers: Sequence[Answer]) -> str:
    """The same for a terminal."""
    lines = [*lead(answers), ""]
    for label, learned, lowest, ahead, place in grid(answers)[1:]:
        lines.append(label + (f" ({place})" if place else ""))
        lead_by = f", ahead by {ahead}" if ahead else ""
        parts = [f"of learned routers: {learned}", f"lowest loss of all{lead_by}: {lowest}"] if learned else [lowest]
        lines += [f"    {part}" for part in parts]
    return "\n".join([*lines, "", below(answers)]).lstrip("\n")


def grid(answers: Sequence[Answer], link: Link = plain) -> list[list[str]]:
    """A line per need, place and track, under a head; one that says so for a need without evidence."""
    lines = [HEAD]
    for _, group in groupby(answers, key=lambda answer: answer["need"]):
        of_need = list(group)
        question, lines_of = upper(of_need[0]["question"]), list(shown(of_need))
        if not lines_of:
            lines.append([question, "", _nothing(of_need[0], link), "", ""])
        for track, found in lines_of:
            first = lines_of[0][1]
            words = _unlike(found, first, track) if found is not first else _asked(question, track)
            lines.append([words, *_cells(found, track, link)])
    return lines


def measured(answers: Sequence[Answer], link: Link = plain) -> list[list[str]]:
    """What the table's answers rest on, a place a line, under a head."""
    places: dict[str, list[Answer]] = {}
    for _, found in shown(answers):
        places.setdefault(_place(found), []).append(found)
    lines = [MEASURED]
    for place, (found, *others) in places.items():
        seeds = sorted({entry["n"] for one in (found, *others) for entry in (*one["set"], *one["behind"])})
        lines.append(
            [
                link(place, found["set"][0]["row"]),
                f"{found['top_k']} of {found['experts']}",
                f"{_millions(found['active'])} ({_millions(found['parameters'])})",
                _millions(found["tokens"]),
                f"{length:.2g}" if (length := found["tokens_per_active"]) < 10 else f"{length:,.0f}",
                f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"{seeds[0]}",
            ]
        )
    return lines


def shown(answers: Sequence[Answer]) -> Iterator[tuple[str, Answer]]:
    """Track and cell of every line: of each place the one that says most."""
    for answer in answers:
        seen = set()
        for found in answer["evidence"]:
            if _place(found) not in seen:
                seen.add(_place(found))
                yield answer["track"], found


def _place(found: Answer) -> str:
    return f"{found['task']}, {found['recipe']}" if found["recipe"] else str(found["task"])


def _asked(question: str, track: str) -> str:
    """The first line's label: the question, and the track where that is not what one would take it for."""
    return question if track == "as-published" else f"{question}, {_track(track)}"


def _track(track: str) -> str:
    return "tuned, balanced" if track == "balanced" else TRACK_WORDS[track]


def _unlike(found: Answer, first: Answer, track: str) -> str:
    """In what a line differs from the first of its need."""
    said = [_track(track)] if track != "as-published" else []
    size, lengths = found["parameters"] - first["parameters"], (found["tokens_per_active"], first["tokens_per_active"])
    length = lengths[0] / lengths[1] if all(lengths) else 1.0
    said += ["larger model" if size > 0 else "smaller model"] if size else []
    said += ["trained for longer"] if length > LONGER else ["shorter training"] if length < 1 / LONGER else []
    return f"– {', '.join(said) or found['task']}"


def _cells(found: Answer, track: str, link: Link) -> list[str]:
    """Who leads of learned routers; who leads of all, and how far ahead of the former; on what."""
    inside, learned = found["set"], found["learned"]
    arms = [{entry["row"] for entry in entries} for entries in (inside, learned["set"])]
    names = "the same" if arms[0] == arms[1] else _either(inside, found, track, link)
    compared = len(inside) + len(found["behind"])
    names += f" (of {compared} compared)" if compared < FEW else ""
    lost = beaten(found)
    if lost:
        beyond = " (extrapolated)" * found["twin"]["extrapolated"]
        whom = "all" if len(lost) == len(inside) else " and ".join(entry["title"] for entry in lost)
        names += f"; a dense network is ahead of {whom}{beyond}"
    far = [entry["mean"] for entry in found["behind"] if entry["row"] in arms[1]]
    ahead = _marked(min(far), found) if far and not arms[0] & arms[1] else ""
    routers = _either(learned["set"], found, track, link) or "too few to compare"
    rest = [entry["mean"] for entry in learned["behind"]]
    if rest:
        ends = " to ".join(dict.fromkeys(_marked(end(rest), found) for end in (min, max)))
        others = f"{len(rest)} others" if len(rest) > 1 else "the other"
        routers += f"; {others} {ends} behind"
    blunt = " (blunt)" * found["blunt"]
    return [routers, names, ahead, link(_place(found), inside[0]["row"]) + blunt]


def _marked(behind: float, found: Answer) -> str:
    """How far behind; with a † where that is less than the board's margin."""
    return f"{behind:.3f}" + " †" * (behind < found["margin"])


def _either(entries: Sequence[Answer], found: Answer, track: str, link: Link) -> str:
    *most, last = [_with_load(entry, found, track, link) for entry in entries] or [""]
    return " or ".join([", ".join(most), last]) if most else last


def _with_load(entry: Answer, found: Answer, track: str, link: Link) -> str:
    """A strategy's name, linked to its row; on a track that chose its value that value; and its busiest expert."""
    said = [f"{name} {value:g}" for name, value in (entry["setting"] or {}).items() if track != "as-published"]
    said += ["extrapolated"] if entry["title"] in found["extrapolated"] else []
    said += [f"{1 + entry['max_vio']:.1f} ×"] if entry["max_vio"] is not None else []
    return link(named(entry), entry["row"]) + (f" ({', '.join(said)})" if said else "")


def _nothing(answer: Answer, link: Link) -> str:
    blunt = answer["blunt"][:1]
    return NONE + "".join(f": {found['task']} is too blunt; there {leads(found, link)}" for found in blunt) + "."


def lead(answers: Sequence[Answer]) -> list[str]:
    """What stands over the table: what size of model and what length of training all of it is from."""
    found = [found for answer in answers for found in answer["evidence"]]
    if not found:
        return []
    active, parameters = (_between([entry[name] for entry in found]) for name in ("active", "parameters"))
    per_active = sorted(entry["tokens_per_active"] for entry in found)
    words = sorted({entry["vocabulary"] for entry in found if entry["vocabulary"]})
    small = f", here over vocabularies of {words[0]:,} to {words[-1]:,}" if words else ""
    return [
        f"Scale: {active} active parameters ({parameters} in all), {per_active[0]:.2g} to {per_active[-1]:.2g} "
        f"tokens per active parameter. Nothing here was measured at the size or the length of a real training run. "
        f"Hash and StableMoE are tables of tokens{small}: for a large model go by the learned routers, and take the "
        "lowest loss as a yardstick."
    ]


def _between(counts: Sequence[int]) -> str:
    low, high = (_millions(end(counts)) for end in (min, max))
    return low if low == high else f"{low.removesuffix(' M')} to {high}"


def _millions(count: int) -> str:
    return f"{count / 1e6:.3g} M"


def below(answers: Sequence[Answer]) -> str:
    """What stands under the table: how to read it, or what is missing."""
    evidence = [found for answer in answers for found in answer["evidence"]]
    if not evidence:
        return _why_nothing(answers)
    said = [READING]
    said += [TUNED] if any(answer["track"] == "tuned" and answer["evidence"] for answer in answers) else []
    said += [SIMULATED] if any(found["devices"] > 1 for found in evidence) else []
    said += [f"{upper(NOISY)}."] if any(found["blunt"] for found in evidence) else []
    for track in dict.fromkeys(answer["track"] for answer in answers if answer["track"] != "as-published"):
        without = [a["question"] for a in answers if a["track"] == track and not a["evidence"] and not a["blunt"]]
        said += [f"No board, {TRACK_WORDS[track]}: {', '.join(without)}."] if without else []
    return " ".join(said)


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
        said.append(f"{words} {between} (at least {min(entry['low'] for entry in entries):.2f})".replace("-", "−"))
    how = (
        "How rankings travel, by Kendall's τ (1: the same order; above 0.5 at least, one place speaks for the other): "
    )
    return how + "; ".join([*said, *not_seen(ranked)]) + "."
