"""One row of a leaderboard: an arm on a task, its seeds averaged.

Load measures, costs and losses are means, speeds medians, over the finished seeds that the baseline has finished too:
what stands beside a difference rests on the same seeds. `overhead` is the median over seeds of (step time of the arm /
step time of the reference) − 1, so 0.01 is one percent slower; seeds that ran on the reference's host are preferred. On
a CPU step times are CPU times, since wall times show what else the machine ran. `overhead_range` is the least and the
most of the pairs of seeds: of six or more they hold the true median with 97 %, whatever the distribution.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from results.boards.notes import bias_note, own_note
from results.records import Outcome, Records
from results.statistics.estimates import Paired, mean_interval
from results.statistics.verdict import Family, Verdict


def row(
    arm: Mapping[str, Any],
    task: str,
    outcomes: Sequence[Outcome],
    baseline: Sequence[Outcome],
    reference: Sequence[Outcome],
) -> dict[str, Any]:
    """Everything in a row that needs no comparison with other arms.

    Args:
        arm: the arm's entry in the manifest.
        outcomes: the arm's trials on the task, by seed.
        baseline: the baseline's trials on the task.
        reference: trials of the arm that costs and loads are measured against.
    """
    finished = [outcome for outcome in outcomes if outcome.status == "finished"]
    base = {outcome.seed: outcome for outcome in baseline if outcome.status == "finished"}
    shown = [outcome for outcome in finished if outcome.seed in base] or finished
    losses = [outcome.val_loss for outcome in shown if outcome.val_loss is not None]
    mean, low, high = mean_interval(losses)
    slower = overheads(shown, reference)
    itself = any(outcome.arm == arm["arm"] for outcome in reference)
    bias = bias_note(finished, [o for o in reference if o.status == "finished"])
    notes = [arm.get("note"), own_note(arm), bias]
    return {
        "strategy": arm["strategy"],
        "arm": arm["arm"],
        "task": task,
        "title": arm["title"],
        "paper": arm.get("paper"),
        "causal": arm.get("causal"),
        "variable_k": arm.get("variable_k"),
        "config": arm.get("config", {}),
        "terms": arm.get("terms", {}),
        "note": ". ".join(note.rstrip(".") for note in notes if note) or None,
        "submitted": [{name: entry[name] for name in ("by", "when")} for entry in arm.get("submitted") or []] or None,
        "rank": None,
        "n_seeds": len(finished),
        "diverged": _count(outcomes, "diverged"),
        "failed": _count(outcomes, "failed"),
        "missing": _count(outcomes, "missing"),
        "val_loss": {"mean": mean, "ci_low": low, "ci_high": high},
        "perplexity": None if mean is None else math.exp(mean),
        "parts": parts(shown, base),
        **measured(shown),
        "tokens_per_second": _median(speed(outcome.record) for outcome in shown if outcome.record),
        "overhead": statistics.median(slower) if slower else None,
        "overhead_range": [min(slower), max(slower)] if len(slower) > 1 and not itself else None,
        "seeds": [_seed(outcome, base) for outcome in outcomes],
        "trial_keys": [outcome.trial_key for outcome in outcomes],
    }


def measured(finished: Sequence[Outcome]) -> dict[str, Any]:
    """Means over seeds of what a row shows of `measures`."""
    measures = [outcome.record["measures"] for outcome in finished if outcome.record]

    def mean(*path: str) -> float | None:
        return _mean(_get(m, path) for m in measures)

    def means(name: str) -> dict[str, float | None] | None:
        keys = sorted({key for m in measures for key in (m.get(name) or {})})
        return {key: mean(name, key) for key in keys} or None

    return {
        "bits_per_byte": mean("bits_per_byte"),
        "max_vio_global": mean("max_vio_global", "mean"),
        "max_vio_global_worst": mean("max_vio_global", "worst"),
        "max_vio_batch": mean("max_vio_batch", "tail_mean"),
        "peak_max_vio": mean("max_vio_batch", "peak"),
        "noise_floor": means("noise_floor"),
        "balance_efficiency": mean("balance", "efficiency"),
        "dead_experts": mean("dead_experts", "below_1_percent"),
        "dead_expert_readings": means("dead_experts"),
        "overflow": means("overflow"),
        "dropped": means("dropped"),
        "device_rows": means("device_rows"),
        "fluctuation": means("fluctuation"),
        "bias": means("bias"),
    }


def against(
    records: Records, arm: str, reference: str, task: str, summary: Paired, called: str = "the baseline"
) -> Family:
    """What a verdict on an arm is made from: its differences to a reference, and what became of the seeds of both."""
    own, other = records.cell(arm, task), records.cell(reference, task)
    return Family(
        summary,
        planned=len(own),
        diverged=_count(own, "diverged"),
        finished=_count(own, "finished"),
        reference_planned=len(other),
        reference_diverged=_count(other, "diverged"),
        reference_finished=_count(other, "finished"),
        reference=called,
    )


def delta(summary: Paired, verdict: Verdict) -> dict[str, Any]:
    """The row's comparison with the baseline."""
    decision = verdict.decision
    return {
        "mean": summary.mean,
        "ci_low": summary.ci_low,
        "ci_high": summary.ci_high,
        "bootstrap_low": summary.bootstrap_low,
        "bootstrap_high": summary.bootstrap_high,
        "sd": summary.sd,
        "p_t": summary.p_t,
        "p_adjusted": decision.p_adjusted,
        "p_sign_flip": summary.p_sign_flip,
        "p_sign_flip_adjusted": decision.p_sign_flip_adjusted,
        "p_tie": decision.p_tie,
        "disagreement": decision.disagreement,
        "hedges_g": summary.hedges_g,
        "n": summary.n,
        "seeds_to_decide": verdict.seeds_to_decide,
        "verdict": decision.word,
        "words": verdict.words,
    }


def overheads(outcomes: Sequence[Outcome], reference: Sequence[Outcome]) -> list[float]:
    """Step time over the reference's on the same seed and processor, minus one, of every seed that both have."""
    by_seed = {outcome.seed: outcome for outcome in reference if outcome.status == "finished"}
    pairs = [(o, by_seed[o.seed]) for o in outcomes if o.status == "finished" and o.seed in by_seed]
    pairs = [(a, b) for a, b in pairs if processor(a) == processor(b)]
    pairs = [(a, b) for a, b in pairs if _host(a) == _host(b)] or pairs
    times = [(step_time(a.record), step_time(b.record)) for a, b in pairs if a.record and b.record]
    return [mine / theirs - 1 for mine, theirs in times if mine and theirs]


def processor(outcome: Outcome) -> str:
    """Which processor of its name a trial had, as far as its record says."""
    hardware = outcome.record["provenance"]["hardware"] if outcome.record else {}
    return str(hardware.get("processor", "not recorded"))


def step_time(record: Mapping[str, Any]) -> float | None:
    """Milliseconds of a training step that arms can be compared by; None from a CPU trial without its CPU time."""
    split = record["timing"]["step_ms"]
    on_cpu = record.get("config", {}).get("device") == "cpu"
    return split.get("cpu") if on_cpu else split.get("total")


def speed(record: Mapping[str, Any]) -> float | None:
    """Tokens a second; on a CPU a second of CPU time."""
    if record.get("config", {}).get("device") != "cpu":
        return _get(record, ("timing", "tokens_per_second"))
    time, measures = step_time(record), record["measures"]
    return 1000 * measures["tokens"] / measures["steps"] / time if time else None


def parts(shown: Sequence[Outcome], base: Mapping[int, Outcome]) -> dict[str, dict[str, float | None]] | None:
    """Where a difference comes from: paired differences to the baseline on training batches and domain by domain.

    `training` is the loss of the last tenth of training, routed as training routes; the domains are held out, routed as
    a decoder routes. Unadjusted, and without a verdict. None where records do not say.
    """
    pairs = [(_parts(outcome), _parts(base[outcome.seed])) for outcome in shown if outcome.seed in base]
    known = [name for name in pairs[0][0] if all(name in part for pair in pairs for part in pair)] if pairs else []
    found = {name: mean_interval([mine[name] - theirs[name] for mine, theirs in pairs]) for name in known}
    names = ("mean", "ci_low", "ci_high")
    return {name: dict(zip(names, bounds, strict=True)) for name, bounds in found.items()} or None


def _parts(outcome: Outcome) -> dict[str, float]:
    measures = (outcome.record or {}).get("measures") or {}
    found = {"training": measures.get("train_loss_tail"), **(measures.get("val_loss_by_domain") or {})}
    return {name: loss for name, loss in found.items() if loss is not None}


def _seed(outcome: Outcome, baseline: Mapping[int, Outcome]) -> dict[str, Any]:
    loss, base = outcome.val_loss, baseline[outcome.seed].val_loss if outcome.seed in baseline else None
    return {
        "seed": outcome.seed,
        "trial_key": outcome.trial_key,
        "status": outcome.status,
        "val_loss": loss,
        "delta": None if loss is None or base is None else loss - base,
        **({"failure": outcome.failure} if outcome.failure else {}),
    }


def _count(outcomes: Sequence[Outcome], status: str) -> int:
    return sum(outcome.status == status for outcome in outcomes)


def _get(content: Any, path: Sequence[str]) -> float | None:
    for key in path:
        if not isinstance(content, Mapping):
            return None
        content = content.get(key)
    return content if isinstance(content, int | float) else None


def _mean(values: Iterable[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return math.fsum(there) / len(there) if there else None


def _median(values: Iterable[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return statistics.median(there) if there else None


def _host(outcome: Outcome) -> object:
    attempts = (outcome.record or {}).get("attempts") or [{}]
    return attempts[-1].get("host")
