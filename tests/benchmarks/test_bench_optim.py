"""Muon: its share of a training step, and an expert stack at once beside torch's Muon, one expert after another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import trainings
from turns import ratio, take_turns

from suite.training.muon import Muon

EXPERTS, WIDTH, EXPERT_WIDTH = 64, 128, 88  # the micro rung's


@pytest.mark.benchmark(group="Muon steps over 64 experts in turns")
def test_muon_over_a_stack(benchmark: Any) -> None:
    """Both from the same weights and gradients; torch takes five steps in bfloat16, we, on a CPU, three in float32."""
    draw = torch.Generator().manual_seed(0)
    start_EDF = torch.randn(EXPERTS, WIDTH, EXPERT_WIDTH, generator=draw)
    grad_EDF = torch.randn(EXPERTS, WIDTH, EXPERT_WIDTH, generator=draw)
    listed = [torch.nn.Parameter(matrix.clone()) for matrix in start_EDF]
    theirs = torch.optim.Muon(listed, lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    stack = torch.nn.Parameter(start_EDF.clone())
    stack.grad = grad_EDF.clone()
    ours = Muon([{"params": [stack]}], lr=0.02, weight_decay=0.1)
    for parameter, gradient in zip(listed, grad_EDF, strict=True):
        parameter.grad = gradient.clone()
    seconds = take_turns(benchmark, {"torch's": theirs.step, "ours": ours.step}, rounds=30)
    over = ratio(seconds["torch's"], seconds["ours"])
    benchmark.extra_info["ratios"] = {"Muon, 64 experts: torch's list over the stack": over}
    rounds = len(seconds["ours"]) + (3 if benchmark.enabled else 0)
    # both orthogonalise to a band around 1, not to 1
    torch.testing.assert_close(stack.detach(), torch.stack(listed).detach(), rtol=0, atol=0.01 * rounds)


@pytest.mark.benchmark(group="optimizer steps with Muon and AdamW in turns")
def test_share_of_a_step(benchmark: Any, tmp_path: Path) -> None:
    """What Muon adds to AdamW's step of the bench rung, as a share of its own step."""
    made = {name: trainings.make(tmp_path / name, "bench", "none", recipe=name) for name in ("muon", "adamw")}
    seconds = take_turns(benchmark, {name: trainings.steps(training) for name, training in made.items()}, rounds=30)
    over = ratio(seconds["adamw"], seconds["muon"])
    share = (1 - over[0], 1 - over[2], 1 - over[1])
    benchmark.extra_info["ratios"] = {"step, bench: share that Muon adds": share}
    assert made["muon"].step == made["adamw"].step
