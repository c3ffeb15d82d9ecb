"""Real trainings on the synthetic source, in the shapes of the ladder's rungs as they are for text."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from strategies import RouteContext, Strategy
from suite import backends
from suite.planning import config, plan
from suite.training import optimizers
from suite.training.distributed import World
from suite.training.model import MoELayer
from suite.training.trainer import FLUSH_EVERY, Training

# one domain with text's vocabulary; warm-up short enough to be over, the end of training too far to be seen
SYNTHETIC = {"corpus.domains": 1, "rung.vocab_size": 1024, "rung.steps": 10_000, "rung.warmup_steps": 5}


def make(home: Path, rung: str, strategy: str, **sizes: Any) -> Training:
    """A training that has not begun, on one thread; `sizes` are values of the rung."""
    changes = {**SYNTHETIC, **{f"rung.{name}": value for name, value in sizes.items()}}
    data = {
        "suite": "benchmark",
        "title": "benchmark",
        "tasks": [{"task": f"zipf-{rung}", "set": changes}],
        "strategies": [strategy],
        "baseline": strategy,
        "seeds": 1,
        "aa": False,
    }
    made = plan.make_plan(config.parse(data, "benchmark"))
    folder = made.write_trial(home, made.trials[0])
    training = Training(folder, home / "cache", World(), lambda _: None)
    training.model.train()
    return training


def step(training: Training) -> dict[str, Any]:
    """One step with its row kept, as `Training.run` does it. Flushing is the caller's."""
    taken = training.train_step()
    taken.row["seconds"] = training.clock.seconds
    training.step += 1
    training.recorder.keep(taken)
    return taken.row


def steps(training: Training) -> Callable[[], dict[str, Any]]:
    """A call that does one step, and writes down what is to be written when it is."""

    def call() -> dict[str, Any]:
        row = step(training)
        if training.step % FLUSH_EVERY == 0:
            training.flush()
        return row

    return call


def _bare_forward(layer: MoELayer, x_BSD: Tensor, tokens_T: Tensor, context: RouteContext) -> Tensor:
    """`MoELayer.forward` without clocks; loads only for a rule that is given them."""
    hidden_TD = x_BSD.reshape(-1, x_BSD.shape[-1])
    routing = layer.strategy(hidden_TD, tokens_T, context)
    sorted_by_expert = backends.plan_dispatch(routing, layer.num_experts)
    if _rebalances(layer.strategy):
        layer.load_E += sorted_by_expert.load_E
        layer.pooled = routing.pooled
    layer.losses = routing.losses
    return layer.experts(hidden_TD, sorted_by_expert, layer.w_in_EDF, layer.w_out_EFD).view_as(x_BSD)


def _rebalances(strategy: Strategy) -> bool:
    return type(strategy).rebalance is not Strategy.rebalance


def bare_steps(training: Training) -> Callable[[], None]:
    """A call that does one step as if nobody wanted to know anything: no clocks, rows, losses, loads or biases kept.

    For one process, one micro-batch and no shared experts. What it trains is what `steps` trains, bit for bit.
    """
    rung, model, optimizer = training.rung, training.model, training.optimizer
    context = RouteContext(sequence_length=rung.sequence_length)
    for layer in training.layers:
        layer.forward = partial(_bare_forward, layer)  # type: ignore[method-assign]

    def call() -> None:
        tokens_BS, _ = training.source.batch(training.step)
        for layer in training.layers:
            if _rebalances(layer.strategy):
                layer.start_step()
            layer.strategy.schedule(training.step / rung.steps)
        optimizers.set_rates(optimizer, rung, training.step)
        objective = model.loss(torch.from_numpy(tokens_BS), context)
        for layer in training.layers:
            for value in layer.losses.values():
                objective = objective + value
        objective.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), rung.grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            for layer in training.layers:
                if _rebalances(layer.strategy):
                    layer.strategy.rebalance(layer.load_E.float(), layer.pooled)
        training.step += 1

    return call
