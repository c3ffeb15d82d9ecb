"""The verdict on a claim, from the records of its trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from results.claims.ledger import Claim
from results.claims.regions import Located
from results.claims.rules import Seeds, Single, Trial
from results.records import Outcome, Records
from results.statistics.power import MIN_SEEDS
from results.text import counted

WORDS = {
    "reproduced": "every figure lies where the claim puts it, by its interval and by the exact test",
    "not reproduced": "a figure lies outside what is claimed, but not on the opposite side",
    "contradicted": "a figure lies on the side that the claim rules out",
    "undecided": "the planned seeds are not all there, or the interval leaves it open",
    "not testable here": "it needs a scale or a component that this suite does not have",
}
_WORST_FIRST = ("contradicted", "not reproduced", "undecided", "reproduced")


def evaluate(claim: Claim, records: Records | None = None) -> dict[str, Any]:
    """What the records say about a claim.

    Args:
        records: outcomes of the trials of `ledger.suite(claim)`; None: nothing has been run.

    Returns:
        The claim's fields, its `verdict` (a key of WORDS) with a sentence, and the evidence: one entry of `figures`
        per rule and task (estimate and interval at `level`, n, the seeds' values), `trial_keys`, `hardware`, `date` of
        the newest trial.
    """
    said = {
        "id": claim.id,
        "topic": claim.topic,
        "statement": claim.statement,
        "source": claim.source.model_dump(),
        "said": claim.said.model_dump(),
        "measure": claim.measure,
        "testable": claim.testable,
        "why": claim.why,
        "tested_at": claim.tested_at,
        "caveat": claim.caveat,
        "digest": claim.digest,
        "registered": claim.registered.isoformat() if claim.registered else None,
        "supersedes": claim.supersedes.model_dump() if claim.supersedes else None,
    }
    if claim.trials is None:
        return said | _conclusion("not testable here", claim.why or "", [], [])
    records = records if records is not None else Records([])
    used = [o for o in records if o.status in ("finished", "diverged")]
    figures = [
        _figure(claim, rule, place, cells, records)
        for rule in claim.rules
        for place, cells in rule.places(claim.trials.names).items()
    ]
    verdict = next(word for word in _WORST_FIRST if word in [figure["verdict"] for figure in figures])
    if not used:
        return said | _conclusion("undecided", "none of its trials has been run", figures, used)
    telling = [figure for figure in figures if figure["verdict"] == verdict]
    return said | _conclusion(verdict, "; ".join(dict.fromkeys(f["words"] for f in telling)), figures, used)


def _conclusion(verdict: str, words: str, figures: list[dict[str, Any]], used: Sequence[Outcome]) -> dict[str, Any]:
    return {
        "verdict": verdict,
        "words": words,
        "figures": figures,
        "trial_keys": sorted({outcome.trial_key for outcome in used}),
        "hardware": sorted({outcome.hardware for outcome in used if outcome.hardware}),
        "date": max((_date(outcome) for outcome in used), default=None),
    }


def _figure(
    claim: Claim, rule: Single, place: str, where: Mapping[str, tuple[str, str]], records: Records
) -> dict[str, Any]:
    assert claim.trials is not None
    planned = claim.trials.seeds
    cells = {name: records.cell(arm, task) for name, (arm, task) in where.items()}
    trials: Mapping[str, Seeds] = {
        arm: {o.seed: Trial(record=o.record or {}, folder=records.folder(o)) for o in cell if o.status == "finished"}
        for arm, cell in cells.items()
    }
    values = rule.values(trials)
    diverged = sum(outcome.status == "diverged" for cell in cells.values() for outcome in cell)
    located = Located.of(list(values.values()), claim.parts) if len(values) > 1 else None
    verdict, words = _judge(rule, located, len(values), planned, diverged)
    return {
        "task": place,
        "arms": rule.arms(),
        "kind": rule.model_dump()["kind"],
        "measure": rule.model_dump(by_alias=True).get("measure"),
        "claimed": str(rule.claimed),
        "contradicted": str(rule.contradicted) if rule.contradicted else None,
        "estimate": rule.shown(located.mean) if located else None,
        "low": rule.shown(located.low) if located else None,
        "high": rule.shown(located.high) if located else None,
        "level": 1 - located.alpha if located else None,
        "n": len(values),
        "planned": planned,
        "diverged": diverged,
        "values": [{"seed": seed, "value": rule.shown(value)} for seed, value in values.items()],
        "verdict": verdict,
        "words": words,
    }


def _judge(rule: Single, located: Located | None, n: int, planned: int, diverged: int) -> tuple[str, str]:
    arms = " and ".join(rule.arms()) if len(rule.arms()) < 3 else f"{rule.arms()[0]} … {rule.arms()[-1]}"
    if diverged:
        return "undecided", f"{arms}: {counted(diverged, 'trial')} diverged; the others alone would flatter them"
    if located is None or n < MIN_SEEDS:
        return (
            "undecided",
            f"{arms}: indicative at most, {n} of {planned} seeds; a verdict needs {MIN_SEEDS} and all planned",
        )
    if n < planned:
        return "undecided", f"{arms}: {n} of {planned} planned seeds; no verdict before all are in"
    ends = f"[{rule.shown(located.low):.4g}, {rule.shown(located.high):.4g}]"
    shown = f"{arms}: {rule.shown(located.mean):.4g} {ends}, claimed {rule.claimed}"
    if rule.contradicted is not None and located.inside(rule.located(rule.contradicted)):
        return "contradicted", shown
    claimed = rule.located(rule.claimed)
    if located.inside(claimed):
        return "reproduced", shown
    return ("not reproduced" if located.inside(claimed.complement()) else "undecided"), shown


def _date(outcome: Outcome) -> str:
    record = outcome.record or {}
    attempts = record.get("attempts") or [{}]
    return str(attempts[-1].get("ended") or record.get("provenance", {}).get("started") or "")[:10]
