"""Rule 14: the strategy keeps the promise it makes about balance, on a synthetic skewed router.

The router is the strategy's own, untrained; it is skewed because all hidden states share a direction (without
balancing, the fullest expert gets about three times its share). Eight fixed batches of 1,024 tokens come in turn;
`schedule` sees a training as long as the promise. Where a loss may do the balancing, parameters follow Adam on the
auxiliary terms alone, and no task pulls the other way. A rule that moves a bias as well may keep its promise by either:
a term of another purpose, such as a z-loss, drives the scores faster than any bias if nothing else does.
"""

from __future__ import annotations

import torch

from strategies.conformance.broken import Broken, NotApplicable
from strategies.conformance.lab import Lab, take_step
from strategies.framework.contract import LayerSpec, Waived

BATCHES = 8
LEARNING_RATE = 3e-3


def balances_as_promised(lab: Lab) -> None:
    """Rule 14."""
    promise = lab.cls.balances
    if isinstance(promise, Waived):
        raise NotApplicable(promise.reason)
    spec = lab.spec(16, 2)
    spec_or_own = spec if lab.supports(spec) else None
    strategy = lab.build(spec_or_own)
    learns = bool(lab.cls.auxiliary) and any(True for _ in strategy.parameters())
    ways = [learns] if strategy.selection_bias() is None or not learns else [False, True]
    started, reached = min(
        (_violation(lab, spec_or_own, promise.steps, way) for way in ways), key=lambda found: found[1]
    )
    if not reached <= promise.max_vio:
        raise Broken(
            f"MaxVio is {reached:.3f} after {promise.steps} steps (at first {started:.3f}); promised {promise.max_vio}",
            "rebalance",
        )


def _violation(lab: Lab, spec: LayerSpec | None, steps: int, learns: bool) -> tuple[float, float]:
    """MaxVio of the first batch and over the last ones; `learns`: parameters follow the auxiliary terms."""
    strategy = lab.build(spec)
    optimizer = torch.optim.Adam(strategy.parameters(), lr=LEARNING_RATE) if learns else None
    batches = [lab.batch(sequences=64, seed=200 + index) for index in range(BATCHES)]
    violations = []
    for index in range(steps):
        load_E = take_step(strategy, [batches[index % BATCHES]], index / steps, optimizer, task_weight=0.0).load_E
        violations.append(float(load_E.max() / load_E.mean()) - 1)
    tail = violations[-max(1, min(BATCHES, steps // 10)) :]
    return violations[0], sum(tail) / len(tail)
