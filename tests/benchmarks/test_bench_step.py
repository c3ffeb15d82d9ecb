"""A whole optimizer step of the engine: by strategy, by number of experts, with and without its records; evaluation.

Rungs have the sizes they have for text, on the synthetic source: nothing is downloaded. StableMoE is in its first
stage, the dearer one.
"""

from __future__ import annotations

import math
import time
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any

import pytest
import torch
import trainings
from turns import ratio, take_turns

from suite.training.evaluate import evaluate
from suite.training.trainer import FLUSH_EVERY

STRATEGIES = ("none", "aux_loss", "sign_bias", "smebu", "stable_moe", "base")
RUNGS = ("nano", pytest.param("bench", marks=pytest.mark.slow))
COUNTS = (8, 64, 256)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("rung", RUNGS)
def test_step(benchmark: Any, tmp_path: Path, rung: str, strategy: str) -> None:
    benchmark.group = f"optimizer step, {rung}"
    training = trainings.make(tmp_path, rung, strategy)
    row = benchmark.pedantic(trainings.steps(training), rounds=15, warmup_rounds=3)
    assert math.isfinite(row["train_loss"])
    assert row["grad_norm"] > 0


@pytest.mark.parametrize("rung", RUNGS)
def test_overhead_of_balancing(benchmark: Any, tmp_path: Path, rung: str) -> None:
    """Every strategy's step over that of no balancing, all timed in turns."""
    benchmark.group = "optimizer steps of six strategies in turns"
    made = {strategy: trainings.make(tmp_path, rung, strategy) for strategy in STRATEGIES}
    arms = {strategy: trainings.steps(training) for strategy, training in made.items()}
    seconds = take_turns(benchmark, arms, rounds=30)
    benchmark.extra_info["ratios"] = {
        f"step, {rung}: {strategy} over none": ratio(seconds[strategy], seconds["none"]) for strategy in STRATEGIES[1:]
    }
    assert len({training.step for training in made.values()}) == 1


@pytest.mark.benchmark(group="optimizer steps with 8 64 256 experts in turns")
def test_growth_of_a_step(benchmark: Any, tmp_path: Path) -> None:
    """Steps of the bench rung with 64 and 256 experts over that with 8: equal active compute, more parameters."""
    made = {str(count): trainings.make(tmp_path, "bench", "none", experts=count) for count in COUNTS}
    seconds = take_turns(benchmark, {name: trainings.steps(training) for name, training in made.items()}, rounds=25)
    benchmark.extra_info["ratios"] = {
        f"step, bench: {count} experts over {COUNTS[0]}": ratio(seconds[str(count)], seconds[str(COUNTS[0])])
        for count in COUNTS[1:]
    }
    active = {training.rung.flops_per_token for training in made.values()}
    router = 6 * 2 * 64 * (COUNTS[-1] - COUNTS[0])  # two layers, width 64
    assert max(active) - min(active) == router  # all that grows of a token's compute


@pytest.mark.parametrize("strategy", ["none", "smebu"])
@pytest.mark.parametrize("rung", RUNGS)
def test_cost_of_records(benchmark: Any, tmp_path: Path, rung: str, strategy: str) -> None:
    """A step with clocks, losses, loads, biases, MaxVio and the journal over the same step with none of them.

    The ratio of steps is a median; a flush comes once in ten steps, so a tenth of its mean is added.
    """
    benchmark.group = "optimizer steps recorded and bare in turns"
    recorded, bare = (trainings.make(tmp_path / name, rung, strategy) for name in ("recorded", "bare"))
    flushes: list[float] = []

    def flush_if_due() -> None:
        if len(recorded.recorder.held) >= FLUSH_EVERY:
            started = time.process_time()
            recorded.flush()
            flushes.append(time.process_time() - started)

    arms = {"recorded": partial(trainings.step, recorded), "bare": trainings.bare_steps(bare), "flush": flush_if_due}
    seconds = take_turns(benchmark, arms, rounds=100)
    if flushes:
        flush = mean(flushes) / FLUSH_EVERY / median(seconds["bare"])
        steps = ratio(seconds["recorded"], seconds["bare"])
        label = f"step, {rung}, {strategy}: with records over without"
        benchmark.extra_info["ratios"] = {label: tuple(value + flush for value in steps)}
    while recorded.step < 3:  # enough for what a rebalance changed to be seen in the parameters
        arms["recorded"]()
        arms["bare"]()
    recorded.flush()
    assert recorded.journal.rows() == recorded.step == bare.step
    assert all(layer.seconds["experts"] > 0 for layer in recorded.layers)
    assert all(layer.seconds["experts"] == 0 for layer in bare.layers)
    for (name, own), other in zip(recorded.model.named_parameters(), bare.model.parameters(), strict=True):
        assert torch.equal(own, other), f"{name}: what was left out was more than records"


@pytest.mark.benchmark(group="held-out evaluation, nano, 12,288 tokens")
@pytest.mark.parametrize("loads", [False, True], ids=["loss", "loss and loads"])
def test_evaluation(benchmark: Any, tmp_path: Path, loads: bool) -> None:
    training = trainings.make(tmp_path, "nano", "smebu")
    arguments = (training.model, training.heldout.tokens_NS, training.heldout.domain_N, training.source.domains, loads)
    result = benchmark.pedantic(evaluate, arguments, rounds=10, warmup_rounds=1)
    assert result.loss == pytest.approx(math.log(1024), abs=0.2)  # untrained: about uniform
    assert int(result.load_LE.sum()) == (2 * 2 * 96 * 128 if loads else 0)  # L · K · N · S
