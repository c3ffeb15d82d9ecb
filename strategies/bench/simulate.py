"""A strategy's own `route` and `rebalance`, thousands of steps of them, before a router that no gradient moves.

What needs a gradient to balance (auxiliary losses) does nothing here: the bench is about rules that move a state of
their own or assign within the batch.

Shapes: S steps, T tokens per step, N recorded tokens, E experts, D features.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from strategies.bench.floor import noise_floor
from strategies.bench.source import VOCABULARY, Drift, Recorded, Synthetic, layer
from strategies.framework.contract import RouteContext, Strategy

BALANCED = 0.5  # the MaxVio below which a router counts as balanced
TAIL = 0.2  # share of the steps that the tail's measures are over
CACHED = 1 << 19  # scores that a processor's cache holds
WARM_UP = 0.1  # share of the steps that the peak leaves out


@dataclass(frozen=True)
class BenchResult:
    """One run. MaxVio is (max_j n_j − n̄)/n̄; the tail is the last 20 % of the steps."""

    strategy: str
    config: dict[str, Any]
    experts: int
    top_k: int
    tokens: int
    steps: int
    regime: str  # static, drifting, shift or recorded
    seed: int
    max_vio: float  # MaxVio_batch, mean over the tail
    floor: float  # of MaxVio_batch: what sampling alone gives
    max_vio_global: float  # of the tail's counts added up
    floor_global: float
    peak: float  # largest MaxVio_batch after the first 10 % of the steps
    steps_to_balance: int | None  # first step with MaxVio_batch < 0.5 (None: never, or not before the shift)
    steps_to_recover: int | None  # the same, counted from the shift
    bias_step: float | None  # mean |Δb| over the tail; all of these None without a selection bias
    flip_rate: float | None  # share of consecutive moves of opposite sign over the tail: 0.5 a coin, 1 an oscillation
    bias_std: float | None  # of each expert's bias over the tail, common mode taken out, mean over experts
    bias_max: float | None  # max |b| at the end
    milliseconds: float  # per step
    curve: list[float] = field(repr=False)  # MaxVio_batch of every step

    def row(self) -> dict[str, Any]:
        """The result as a table's row: everything but the curve."""
        values = asdict(self)
        del values["curve"]
        return values


def run(
    cls: type[Strategy],
    config: Any = None,
    *,
    experts: int = 32,
    top_k: int = 2,
    tokens: int = 2048,
    steps: int = 2500,
    drift: Drift = "static",
    seed: int = 0,
    scores: Tensor | None = None,
    skew: float = 0.6,
    speed: float = 0.0175,
) -> BenchResult:
    """Route `steps` batches of fresh tokens, with one rebalance after each.

    Args:
        cls: the strategy's class.
        config: its parameters; None: the defaults.
        experts: E.
        top_k: K.
        tokens: T, tokens per step.
        steps: S.
        drift: what the router does meanwhile (`source.Synthetic` says how).
        seed: of the tokens and of the strategy's own parameters: all strategies see the same tokens.
        scores: recorded router logits (N, E), instead of synthetic ones; `drift`, `skew` and `speed` then say nothing.
        skew: c, standard deviation of the experts' offsets in units of the tokens' noise.
        speed: η, how far a drifting router turns per step.

    Raises:
        ValueError: a size that is impossible, an unknown drift, a layer the strategy does not support, or scores that
            cannot be fed to it.
    """
    for name, value in (("experts", experts), ("top_k", top_k), ("tokens", tokens), ("steps", steps)):
        if value < 1:
            raise ValueError(f"{name}: {value} is impossible; expected a positive integer")
    source: Synthetic | Recorded = (
        Synthetic(tokens, steps, drift, seed, skew, speed) if scores is None else Recorded(scores, tokens)
    )
    if scores is not None and scores.shape[1] != experts:
        raise ValueError(f"experts: {experts} does not match scores with {scores.shape[1]} columns")
    strategy = cls(layer(source, experts, top_k, seed), config)
    source.prepare(strategy)
    strategy.train()
    start = time.perf_counter()
    load_SE, bias_SE = _drive(strategy, source, steps, seed)
    milliseconds = 1e3 * (time.perf_counter() - start) / steps

    tail = max(1, round(TAIL * steps))
    curve_S = load_SE.amax(-1) / load_SE.mean(-1) - 1
    tail_E = load_SE[-tail:].sum(0)
    shift = source.shift_at
    return BenchResult(
        strategy=strategy.name,
        config=asdict(strategy.config),
        experts=experts,
        top_k=top_k,
        tokens=tokens,
        steps=steps,
        regime=drift if scores is None else "recorded",
        seed=seed,
        max_vio=float(curve_S[-tail:].mean()),
        floor=noise_floor(tokens, top_k, experts),
        max_vio_global=float(tail_E.max() / tail_E.mean()) - 1,
        floor_global=noise_floor(tokens * tail, top_k, experts),
        peak=float(curve_S[round(WARM_UP * steps) :].max()),
        steps_to_balance=_first_balanced(curve_S[:shift]),
        steps_to_recover=None if shift is None else _first_balanced(curve_S[shift:]),
        **_bias_measures(bias_SE, tail),
        milliseconds=milliseconds,
        curve=curve_S.tolist(),
    )


@torch.no_grad()
def _drive(strategy: Strategy, source: Synthetic | Recorded, steps: int, seed: int) -> tuple[Tensor, Tensor | None]:
    """Loads, float64 (S, E), and selection biases after each step, float64 (S, E), or None without one.

    Large batches of a causal rule go in micro-batches, as the contract allows: half the time, the same loads.
    """
    stream = torch.Generator().manual_seed(seed)
    num_experts = strategy.experts_to_build(strategy.spec)
    parts = max(1, source.tokens * num_experts // CACHED) if strategy.causal else 1
    loads, biases = [], []
    for step in range(steps):
        strategy.schedule(step / steps)
        tokens_T = torch.randint(VOCABULARY, (source.tokens,), generator=stream)
        load_E = torch.zeros(num_experts)
        pooled: dict[str, Tensor] = {}
        micro_batches = list(zip(source.hidden(step).chunk(parts), tokens_T.chunk(parts), strict=True))
        for hidden_TD, ids_T in micro_batches:
            context = RouteContext(sequence_length=len(ids_T), micro_batches=len(micro_batches))
            routing = strategy(hidden_TD, ids_T, context)
            load_E += torch.bincount(routing.expert_A, minlength=num_experts)
            pooled = {name: value + pooled.get(name, 0) for name, value in routing.pooled.items()}
        strategy.rebalance(load_E, pooled)
        loads.append(load_E.double())
        bias_E = strategy.selection_bias()
        if bias_E is not None:
            biases.append(bias_E.double())  # a copy: the bias itself moves on
    return torch.stack(loads), torch.stack(biases) if biases else None


def _first_balanced(curve_S: Tensor) -> int | None:
    below = (curve_S < BALANCED).nonzero()
    return int(below[0]) if len(below) else None


def _bias_measures(bias_SE: Tensor | None, tail: int) -> dict[str, float | None]:
    if bias_SE is None:
        return dict.fromkeys(("bias_step", "flip_rate", "bias_std", "bias_max"))
    end_SE = bias_SE[-tail:]
    move_SE = end_SE.diff(dim=0)
    both_SE = move_SE[1:] * move_SE[:-1]
    moved = int((both_SE != 0).sum())
    centred_SE = end_SE - end_SE.mean(-1, keepdim=True)
    return {
        "bias_step": float(move_SE.abs().mean()) if len(move_SE) else 0.0,
        "flip_rate": float((both_SE < 0).sum()) / moved if moved else 0.0,
        "bias_std": float(centred_SE.std(dim=0, correction=0).mean()),
        "bias_max": float(bias_SE[-1].abs().max()),
    }
