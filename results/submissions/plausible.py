"""Whether a trial's numbers agree with each other: losses with curves, counts with tokens, times with clocks.

Whoever invents numbers can invent them so that all of this holds; only training the trial again finds that. What is
found here is a number changed, a file exchanged, a clock turned back.

Shapes: S steps, L MoE layers, E experts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from results.submissions.contents import Columns, Trial
from results.submissions.recount import recount, violation

CLOSE = 1e-6  # relative: what another order of summation may change
SECOND = timedelta(seconds=1)
FLOPS = 1e17  # a second, beyond any machine one trial runs on
FIRST_YEAR = 2025
STEP_PARTS = ("route", "dispatch", "experts", "balance", "rest")


def check_record(trial: Trial, flops_per_token: float | None, now: datetime) -> Iterator[str]:
    """A line for every number of a trial's record that its curves or its clocks contradict."""
    record, curves = trial.record, trial.curves
    assert record is not None
    rung, measures = record["config"]["task"].get("rung"), record["measures"]
    try:
        steps, per_step = rung["steps"], rung["batch_sequences"] * rung["sequence_length"]
    except (TypeError, KeyError):
        yield "config.task.rung: expected steps, batch_sequences and sequence_length"
        return
    if curves is None:
        yield "curves: missing; expected a row for each step"
        return
    rows = len(next(iter(curves.values())))
    if record["status"] == "finished" and not rows == measures["steps"] == steps:
        yield f"measures.steps: {measures['steps']}, curves of {rows} rows; expected the task's {steps} steps"
    elif rows != measures["steps"] or rows > steps:
        yield f"measures.steps: {measures['steps']}, curves of {rows} rows; expected as many, at most {steps}"
    tokens = measures["steps"] * per_step
    if measures["tokens"] != tokens:
        yield f"measures.tokens: {measures['tokens']}; {measures['steps']} steps of {per_step} are {tokens}"
    needed = {"step", "tokens", "seconds", "train_loss", "grad_norm", "max_vio"}
    if needed - curves.keys():
        yield f"curves: no column {', '.join(sorted(needed - curves.keys()))}"
        return
    if not np.array_equal(curves["step"], np.arange(rows)):
        yield "curves.step: expected 0, 1, 2, … without a gap"
    if not np.array_equal(curves["tokens"], (np.arange(rows) + 1) * per_step):
        yield f"curves.tokens: expected {per_step} more in each step"
    yield from _losses(record, curves)
    yield from _clocks(record, curves, per_step, now)
    flops = measures.get("flops_per_token")
    if flops_per_token is not None and flops != flops_per_token:
        yield f"measures.flops_per_token: {flops}; the task's are {flops_per_token}"


def check_thinned(trial: Trial, now: datetime) -> Iterator[str]:
    """The same for a published trial with its curve thinned, in single precision: ends, sizes and clocks."""
    record, curves = trial.record, trial.curves
    assert record is not None
    assert curves is not None
    rung, measures = record["config"]["task"]["rung"], record["measures"]
    steps, tokens = measures["steps"], measures["steps"] * rung["batch_sequences"] * rung["sequence_length"]
    if steps > rung["steps"] or (record["status"] == "finished" and steps != rung["steps"]):
        yield f"measures.steps: {steps}; the task's are {rung['steps']}"
    if not measures["tokens"] == tokens == curves["tokens"][-1] or curves["step"][-1] != steps - 1:
        yield f"measures.tokens: {measures['tokens']}; the curve ends at {curves['tokens'][-1]:.0f} of {tokens}"
    total, seconds = record["timing"]["train_seconds"], float(curves["seconds"][-1])
    if not math.isclose(total, seconds, rel_tol=1e-5) or np.any(np.diff(curves["seconds"]) < 0):
        yield f"timing.train_seconds: {total}; the curve ends at {seconds:.7g}"
    loss = measures["val_loss"]
    if (record["status"] == "diverged") != (loss is None):
        yield f"measures.val_loss: {loss} of a trial that {record['status']}"
    if loss is not None:
        if not _close(measures.get("perplexity"), math.exp(loss)):
            yield f"measures.perplexity: {measures.get('perplexity')}; a loss of {loss:.9g} has {math.exp(loss):.9g}"
        yield from _last_evaluation(curves, loss)
    yield from _attempts(record, total, now)


def _losses(record: Mapping[str, Any], curves: Columns) -> Iterator[str]:
    """Losses against each other and against the curve."""
    measures, train = record["measures"], curves["train_loss"]
    loss = measures["val_loss"]
    biased = measures.get("bias") is not None and "bias_abs_max" in curves
    watched = ["train_loss", "grad_norm", *["bias_abs_max"] * biased]
    broken = np.flatnonzero(np.any([~np.isfinite(curves[name]) for name in watched], axis=0))
    if record["status"] == "diverged":
        step = measures.get("diverged_at_step")
        if loss is not None or len(broken) == 0 or step != broken[0]:
            yield f"measures.diverged_at_step: {step}; the curve's first gap is {broken[:1]}"
        return
    if len(broken):
        yield f"curves.train_loss: no number at step {broken[0]}; expected one at each step of a finished trial"
        return
    if loss is None or not 0 < loss < 50:
        yield f"measures.val_loss: {loss}; expected nats per token"
        return
    tail = float(np.mean(train[-max(1, len(train) // 10) :]))
    if not _close(measures.get("train_loss_tail"), tail):
        yield f"measures.train_loss_tail: {measures.get('train_loss_tail')}; the curve's last tenth has {tail:.9g}"
    if not _close(measures.get("perplexity"), math.exp(loss)):
        yield f"measures.perplexity: {measures.get('perplexity')}; that of a loss of {loss:.9g} is {math.exp(loss):.9g}"
    domains = [value for value in (measures.get("val_loss_by_domain") or {}).values() if value is not None]
    if domains and not min(domains) - 1e-6 <= loss <= max(domains) + 1e-6:
        yield f"measures.val_loss: {loss:.6g}; its domains have {min(domains):.6g} to {max(domains):.6g}"
    entropy = measures.get("source_entropy")
    if entropy is not None and loss < entropy - 0.1:
        yield f"measures.val_loss: {loss:.6g}; the source's own entropy is {entropy:.6g}"
    if train.min() <= 0 or train.max() > 50:
        yield f"curves.train_loss: {train.min():.6g} to {train.max():.6g}; expected nats per token"
    yield from _last_evaluation(curves, loss)


def _last_evaluation(curves: Columns, loss: float) -> Iterator[str]:
    """The final loss goes on from the evaluations before it."""
    evaluated = curves.get("val_loss", np.array([]))
    evaluated = evaluated[np.isfinite(evaluated)]
    if len(evaluated) == 0:
        return
    earlier = evaluated[-2] if len(evaluated) > 1 else curves["train_loss"][0]
    room = 0.1 + 2 * abs(float(earlier - evaluated[-1]))
    if abs(loss - evaluated[-1]) > room:
        before = f"{evaluated[-1]:.6g} at the last evaluation before the end (room {room:.3g})"
        yield f"measures.val_loss: {loss:.6g}; {before}"


def _clocks(record: Mapping[str, Any], curves: Columns, per_step: int, now: datetime) -> Iterator[str]:
    """Times against each other, against the curve and against today."""
    seconds, timing = curves["seconds"], record["timing"]
    total = timing["train_seconds"]
    if not np.all(np.isfinite(seconds)) or seconds[0] <= 0 or np.any(np.diff(seconds) < 0):
        yield "curves.seconds: expected times that grow from step to step"
        return
    if not _close(total, float(seconds[-1])):
        yield f"timing.train_seconds: {total}; the curve ends at {seconds[-1]:.9g}"
        return
    split, step = timing["step_ms"], 1000 * total / len(seconds)
    if not _close(split.get("total"), step):
        yield f"timing.step_ms.total: {split.get('total')}; {len(seconds)} steps in {total:.6g} s are {step:.6g}"
    parts = sum(split.get(name) or 0 for name in STEP_PARTS)
    if len(record.get("attempts") or []) == 1 and split.get("rest") and not _close(parts, step):
        yield f"timing.step_ms: its parts are {parts:.6g} together; a step takes {step:.6g}"
    typical = float(np.median(np.diff(seconds, prepend=0.0)))
    if record["config"].get("device") != "cpu":
        typical = total / len(seconds)
    if typical > 0 and not _close(timing["tokens_per_second"], per_step / typical):
        yield f"timing.tokens_per_second: {timing['tokens_per_second']}; the curve's are {per_step / typical:.6g}"
    flops = record["measures"].get("flops_per_token") or 0
    if flops * record["measures"]["tokens"] / total > FLOPS:
        yield f"timing.train_seconds: {total:.6g}; that many FLOPs in that time are beyond any machine"
    yield from _attempts(record, total, now)


def _attempts(record: Mapping[str, Any], total: float, now: datetime) -> Iterator[str]:
    attempts = record.get("attempts") or []
    reached, spent, last = 0, timedelta(0), datetime(FIRST_YEAR, 1, 1, tzinfo=UTC)
    for number, attempt in enumerate(attempts):
        where = f"attempts.{number}"
        start, end = _time(attempt.get("started")), _time(attempt.get("ended"))
        silent = attempt.get("ended") is None and number < len(attempts) - 1  # killed, and went on later
        if start is None or (end is None and not silent):
            yield f"{where}: expected `started` and `ended` as in 2026-01-31T12:00:00Z"
            return
        if start < last or (end or start) < start or (end or start) > now + timedelta(days=1):
            yield f"{where}: {attempt.get('started')} to {attempt.get('ended')}; expected times in order, none to come"
            return
        first = attempt.get("from_step")
        if not isinstance(first, int) or not 0 <= first <= (reached if reached is not None else first):
            yield f"{where}.from_step: {first!r:.40}; the attempt before it came to step {reached}"
            return
        spent += (end or start) - start + 2 * SECOND  # written to the second
        last, reached = end or start, attempt.get("to_step")
    if not attempts or reached != record["measures"]["steps"]:
        yield f"attempts: the last ends at step {reached if attempts else None}; expected {record['measures']['steps']}"
    elif all(attempt.get("ended") for attempt in attempts) and spent.total_seconds() < total:
        yield f"timing.train_seconds: {total:.6g}; all attempts together took {spent.total_seconds():.0f} s"


def check_loads(trial: Trial, top_k: int, variable_k: bool, floor: Mapping[str, float]) -> Iterator[str]:
    """A line for every load measure that the counts contradict, and for counts that do not add up to tokens × k."""
    record, curves = trial.record, trial.curves
    assert record is not None
    assert curves is not None
    load_SLE, val_load_LE = trial.load_SLE, trial.val_load_LE
    if load_SLE is None or val_load_LE is None:
        yield "load.bin, val_load.bin: missing; expected the counts of every step"
        return
    rung, measures = record["config"]["task"]["rung"], record["measures"]
    tokens = rung["batch_sequences"] * rung["sequence_length"]
    sums_SL = load_SLE.sum(-1, dtype=np.int64)
    wrong = np.argwhere(sums_SL != tokens * top_k)
    if len(wrong) and not variable_k:
        step, layer = wrong[0]
        found = f"step {step}, layer {layer}: {sums_SL[step, layer]} assignments"
        yield f"load: {found}; {tokens} tokens × {top_k} are {tokens * top_k}"
    if load_SLE.max() > tokens:
        yield f"load: {load_SLE.max()} tokens at one expert; a step has {tokens}"
    held_L = val_load_LE.sum(-1, dtype=np.int64)
    if not variable_k and (len(set(held_L.tolist())) > 1 or held_L[0] % top_k):
        yield f"val_load: layers with {held_L.tolist()} assignments; expected as many in each, {top_k} a token"
    if not np.allclose(curves["max_vio"], violation(load_SLE.astype(np.float64)).mean(-1), rtol=CLOSE, atol=1e-9):
        yield "curves.max_vio: not that of the loads; the curve or the loads are another trial's"
    layers = (measures["max_vio_global"] or {}).get("layers") or []
    if not np.allclose(layers, violation(val_load_LE.astype(np.float64)), rtol=CLOSE, atol=1e-9):
        yield "measures.max_vio_global.layers: not those of the held-out loads"
    for path, value in recount(load_SLE, val_load_LE, rung.get("warmup_steps", 0)).items():
        name, _, part = path.partition(".")
        stated = (measures.get(name) or {}).get(part)
        if not _close(stated, value):
            yield f"measures.{path}: {stated}; the loads have {value:.9g}"
    bias = measures.get("bias")
    if bias is not None and "bias_common" in curves:  # its steps and flips are not in the archive
        for name, value in (("max_abs", curves["bias_abs_max"][-1]), ("common", curves["bias_common"][-1])):
            stated = bias.get(name)
            if not (_close(stated, float(value)) if math.isfinite(value) else stated is None):
                yield f"measures.bias.{name}: {stated}; the curve ends at {value:.9g}"
    for name, value in floor.items():
        value = value if load_SLE.shape[-1] == rung["experts"] else 0.0  # a dense arm has no choice to be noisy
        stated = (measures.get("noise_floor") or {}).get(name)
        if not _close(stated, value):
            yield f"measures.noise_floor.{name}: {stated}; expected {value:.9g}"


def _close(stated: Any, value: float) -> bool:
    if not isinstance(stated, int | float) or isinstance(stated, bool):
        return False
    return math.isclose(stated, value, rel_tol=CLOSE, abs_tol=1e-9)


def _time(text: Any) -> datetime | None:
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except (TypeError, ValueError):
        return None
