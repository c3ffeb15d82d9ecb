"""The ledger's verdicts as Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from results.claims.evaluate import WORDS
from results.text import cell, link, table

SCALE = (
    "Each was tested at the size named under it as *tested at*, which is small: *contradicted* and *not reproduced* "
    "are said of that size, not of the source's."
)


def claims_markdown(verdicts: Sequence[Mapping[str, Any]]) -> str:
    """A summary table, then every claim with its source, its rule and its figures, by topic."""
    counts = {word: sum(v["verdict"] == word for v in verdicts) for word in WORDS}
    lines = ["# Claims", "", ", ".join(f"{count} {word}" for word, count in counts.items() if count) + ".", ""]
    lines += [SCALE, ""]
    order = sorted(verdicts, key=lambda v: list(WORDS).index(v["verdict"]))
    rows = [[v["verdict"], link(v["statement"], f"#{heading(v['statement'])}"), *_said(v)] for v in order]
    lines += [*table(("Verdict here", "Claim", "Said", "At the source's scale"), rows), ""]
    lines += ["What the verdicts mean:", "", *(f"- *{word}*: {meaning}." for word, meaning in WORDS.items()), ""]
    for topic, group in groupby(verdicts, key=lambda v: str(v["topic"])):
        lines += [f"## {cell(topic)}", ""]
        for verdict in group:
            lines += _one(verdict)
    return "\n".join(lines)


def heading(text: str) -> str:
    """The anchor that Markdown pages give a heading: lower case, hyphens for blanks, other marks left out."""
    return re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")


def _said(verdict: Mapping[str, Any]) -> list[str]:
    return [str(verdict["said"][key]) for key in ("number", "scale")]


def _one(verdict: Mapping[str, Any]) -> list[str]:
    source, said = verdict["source"], verdict["said"]
    named = ", ".join(str(source[key]) for key in ("title", "year", "identifier", "where") if source[key])
    lines = [f"### {cell(verdict['statement'])}", ""]
    lines += [f"**{verdict['verdict']}**" + (f": {cell(verdict['words'])}" if verdict["words"] else ""), ""]
    lines += [f"- Id: `{verdict['id']}`"]
    lines += [f"- Source ({source['kind']}): {cell(named)}"]
    lines += [f"- Said: {cell(said['number'])}, at {cell(said['scale'])}"]
    lines += [f"- Measure: {cell(verdict['measure'])}"]
    lines += [f"- Tested at: {cell(verdict['tested_at'])}"] if verdict["tested_at"] else []
    lines += [f"- Caveat: {cell(verdict['caveat'])}"] if verdict["caveat"] else []
    lines += [f"- Registered: {cell(registration(verdict))}"] if verdict.get("registered") else []
    if verdict["trial_keys"]:
        where = ", ".join(verdict["hardware"])
        lines += [f"- Trials: {len(verdict['trial_keys'])}, the newest of {verdict['date']}, on {cell(where)}"]
    if verdict["figures"]:
        head = ("Task", "Rule", "Claimed", "Contradicted", "Found", "n", "Verdict")
        lines += ["", *table(head, [_figure(figure) for figure in verdict["figures"]])]
    return [*lines, ""]


def registration(verdict: Mapping[str, Any]) -> str:
    """When a claim's trials and rule were written down, and what registration they took the place of."""
    old = verdict.get("supersedes")
    if not old:
        return str(verdict["registered"])
    return (
        f"{verdict['registered']}, in place of that of protocol {old['protocol']} (digest {old['digest'][:12]}; its "
        f"verdict: protocol-{old['protocol']}/claims.md). {old['why']}"
    )


def _figure(figure: Mapping[str, Any]) -> list[str]:
    found = "–"
    if figure["estimate"] is not None:
        found = f"{figure['estimate']:.4g} [{figure['low']:.4g}, {figure['high']:.4g}] ({figure['level']:.1%})"
    arms = figure["arms"]
    over = f"{arms[0]} … {arms[-1]}" if len(arms) > 2 else ", ".join(arms)
    return [
        figure["task"],
        f"{figure['kind']}: {over}",
        figure["claimed"],
        figure["contradicted"] or "–",
        found,
        f"{figure['n']} of {figure['planned']}",
        figure["verdict"],
    ]
