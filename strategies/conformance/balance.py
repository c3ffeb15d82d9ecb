"""Rule 14: the strategy keeps the promise it makes about balance, on a synthetic skewed router.

The router is the strategy's own, untrained; it is skewed because all hidden states share a direction (without
balancing, the fullest expert gets about three times its share). Eight fixed batches of 1,024 tokens come in turn;
`schedule` sees a training as long as the promise. Where a loss is to do the balancing, parameters follow Adam on the
auxiliary terms alone, and no task pulls the other way. A rule that moves a bias balances by that: its parameters stay,
since a term of another purpose, such as a z-loss, drives the scores faster than any bias if nothing else does.
"""

from __future__ import annotations

import torch

from strategies.conformance.broken import Broken, NotApplicable
from strategies.conformance.lab import Lab, take_step
from strategies.framework.contract import Waived

BATCHES = 8
LEARNING_RATE = 3e-3


def balances_as_promised(lab: Lab) -> None:
    """Rule 14."""
    promise = lab.cls.balances
    if isinstance(promise, Waived):
        raise NotApplicable(promise.reason)
    spec = lab.spec(16, 2)
    strategy = lab.build(spec if lab.supports(spec) else None)
    parameters = list(strategy.parameters())
    learns = bool(lab.cls.auxiliary) and bool(parameters) and strategy.selection_bias() is None
    optimizer = torch.optim.Adam(parameters, lr=LEARNING_RATE) if learns else None
    batches = [lab.batch(sequences=64, seed=200 + index) for index in range(BATCHES)]
    violations = []
    for index in range(promise.steps):
        batch = batches[index % BATCHES]
        load_E = take_step(strategy, [batch], index / promise.steps, optimizer, task_weight=0.0).load_E
        violations.append(float(load_E.max() / load_E.mean()) - 1)
    tail = violations[-max(1, min(BATCHES, promise.steps // 10)) :]
    reached = sum(tail) / len(tail)
    if not reached <= promise.max_vio:
        start = violations[0]
        raise Broken(
            f"MaxVio is {reached:.3f} after {promise.steps} steps (at first {start:.3f}); promised {promise.max_vio}",
            "rebalance",
        )
