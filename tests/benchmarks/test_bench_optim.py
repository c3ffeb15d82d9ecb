"""Muon over an expert stack at once, beside torch's, which takes the experts one after another."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from turns import ratio, take_turns

from suite.training.muon import Muon

EXPERTS, WIDTH, EXPERT_WIDTH = 64, 128, 88  # the micro rung's


@pytest.mark.benchmark(group="Muon steps over 64 experts in turns")
def test_muon_over_a_stack(benchmark: Any) -> None:
    """Both from the same weights and gradients, both with Newton–Schulz steps in bfloat16."""
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
    torch.testing.assert_close(stack.detach(), torch.stack(listed).detach(), rtol=0, atol=0.002 * rounds)
