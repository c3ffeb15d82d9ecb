"""One optimizer step.

A batch's way: the task's source draws it, the same for every strategy; each rank takes its share of each micro-batch;
embedding, attention and MoE layers (`model.py`) turn it into a loss; what the strategies add to the objective joins
it for the backward pass only. Gradients are averaged over ranks and clipped, the optimizer moves the weights, and then
the strategies look at where the tokens went.

A load vector's way: a layer's strategy answers with assignments, the dispatch plan of the backend counts them by
expert, the layer adds the counts up over micro-batches (`load_E`). Here they are summed over ranks, once, handed to the
strategies' `rebalance`, and kept for the recorder, which writes them down and computes MaxVio from them
(`recorder.py`); the record's measures come from the same counts (`record.py`).

Shapes: B sequences per optimizer step, S sequence length, L MoE layers, E experts.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from strategies import RouteContext
from suite.training import optimizers, reset
from suite.training.distributed import World
from suite.training.muon import Together
from suite.training.opening import Opened


@dataclass
class Taken:
    """What a step leaves; tensors are still on the device."""

    row: dict[str, Any]
    load_LE: Tensor  # assignments of the whole global batch
    bias_LE: Tensor | None  # selection biases after rebalancing; None if no layer has one


class OptimizerStep:
    """Forward, backward, update, rebalance."""

    def __init__(self, opened: Opened, optimizer: torch.optim.Optimizer | Together, world: World) -> None:
        self.opened, self.optimizer, self.world = opened, optimizer, world
        self.model, self.layers, self.rung = opened.model, opened.model.moe_layers, opened.task.rung
        self.seconds_balance = 0.0  # spent on rebalancing so far

    def take(self, tokens_BS: Any, step: int) -> Taken:
        """One step on one batch of token ids (a NumPy array)."""
        rung, world, device = self.rung, self.world, self.opened.device
        batch = torch.from_numpy(tokens_BS).to(device, non_blocking=True)
        for layer in self.layers:
            layer.start_step()
            layer.strategy.schedule(step / rung.steps)
        optimizers.set_rates(self.optimizer, rung, step)
        context = RouteContext(
            sequence_length=rung.sequence_length, micro_batches=rung.micro_batches, sum_over_ranks=world.sum
        )
        total = torch.zeros((), device=device)
        terms: dict[str, Tensor] = {}
        for micro in batch.chunk(rung.micro_batches):
            with self.opened.autocast():
                loss = self.model.loss(world.share(micro), context)
            objective = loss
            for layer in self.layers:
                for name, value in layer.losses.items():
                    objective = objective + value
                    terms[name] = terms.get(name, torch.zeros_like(total)) + value.detach() / rung.micro_batches
            (objective / rung.micro_batches).backward()
            total += loss.detach() / rung.micro_batches
        world.average_gradients(parameter for parameter in self.model.parameters() if parameter.requires_grad)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), rung.grad_clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        started = time.perf_counter()
        load_LE, bias_LE = self._rebalance()
        resets = reset.carry_out(self.model, self.optimizer, self.opened.seed, step)
        self.seconds_balance += time.perf_counter() - started
        row: dict[str, Any] = {"step": step, "tokens": (step + 1) * rung.tokens_per_step}
        row["lr"] = rung.hidden_rate * optimizers.schedule(rung, step)  # of the hidden matrices
        row |= {"train_loss": world.sum(total) / world.size, "grad_norm": norm}
        row |= {f"loss_{name}": world.sum(value) / world.size for name, value in terms.items()} | resets
        return Taken(row, load_LE, bias_LE)

    @torch.no_grad()
    def _rebalance(self) -> tuple[Tensor, Tensor | None]:
        load_LE = self.world.sum(torch.stack([layer.load_E for layer in self.layers]))
        for layer, load_E in zip(self.layers, load_LE, strict=True):
            pooled = {name: self.world.sum(layer.pooled[name]) for name in sorted(layer.pooled)}
            layer.strategy.rebalance(load_E.float(), pooled)
        biases = [layer.strategy.selection_bias() for layer in self.layers]
        if all(bias is None for bias in biases):
            return load_LE, None
        zeros = torch.zeros(load_LE.shape[1], device=load_LE.device)
        return load_LE, torch.stack([zeros if bias is None else bias.float() for bias in biases])
