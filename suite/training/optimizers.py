"""The optimizer and its schedule, as the rung's recipe has them: the same for every strategy of a comparison."""

from __future__ import annotations

from math import cos, pi
from typing import Any

import torch
from torch import nn

from suite.training.model import Transformer
from suite.training.muon import Muon, Together
from tasks import Rung
from tasks.recipes import GROUPS


def schedule(rung: Rung, step: int) -> float:
    """Share of the peak rates: linear warm-up, then a cosine or a line down to `min_learning_rate_ratio`."""
    if step < rung.warmup_steps:
        return (step + 1) / rung.warmup_steps
    progress = (step - rung.warmup_steps) / max(1, rung.steps - rung.warmup_steps)
    low = rung.min_learning_rate_ratio
    return low + (1 - low) * (0.5 * (1 + cos(pi * progress)) if rung.decay == "cosine" else 1 - progress)


def set_rates(optimizer: torch.optim.Optimizer | Together, rung: Rung, step: int) -> None:
    """Every group's rate for a step."""
    share = schedule(rung, step)
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * share


def group_of(name: str, parameter: nn.Parameter) -> str:
    """The recipe's group of a parameter: what belongs to a strategy is a router, what has one dimension a vector."""
    if ".strategy." in name:
        return "router"
    if parameter.ndim < 2:
        return "vector"
    return {"embedding": "embedding", "head": "head"}.get(name.split(".")[0], "hidden")


def fused_parts(name: str) -> tuple[int, int]:
    """How many matrices a parameter of the model holds side by side, and along which dimension."""
    if name.endswith("qkv.weight"):
        return 3, -2
    if name.endswith("w_in.weight"):  # gate and up; nn.Linear keeps (out, in)
        return 2, -2
    return (2, -1) if name.endswith("w_in_EDF") else (1, -1)


def build(model: Transformer, rung: Rung) -> torch.optim.Optimizer | Together:
    """AdamW, or Muon for the hidden matrices with AdamW for the rest.

    Weight decay is decoupled and on embedding, head and hidden matrices. Routers belong to their strategies and stay
    with AdamW either way, so that crossing balancing with the optimizer changes one thing.
    """
    held: dict[str, list[tuple[str, nn.Parameter]]] = {group: [] for group in GROUPS}
    for name, parameter in model.named_parameters():
        held[group_of(name, parameter)].append((name, parameter))
    hidden = held.pop("hidden") if rung.optimizer == "muon" else []
    groups: list[dict[str, Any]] = []
    for group, entries in held.items():
        if entries:
            peak = getattr(rung, f"{group}_rate")
            decay = 0.0 if group in ("router", "vector") else rung.weight_decay
            parameters = [parameter for _, parameter in entries]
            groups.append({"params": parameters, "lr": peak, "peak": peak, "weight_decay": decay})
    adamw = torch.optim.AdamW(groups, betas=(rung.beta1, rung.beta2), fused=True)
    if rung.optimizer == "adamw":
        return adamw
    stacks: dict[tuple[int, int], list[nn.Parameter]] = {}
    for name, parameter in hidden:
        stacks.setdefault(fused_parts(name), []).append(parameter)
    fused = [
        {"params": parameters, "peak": rung.hidden_rate, "parts": parts, "dim": dim}
        for (parts, dim), parameters in sorted(stacks.items())
    ]
    muon = Muon(fused, lr=rung.hidden_rate, weight_decay=rung.weight_decay, momentum=rung.momentum)
    return Together([muon, adamw])
