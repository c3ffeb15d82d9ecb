"""Experts that begin again in the middle of training, because their strategy says so.

Shapes: E experts, D width, F expert width.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from strategies import REDRAWN, Reset
from suite.training.model import Transformer, stream
from suite.training.muon import Together

WEIGHTS = ("w_in_EDF", "w_out_EFD")


@torch.no_grad()
def carry_out(
    model: Transformer, optimizer: torch.optim.Optimizer | Together, seed: int, step: int
) -> dict[str, Tensor]:
    """Do what `Strategy.experts_to_reset` asks of each layer, without waiting for the device.

    What is drawn depends on seed, step, layer and parameter alone: a resumed trial, and every rank, draws the same.

    Returns:
        `experts_reset`, how many experts of all layers began again, for the step's row; empty if nobody asked.
    """
    counts = []
    for index, layer in enumerate(model.moe_layers):
        reset = layer.strategy.experts_to_reset()
        if reset is None:
            continue
        source_E = reset.source_E
        begins_E = source_E != torch.arange(len(source_E), device=source_E.device)
        for name in WEIGHTS:
            generator = stream(seed, f"reset/{step}/{index}/{name}")
            weight_EAB = getattr(layer, name)
            _begin_again(weight_EAB, reset, begins_E, model.initial_std(name, weight_EAB), generator)
        _forget([*(getattr(layer, name) for name in WEIGHTS), *reset.rows], begins_E, optimizer)
        counts.append(begins_E.sum())
    return {"experts_reset": torch.stack(counts).sum()} if counts else {}


def _begin_again(
    weight_EAB: nn.Parameter, reset: Reset, begins_E: Tensor, std: float, generator: torch.Generator
) -> None:
    """Copies (with noise) or new draws in the place of the experts that begin again. The noise is drawn for all."""
    drawn_EAB = torch.empty(weight_EAB.shape).normal_(generator=generator).to(weight_EAB.device)
    copied_EAB = weight_EAB[reset.source_E.clamp(min=0)]
    size_E11 = copied_EAB.square().mean((1, 2), keepdim=True).sqrt()
    redrawn_E11 = (reset.source_E == REDRAWN)[:, None, None]
    start_EAB = torch.where(redrawn_E11, std * drawn_EAB, copied_EAB + reset.noise * size_E11 * drawn_EAB)
    weight_EAB.copy_(torch.where(begins_E[:, None, None], start_EAB, weight_EAB))


def _forget(parameters: Iterable[nn.Parameter], begins_E: Tensor, optimizer: torch.optim.Optimizer | Together) -> None:
    """Zero these experts' part of every moment the optimizer keeps by expert; counts of steps are not by expert."""
    parts = optimizer.optimizers if isinstance(optimizer, Together) else [optimizer]
    for parameter in parameters:
        for part in parts:
            if parameter not in part.state:
                continue
            for value in part.state[parameter].values():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    value.masked_fill_(begins_E.view(-1, *[1] * (value.ndim - 1)), 0.0)
