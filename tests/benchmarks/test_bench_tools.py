"""What is not training: planning, reporting, starting the command line, and what a trial writes to the disk.

CPU time, as everywhere: the disk's own is not in it.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trainings
from synthetic_records import write_suite

from results.statistics.machine import DEFAULT
from suite.cli.reporting import write_report
from suite.planning import config, plan
from suite.storage.journal import Journal
from suite.training import checkpoint
from suite.training.trainer import FLUSH_EVERY

REFERENCE = "interpreter"
LAYERS, EXPERTS = 4, 64


def with_children() -> float:
    """CPU seconds of this process and of those that it started and that have ended."""
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


@pytest.mark.benchmark(group="plan")
def test_plan_of_100000_trials(benchmark: Any) -> None:
    """Nine arms and the A/A arm; the promise of 5 s includes the imports."""
    arms = ["none", "aux_loss", "sign_bias", "smebu", "quantile", "stable_moe", "base", "hash", "bip"]
    data = {"suite": "b", "title": "b", "tasks": ["zipf-nano"], "strategies": arms, "baseline": "aux_loss"}
    suite = config.parse(data | {"seeds": 10_000, "aa": True}, "benchmark")
    made = benchmark.pedantic(plan.make_plan, (suite,), rounds=5)
    assert len({trial.key for trial in made.trials}) == 100_000


@pytest.mark.benchmark(group="report")
def test_report_over_1000_records(benchmark: Any, tmp_path: Path) -> None:
    """All forms of a leaderboard from synthetic records with curves; without --benchmark-enable, from 21."""
    seeds = 143 if benchmark.enabled else 3  # of seven arms, one of them the A/A arm
    manifest, trials = write_suite(tmp_path, seeds=seeds)
    arguments = (manifest, trials.parent, tmp_path / "report", None, DEFAULT)
    board = benchmark.pedantic(write_report, arguments, rounds=3)
    assert len(manifest["trials"]) == 7 * seeds
    assert json.loads((tmp_path / "report" / "leaderboard.json").read_text())["suite"] == board["suite"]
    assert (tmp_path / "report" / "index.html").stat().st_size > 10_000


@pytest.mark.benchmark(group="start of the command line", timer=with_children)
@pytest.mark.parametrize(
    ("words", "answer"),
    [
        pytest.param("--help", "Usage:", id="help"),
        pytest.param("list strategies", "smebu", id="list", marks=pytest.mark.slow),
    ],
)
def test_start(benchmark: Any, words: str, answer: str, tmp_path: Path) -> None:
    """A process from its start to its end, the interpreter's own start included. The second one needs torch."""
    command = [sys.executable, "-P", "-c", "from suite.cli import main; main()", *words.split()]

    def start() -> str:
        return subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path).stdout

    assert answer in benchmark.pedantic(start, rounds=5, warmup_rounds=1)


@pytest.mark.benchmark(group="what a trial writes", max_time=0.5)
def test_journal_append(benchmark: Any, tmp_path: Path) -> None:
    """Ten steps of four layers with 64 experts and biases, as one flush writes them."""
    journal = Journal(tmp_path, LAYERS, EXPERTS, bias=True)
    row = {
        name: 1 / 3 for name in ("train_loss", "grad_norm", "lr", "seconds", "max_vio", "max_vio_worst", "bias_step")
    }
    rows = [{"step": step, "tokens": 2048 * step, **row} for step in range(FLUSH_EVERY)]
    load_SLE = np.arange(FLUSH_EVERY * LAYERS * EXPERTS).reshape(FLUSH_EVERY, LAYERS, EXPERTS)
    calls = count(1)

    def append() -> int:
        journal.append(rows, load=load_SLE, bias=load_SLE / 7)
        return next(calls)

    benchmark(append)
    assert journal.rows() == FLUSH_EVERY * (next(calls) - 1)


@pytest.mark.benchmark(group="what a trial writes")
def test_checkpoint_saved_and_read(benchmark: Any, tmp_path: Path) -> None:
    """A nano trial's state, model and optimizer; without the wait for the disk."""
    training = trainings.make(tmp_path, "nano", "smebu")
    trainings.step(training)

    def save_and_read() -> dict[str, Any]:
        training.save()
        return checkpoint.read(training.folder.path / checkpoint.NEWEST)

    state = benchmark.pedantic(save_and_read, rounds=10, warmup_rounds=1)
    assert state["step"] == 1
    for name, value in training.model.state_dict().items():
        assert torch.equal(state["model"][name], value), name
