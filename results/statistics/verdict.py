"""From numbers to one word per row, and a sentence that says why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from results.statistics.estimates import Paired, holm, tost
from results.statistics.power import ALPHA, MIN_SEEDS, seeds_needed, smallest_p
from results.text import counted

WORDS = {
    "better": "lower loss than the baseline: adjusted p < 0.05 and the 95 % interval beyond the practical margin",
    "worse": "higher loss than the baseline: adjusted p < 0.05 and the 95 % interval beyond the practical margin",
    "tie": "inside the practical margin, by two one-sided tests; never said on a blunt task",
    "undecided": "neither a difference nor a tie is shown; the row says how many seeds would decide",
    "indicative": f"fewer than {MIN_SEEDS} paired seeds: figures, but no verdict",
    "baseline": "what the others are compared with",
}


@dataclass(frozen=True)
class Family:
    """One arm of a family of comparisons with the same baseline: what a verdict is made from."""

    summary: Paired
    planned: int  # seeds of the arm in the suite
    diverged: int = 0  # of them, that diverged
    finished: int = MIN_SEEDS
    reference_planned: int = MIN_SEEDS
    reference_diverged: int = 0
    reference_finished: int = MIN_SEEDS
    reference: str = "the baseline"  # what it is compared with, in words


@dataclass(frozen=True)
class Decision:
    """One word, and the tests behind it."""

    word: str
    p_adjusted: float | None  # of the t test, Holm
    p_sign_flip_adjusted: float | None  # of the exact test, Holm
    p_tie: float | None  # of the two one-sided tests; not adjusted
    disagreement: bool  # the exact test could have reached 0.05 and contradicts the t test


@dataclass(frozen=True)
class Verdict:
    """A decision, why, and for an open one the number of seeds that would decide."""

    decision: Decision
    words: str
    seeds_to_decide: int | None = None


def verdicts(family: Sequence[Family], margin: float, *, blunt: bool = False) -> list[Verdict]:
    """Verdicts of every arm compared with one baseline on one task; Holm's adjustment is over this list.

    Args:
        blunt: the task cannot judge balancing. A difference on it is still one; that there is none says nothing.
    """
    decisions = decide(family, margin, blunt=blunt)
    return [
        _explained(arm, decision, margin, len(family), blunt) for arm, decision in zip(family, decisions, strict=True)
    ]


def decide(family: Sequence[Family], margin: float, *, blunt: bool = False) -> list[Decision]:
    """The same without the words."""
    p_adjusted = holm([arm.summary.p_t for arm in family])
    flip_adjusted = holm([arm.summary.p_sign_flip for arm in family])
    return [
        _decision(arm, p, flip, margin, len(family), blunt)
        for arm, p, flip in zip(family, p_adjusted, flip_adjusted, strict=True)
    ]


def _decision(arm: Family, p: float | None, flip: float | None, margin: float, arms: int, blunt: bool) -> Decision:
    summary = arm.summary
    p_tie = tost(summary, margin)
    if _all_diverged(arm) or _reference_all_diverged(arm):
        return Decision("worse" if arm.diverged else "better", None, None, None, False)
    if summary.n < MIN_SEEDS or summary.mean is None or p is None or flip is None:
        return Decision("indicative", p, flip, p_tie, False)
    different = p < ALPHA
    disagreement = _disagree(different, summary, flip, arms)
    word = "undecided"
    if not disagreement:
        if different and _beyond(summary, margin):
            word = "better" if summary.mean < 0 else "worse"
        elif p_tie is not None and p_tie < ALPHA and not blunt:
            word = "tie"
    if arm.diverged and word in ("better", "tie"):
        word = "undecided"  # the finished seeds alone would flatter an arm that diverges
    if arm.reference_diverged and word in ("worse", "tie"):
        word = "undecided"  # and likewise what it is compared with
    return Decision(word, p, flip, p_tie, disagreement)


def _explained(arm: Family, decision: Decision, margin: float, arms: int, blunt: bool) -> Verdict:
    summary, mean, sd = arm.summary, arm.summary.mean, arm.summary.sd
    needed = None
    if _all_diverged(arm):
        return Verdict(decision, f"every seed diverged ({arm.diverged} of {arm.planned}); {arm.reference}'s none")
    if _reference_all_diverged(arm):
        counts = f"{arm.reference_diverged} of {arm.reference_planned}"
        return Verdict(decision, f"none of its seeds diverged; every one of {arm.reference}'s did ({counts})")
    if decision.word == "indicative" or mean is None or sd is None:
        words = f"{_pairs(summary.n)}; a verdict needs {MIN_SEEDS}"
    elif decision.disagreement:
        p, flip = decision.p_adjusted, decision.p_sign_flip_adjusted
        if smallest_p(summary.n, arms) < ALPHA:
            words = f"the t test and the exact test disagree (adjusted p {p:.2g} and {flip:.2g})"
        else:  # adjusted, the exact test could not have agreed
            words = (
                f"the t test (adjusted p {p:.2g}) and the exact test (unadjusted p {summary.p_sign_flip:.2g}) disagree"
            )
    elif decision.word in ("better", "worse"):
        lower = "lower" if mean < 0 else "higher"
        words = f"{abs(mean):.4f} nats/token {lower}, adjusted p {decision.p_adjusted:.2g}"
    elif decision.word == "tie":
        words = f"within ±{margin:.4g} nats/token"
    elif blunt and (decision.p_tie or 1) < ALPHA:
        words = f"within ±{margin:.4g} nats/token, which says nothing on a task too blunt to judge balancing"
    elif arm.diverged and mean < margin:
        words = "an arm that diverges can neither be better nor tie, whatever its other seeds say"
    elif arm.reference_diverged and mean > -margin:
        words = f"nothing can be worse than {arm.reference}, or tie with it, while that diverges"
    elif blunt and abs(mean) <= margin:
        words = f"its mean lies within ±{margin:.4g} nats/token; no number of seeds makes that a tie on a blunt task"
    else:
        needed = seeds_needed(mean, sd, arms, margin)
        needed = max(needed, summary.n + 1) if needed else None
        about = f"about {needed} seeds" if needed else "more seeds than anybody should pay for"
        words = f"neither a difference nor a tie is shown; {about} would decide, if the estimate holds"
    return Verdict(decision, words + _divergence(arm), needed)


def _all_diverged(arm: Family) -> bool:
    return arm.diverged == arm.planned >= MIN_SEEDS and arm.reference_diverged == 0 < arm.reference_finished


def _reference_all_diverged(arm: Family) -> bool:
    return arm.reference_diverged == arm.reference_planned >= MIN_SEEDS and arm.diverged == 0 < arm.finished


def _disagree(different: bool, summary: Paired, flip_adjusted: float, arms: int) -> bool:
    """Whether the exact test contradicts the t test, like compared with like, where it could have reached 0.05."""
    if smallest_p(summary.n, arms) < ALPHA:
        return different != (flip_adjusted < ALPHA)
    assert summary.p_sign_flip is not None
    return different and smallest_p(summary.n) < ALPHA <= summary.p_sign_flip


def _beyond(summary: Paired, margin: float) -> bool:
    assert summary.ci_low is not None
    assert summary.ci_high is not None
    return summary.ci_high < -margin or summary.ci_low > margin


def _pairs(n: int) -> str:
    return "no pair of finished trials" if n == 0 else counted(n, "paired seed")


def _divergence(arm: Family) -> str:
    said = f"; {arm.diverged} of {arm.planned} seeds diverged" if arm.diverged else ""
    return said + (f"; {arm.reference_diverged} of {arm.reference}'s diverged" if arm.reference_diverged else "")
