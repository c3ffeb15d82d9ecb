"""What a plan would cost, and what it could find out, before anything is started."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Container, Sequence
from functools import cache
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from results.boards.words import sensitivity_words
from results.records import ranked_arms
from results.statistics import power
from results.text import counted
from suite.planning.expected import expected_sensitivity
from suite.planning.plan import Plan, states
from suite.storage.files import read_json
from suite.words import duration, quantity
from tasks import Rung

# Share of the peak of a matrix product that a whole training step reaches, where nothing was measured on this machine.
ASSUMED_EFFICIENCY = {"cpu": 0.4, "cuda": 0.25}
ASSUMED_GPU_FLOPS = 7.8e14  # dense bf16 peak of an H200, measured
LAUNCH_SECONDS = 5e-3  # a layer of a step, its share of the optimizer included, by small rungs on an H200 (docs/gpu.md)
OPTIMIZER_COPIES = 4  # weights, gradients and Adam's two moments, each in float32
SD_GUESS = 0.005  # nats/token, of a paired difference, until records say better; printed as a guess


@cache
def cpu_peak() -> float:
    """FLOP/s of one thread's float32 matrix product, measured once in a few hundredths of a second."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    a = torch.randn(512, 512)
    times = []
    for _ in range(7):
        started = perf_counter()
        a @ a
        times.append(perf_counter() - started)
    torch.set_num_threads(threads)
    return 2 * 512**3 / max(1e-6, min(times))


def measured_seconds(plan: Plan, home: Path, found: dict[str, str]) -> dict[tuple[str, str | None], float]:
    """Training seconds of a trial, from records that are already there (at most a few of each arm).

    Returns:
        The median by (task, arm), and by (task, None) over the arms: an exact assignment may take ten times as long as
        a bias, so a task alone says little.
    """
    seconds: dict[tuple[str, str | None], list[float]] = defaultdict(list)
    for trial in plan.trials:
        if found[trial.key] == "done" and len(seconds[trial.task, trial.arm]) < 3:
            try:
                done = read_json(plan.folder(home, trial).record)
                seconds[trial.task, trial.arm].append(float(done["timing"]["train_seconds"]))
            except (ValueError, KeyError, OSError):
                continue  # a damaged record is the report's business
    medians = {cell: median(values) for cell, values in seconds.items() if values}
    for task in {task for task, _ in medians}:
        medians[task, None] = median(value for (name, _), value in medians.items() if name == task)
    return medians


def spread(plan: Plan, home: Path, found: dict[str, str]) -> float | None:
    """Standard deviation of paired differences to the baseline, where records allow: the median over arms."""
    losses: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    done = [trial for trial in plan.trials if found[trial.key] == "done"]
    for trial in done[:500]:
        try:
            value = read_json(plan.folder(home, trial).record)["measures"]["val_loss"]
        except (ValueError, KeyError, OSError):
            continue
        if value is not None:
            losses[trial.arm, trial.task][trial.seed] = value
    deviations = []
    for (arm, task), mine in losses.items():
        base = losses.get((plan.suite.baseline, task), {})
        shared = sorted(mine.keys() & base.keys())
        if arm != plan.suite.baseline and len(shared) >= 3:
            deviations.append(float(np.std([mine[seed] - base[seed] for seed in shared], ddof=1)))
    return median(deviations) if deviations else None


def training_flops(rung: Rung) -> float:
    """FLOPs of a whole training run, forward and backward."""
    return float(rung.flops_per_token) * rung.tokens


def unmeasured_seconds(rung: Rung, peak: float, device: str) -> float:
    """Seconds of a trial that nobody has run here: its FLOPs, or on a GPU what the host needs to launch its kernels."""
    launching = rung.steps * rung.micro_batches * rung.layers * LAUNCH_SECONDS if device == "cuda" else 0.0
    return max(training_flops(rung) / peak, launching)


def memory(rung: Rung) -> float:
    """Bytes, roughly: optimizer state, and the activations of one micro-batch."""
    tokens = rung.tokens_per_step / rung.micro_batches
    per_layer = 16 * rung.width + 6 * rung.expert_width * (rung.top_k + rung.shared_experts)
    activations = 4 * tokens * (rung.layers * per_layer + 3 * rung.vocab_size)
    return 4 * OPTIMIZER_COPIES * rung.parameters()["total"] + activations


def gpu_hours(rung: Rung) -> float:
    """Hours of training on the GPU whose peak is assumed above, at the assumed share of it."""
    return training_flops(rung) / (ASSUMED_GPU_FLOPS * ASSUMED_EFFICIENCY["cuda"]) / 3600


def device_of(plan: Plan) -> str:
    return str(plan.trials[0].cell.config["device"]) if plan.trials else "cpu"


def peak_of(plan: Plan) -> float:
    """FLOP/s that a trial's training is assumed to reach."""
    device = device_of(plan)
    return (cpu_peak() * plan.suite.threads if device == "cpu" else ASSUMED_GPU_FLOPS) * ASSUMED_EFFICIENCY[device]


def flops_of(plan: Plan) -> dict[str, float]:
    """Training FLOPs by cell: many trials share one."""
    cells = {trial.cell.digest: trial.cell for trial in plan.trials}
    return {name: training_flops(cell.task.rung) for name, cell in cells.items()}


def trial_seconds(plan: Plan, measured: dict[tuple[str, str | None], float]) -> dict[str, float]:
    """What each trial costs, by key: its arm's measured time, or the task's in proportion to its FLOPs."""
    flops = flops_of(plan)
    first = {trial.task: trial.cell for trial in reversed(plan.trials)}  # of a task; other arms may train for longer
    guesses = {
        task: unmeasured_seconds(cell.task.rung, peak_of(plan), device_of(plan))
        for task, cell in first.items()
        if (task, None) not in measured
    }
    seconds: dict[str, float] = {}
    for trial in plan.trials:
        length = flops[trial.cell.digest] / flops[first[trial.task].digest]
        typical = guesses[trial.task] if trial.task in guesses else measured[trial.task, None]
        seconds[trial.key] = measured.get((trial.task, trial.arm), length * typical)
    return seconds


def cheapest_first(plans: Sequence[Plan], home: Path) -> list[Plan]:
    """Plans in the order in which each adds least to those before it: a trial that several need counts once."""
    prices: list[tuple[Plan, dict[str, float]]] = []
    for plan in plans:
        found = states(plan, home)
        seconds = trial_seconds(plan, measured_seconds(plan, home, found))
        prices.append((plan, {key: value for key, value in seconds.items() if found[key] != "done"}))
    ordered: list[Plan] = []
    planned: set[str] = set()
    while prices:
        added = [sum(value for key, value in left.items() if key not in planned) for _, left in prices]
        plan, left = prices.pop(added.index(min(added)))
        ordered.append(plan)
        planned |= left.keys()
    return ordered


def summarise(plan: Plan, home: Path, planned: Container[str] = ()) -> dict[str, Any]:
    """The plan in figures: trials by state, cost of what is left, and what the suite can say at its end.

    Args:
        planned: keys of trials that come with another plan made before this one; they count as done.
    """
    found = {key: "done" if key in planned else state for key, state in states(plan, home).items()}
    unique = {trial.key: trial for trial in plan.trials}
    counts = Counter(found.values())
    left = [trial for key, trial in unique.items() if found[key] != "done"]
    device = device_of(plan)
    measured = measured_seconds(plan, home, found)
    flops = flops_of(plan)
    first = {trial.task: trial.cell for trial in reversed(unique.values())}
    prices = trial_seconds(plan, measured)
    seconds_of: dict[str, list[float]] = defaultdict(list)
    for trial in left:
        seconds_of[trial.task].append(prices[trial.key])
    seconds = sum(prices[trial.key] for trial in left)
    sensitivity = expected_sensitivity(plan, home, found)
    tasks = []
    for description in plan.manifest["tasks"]:
        name = description["name"]
        number = len(seconds_of[name])
        guess = unmeasured_seconds(first[name].task.rung, peak_of(plan), device) if name in first else 0.0
        typical = measured.get((name, None), guess)
        one = sum(seconds_of[name]) / number if number else typical
        tasks.append(
            {
                "task": name,
                "trials_left": number,
                "flops_per_trial": flops[first[name].digest] if name in first else 0.0,
                "seconds_per_trial": one,
                "measured": (name, None) in measured,
                "memory_bytes": next(
                    (memory(trial.cell.task.rung) for trial in unique.values() if trial.task == name), 0.0
                ),
                "parameters": description["parameters"],
                "sensitivity": sensitivity[name],
            }
        )
    seeds = len({trial.seed for trial in plan.trials})
    compared = sum(arm["arm"] != plan.suite.baseline for arm in ranked_arms(plan.manifest))
    measured_sd = spread(plan, home, found)
    sd = measured_sd or SD_GUESS
    return {
        "suite": plan.suite.suite,
        "title": plan.suite.title,
        "protocol_digest": plan.suite.digest,
        "hypothesis": plan.suite.hypothesis,
        "device": device,
        "trials": len(unique),
        "states": {state: counts.get(state, 0) for state in ("done", "failed", "started", "new")},
        "tasks": tasks,
        "cost": {
            "flops": sum(flops[trial.cell.digest] for trial in left),
            "seconds": seconds,
            "accelerator_hours" if device == "cuda" else "core_hours": seconds
            * (1 if device == "cuda" else plan.suite.threads)
            / 3600,
            "memory_bytes": max((entry["memory_bytes"] for entry in tasks), default=0.0),
            "measured": bool(tasks) and all(entry["measured"] for entry in tasks),
        },
        "power": {
            "seeds": seeds,
            "compared": compared,
            "smallest_p": power.smallest_p(seeds, max(1, compared)),
            "detectable_difference": power.detectable_difference(seeds, sd, max(1, compared)) if seeds > 1 else None,
            "sd": sd,
            "sd_measured": measured_sd is not None,
            "min_seeds": power.MIN_SEEDS,
        },
    }


def as_text(summary: dict[str, Any]) -> str:
    """`equipoise plan` for people."""
    states_ = summary["states"]
    lines = [f"{summary['suite']}: {summary['title']}"]
    if summary["hypothesis"]:
        lines.append(f"hypothesis: {summary['hypothesis'].strip()}")
    lines.append(
        f"{counted(summary['trials'], 'trial')}: {states_['done']} done (reused), {states_['new']} to run, "
        f"{states_['started']} to resume, {states_['failed']} failed (tried again)"
    )
    for task in summary["tasks"]:
        how = "measured here" if task["measured"] else "estimated"
        lines.append(
            f"  {task['task']}: {task['trials_left']} × {quantity(task['flops_per_trial'], 'FLOP')}, "
            f"{duration(task['seconds_per_trial'])} a trial ({how}), about {quantity(task['memory_bytes'], 'B')}, "
            f"{quantity(task['parameters']['total'])} parameters ({quantity(task['parameters']['active'])} active)"
        )
        lines.append("    " + expectation(task["sensitivity"]))
    cost = summary["cost"]
    hours = cost.get("accelerator_hours", cost.get("core_hours", 0.0))
    kind = "accelerator-hours" if "accelerator_hours" in cost else "core-hours"
    lines.append(
        f"left to do: {quantity(cost['flops'], 'FLOP')}, {duration(cost['seconds'])} one after another, "
        f"{hours:.2f} {kind}"
    )
    return "\n".join([*lines, *power_lines(summary["power"])])


def expectation(known: dict[str, Any] | None) -> str:
    """What a task's board will be able to judge, as far as anybody knows."""
    if known is None:
        return "sensitivity unknown: no records of this task and horizon here, and no published board of it"
    return f"{sensitivity_words(known)} From {known['source']}."


def table(summaries: Sequence[dict[str, Any]]) -> str:
    """Several plans for people: a line each, and their sum."""
    width = max(len(summary["suite"]) for summary in summaries)
    there = [f"{s['states']['done']:>4} of {counted(s['trials'], 'trial'):>10} there" for s in summaries]
    lines = [
        f"{s['suite']:<{width}}  {counts}, {left(s['cost']['seconds'])}"
        for s, counts in zip(summaries, there, strict=True)
    ]
    total = sum(summary["cost"]["seconds"] for summary in summaries)
    return "\n".join([*lines, f"in all {left(total)}; a trial that several of them need counts once"])


def left(seconds: float) -> str:
    return f"{duration(seconds)} left" if seconds else "nothing left to run"


def power_lines(can: dict[str, Any]) -> list[str]:
    """What the suite could say at its end, and when it could say nothing."""
    source = "measured" if can["sd_measured"] else "a guess until there are records"
    lines = []
    if can["detectable_difference"] is not None and math.isfinite(can["detectable_difference"]):
        lines.append(
            f"{counted(can['seeds'], 'seed')} against {counted(can['compared'], 'compared arm')}: detects "
            f"{can['detectable_difference']:.4f} nats/token at 80 % power (sd of a paired difference {can['sd']:.4f}, "
            f"{source}); smallest exact p {can['smallest_p']:.3g}"
        )
    if can["seeds"] < can["min_seeds"]:
        lines.append(f"fewer than {counted(can['min_seeds'], 'seed')}: results will be indicative and get no verdict")
    elif can["smallest_p"] > power.ALPHA:
        lines.append(
            "with so few seeds the exact test cannot reach 0.05 for so many arms; the verdict rests on the t test alone"
        )
    return lines
