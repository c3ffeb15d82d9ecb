"""Part of rule 3: noise differs from step to step.

A rule that draws in training draws noise if equal sequences are routed differently; a table that is drawn once for
all, even if anew in each call, routes them alike. Where the generators stand at every step as they stood at the first,
it is the same noise again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from strategies.conformance.broken import Broken
from strategies.conformance.lab import Batch, Lab, dense, experts_of, route, same_routing, take_step
from strategies.framework.contract import Strategy

STEPS = 4
SEQUENCES = 8


def draws_anew(lab: Lab) -> None:
    """Only of rules with `causal`: others may route equal sequences differently without noise, as assignments do."""
    if not lab.cls.causal:
        return
    strategy = lab.build()
    drawn = []
    for index in range(STEPS):
        batch = _alike(lab.batch(sequences=1, seed=index))  # other tokens in each step: noise may be derived from them
        strategy.schedule(index / STEPS)
        with Draws() as draws:
            noisy = _tells_apart(strategy, batch)
        if noisy and draws.states:
            drawn.append(draws.states)
        take_step(strategy, [batch], index / STEPS)
    if len(drawn) > 1 and all(states == drawn[0] for states in drawn):
        raise Broken(
            "its noise is the same at every step: the generator is seeded anew in each call; seed it by the steps that "
            "a buffer counts, as in spec.generator(f'noise {int(self.passed)}')"
        )


def _alike(sequence: Batch) -> Batch:
    return Batch(sequence.hidden_TD.repeat(SEQUENCES, 1), sequence.tokens_T.repeat(SEQUENCES), sequence.length)


def _tells_apart(strategy: Strategy, batch: Batch) -> bool:
    """Whether a batch of equal sequences is routed differently from sequence to sequence."""
    count_TE, gate_TE = dense(route(strategy, batch), len(batch.tokens_T), experts_of(strategy))
    first, *others = zip(count_TE.split(batch.length), gate_TE.split(batch.length), strict=True)
    return not all(same_routing(first, other) for other in others)


class Draws(TorchFunctionMode):
    """Where each generator stood when something was drawn from it."""

    def __init__(self) -> None:
        super().__init__()
        self.states: list[list[int]] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        generator = (kwargs or {}).get("generator")
        if isinstance(generator, torch.Generator):
            self.states.append(generator.get_state().tolist())
        return func(*args, **(kwargs or {}))
