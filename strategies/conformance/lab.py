"""The laboratory of the checks: small layers, seeded batches, and one optimizer step exactly as the engine takes it.

A strategy is driven through its public contract only. The hidden states follow their token (so that rules that
know the token alone can learn) and share a common direction (so that an untrained router is skewed).

Shapes: T tokens (whole sequences of S), E experts, A assignments, D width, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from strategies.conformance.broken import Broken, NotApplicable
from strategies.framework.contract import LayerSpec, RouteContext, Routing, Strategy

WIDTH = 32
VOCABULARY = 128
SHAPES = ((8, 2), (8, 1), (16, 4), (16, 1), (64, 2))  # (E, K): the first that a strategy supports is its usual layer
PHASES = (0.0, 0.5, 0.95)  # shares of training at which rules with phases are looked at


@dataclass(frozen=True)
class Batch:
    """Whole sequences, one after another."""

    hidden_TD: Tensor
    tokens_T: Tensor
    length: int  # S

    def split(self, parts: int) -> list[Batch]:
        """The same tokens as `parts` batches of equally many sequences."""
        return [
            Batch(hidden_TD, tokens_T, self.length)
            for hidden_TD, tokens_T in zip(self.hidden_TD.chunk(parts), self.tokens_T.chunk(parts), strict=True)
        ]

    def prefix(self, sequence: int, length: int) -> Batch:
        """The first `length` tokens of one sequence, alone: what a decoder has seen so far."""
        start = sequence * self.length
        return Batch(self.hidden_TD[start : start + length], self.tokens_T[start : start + length], length)


@dataclass
class Step:
    """What one optimizer step of one process did."""

    routings: list[Routing]
    load_E: Tensor  # of the whole global batch
    pooled: dict[str, Tensor]

    @property
    def outputs(self) -> dict[str, Tensor]:
        """What can be seen of it: the load, and the auxiliary terms of the last micro-batch."""
        losses = {f"the term {name}": value.detach() for name, value in self.routings[-1].losses.items()}
        return {"the load": self.load_E, **losses}


@dataclass
class Lab:
    """A strategy class with a configuration, and everything that a check builds from them."""

    cls: type[Strategy]
    config: Any = None
    _table_VD: Tensor = field(init=False)
    _common_D: Tensor = field(init=False)
    _frequency_V: Tensor = field(init=False)

    def __post_init__(self) -> None:
        stream = torch.Generator().manual_seed(20260)
        self._table_VD = torch.randn(VOCABULARY, WIDTH, generator=stream)
        common_D = torch.randn(WIDTH, generator=stream)
        self._common_D = common_D / common_D.norm() * math.sqrt(WIDTH)
        self._frequency_V = 1.0 / torch.arange(8, 8 + VOCABULARY)  # a flattened Zipf law

    def spec(self, num_experts: int | None = None, top_k: int = 2, **changes: Any) -> LayerSpec:
        """A layer of the laboratory; by default the first of `SHAPES` that the strategy supports."""
        if num_experts is None:
            return next(self.specs(**changes))
        return self._spec(num_experts, top_k, **changes)

    def specs(self, **changes: Any) -> Iterator[LayerSpec]:
        """The layers of `SHAPES` that the strategy supports; `Broken` if there is none."""
        supported = [spec for spec in (self._spec(*shape, **changes) for shape in SHAPES) if self.supports(spec)]
        if not supported:
            raise Broken(f"supports none of the layers (experts, top_k) {SHAPES}", "unsupported")
        return iter(supported)

    def _spec(self, num_experts: int, top_k: int, **changes: Any) -> LayerSpec:
        spec = LayerSpec(
            width=WIDTH,
            num_experts=num_experts,
            top_k=top_k,
            vocab_size=VOCABULARY,
            router_std=1 / math.sqrt(WIDTH),  # logits of unit size
            token_counts_V=(1e6 * self._frequency_V).long(),
        )
        return replace(spec, **changes)

    def supports(self, spec: LayerSpec) -> bool:
        return self.cls.unsupported(spec) is None

    def build(self, spec: LayerSpec | None = None) -> Strategy:
        """A fresh instance in training mode."""
        return self.cls(spec or self.spec(), self.config, {}).train()  # as the engine calls it

    def batch(self, sequences: int = 8, length: int = 16, *, seed: int = 0, skew: float = 1.0) -> Batch:
        """Seeded tokens and hidden states; `skew` is the size of the direction that all hidden states share."""
        stream = torch.Generator().manual_seed(seed)
        tokens_T = torch.multinomial(self._frequency_V, sequences * length, replacement=True, generator=stream)
        noise_TD = torch.randn(sequences * length, WIDTH, generator=stream)
        own_TD = math.sqrt(0.5) * (self._table_VD[tokens_T] + noise_TD)
        return Batch(own_TD + skew * self._common_D, tokens_T, length)

    def trained(self, spec: LayerSpec | None = None, *, progress: float = 0.0, steps: int = 3) -> Strategy:
        """An instance that has taken `steps` learning steps up to `progress`; the same on every call."""
        strategy = self.build(spec)
        optimizer = sgd(strategy)
        for index in range(steps):
            take_step(strategy, [self.batch(seed=100 + index)], progress * (index + 1) / steps, optimizer)
        return strategy


def sgd(strategy: Strategy) -> torch.optim.Optimizer | None:
    """An optimizer without a state of its own; None if there is nothing to train."""
    parameters = list(strategy.parameters())
    return torch.optim.SGD(parameters, lr=0.1) if parameters else None


def route(strategy: Strategy, batch: Batch, context: RouteContext | None = None) -> Routing:
    """One call of the strategy, whose answer must at least be a `Routing`."""
    routing = strategy(batch.hidden_TD, batch.tokens_T, context or RouteContext(sequence_length=batch.length))
    if not isinstance(routing, Routing):
        raise Broken(f"route returned {type(routing).__name__}; expected a Routing")
    return routing


def task_loss(routing: Routing, batch: Batch, num_experts: int) -> Tensor:
    """A mean squared error of a layer whose experts are fixed random projections, scalar."""
    num_tokens, width = batch.hidden_TD.shape
    stream = torch.Generator().manual_seed(7)
    values_ED = torch.randn(num_experts, width, generator=stream) / math.sqrt(width)
    target_D = torch.randn(width, generator=stream) / math.sqrt(width)
    hidden_TD = batch.hidden_TD.detach().float()
    values_A = (hidden_TD[routing.token_A] * values_ED[routing.expert_A]).sum(-1)
    output_T = torch.zeros(num_tokens).index_add(0, routing.token_A, routing.gate_A.float() * values_A)
    return (output_T - hidden_TD @ target_D).square().mean()


def alone(value: Tensor) -> Tensor:
    """The all-reduce of a single process."""
    return value


def take_step(
    strategy: Strategy,
    micro_batches: Sequence[Batch],
    progress: float = 0.0,
    optimizer: torch.optim.Optimizer | None = None,
    sum_over_ranks: Callable[[Tensor], Tensor] = alone,
    task_weight: float = 1.0,
) -> Step:
    """One optimizer step as the engine takes it; without an optimizer, parameters stay as they are."""
    strategy.schedule(progress)
    if optimizer is not None:
        optimizer.zero_grad()
    context = RouteContext(
        sequence_length=micro_batches[0].length, micro_batches=len(micro_batches), sum_over_ranks=sum_over_ranks
    )
    num_experts = experts_of(strategy)
    load_E = torch.zeros(num_experts, device=micro_batches[0].hidden_TD.device)
    pooled: dict[str, Tensor] = {}
    routings = []
    for batch in micro_batches:
        routing = route(strategy, batch, context)
        if optimizer is not None:
            objective = task_weight * task_loss(routing, batch, num_experts) + sum(routing.losses.values())
            if objective.requires_grad:
                (objective / len(micro_batches)).backward()
        load_E += torch.bincount(routing.expert_A, minlength=num_experts)
        for name, value in routing.pooled.items():
            pooled[name] = pooled[name] + value if name in pooled else value
        routings.append(routing)
    if optimizer is not None:
        optimizer.step()
    load_E = sum_over_ranks(load_E)
    pooled = {name: sum_over_ranks(value) for name, value in pooled.items()}
    with torch.no_grad():
        strategy.rebalance(load_E, pooled)
    return Step(routings, load_E, pooled)


def experts_of(strategy: Strategy) -> int:
    """How many experts its layer holds."""
    return strategy.experts_to_build(strategy.spec)


def dense(routing: Routing, num_tokens: int, num_experts: int) -> tuple[Tensor, Tensor]:
    """A routing as two tables: how often each expert is chosen, int64 (T, E), and the gates, float32 (T, E)."""
    cell_A = routing.token_A * num_experts + routing.expert_A
    count_TE = torch.bincount(cell_A, minlength=num_tokens * num_experts).reshape(num_tokens, num_experts)
    gate_A = routing.gate_A.detach().float()
    gate_TE = torch.zeros(num_tokens * num_experts).index_add(0, cell_A, gate_A).reshape(num_tokens, num_experts)
    return count_TE, gate_TE


def same_routing(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor], tolerance: float = 1e-5) -> bool:
    """Equal experts, and gates equal up to rounding."""
    return torch.equal(a[0], b[0]) and torch.allclose(a[1], b[1], rtol=tolerance, atol=tolerance, equal_nan=True)


def snapshot(strategy: Strategy) -> dict[str, Any]:
    """A copy of the strategy's state."""
    return {
        name: value.detach().clone() if isinstance(value, Tensor) else value
        for name, value in strategy.state_dict().items()
    }


def buffers(strategy: Strategy) -> dict[str, Any]:
    """A copy of the state that no optimizer moves."""
    trained = {name for name, _ in strategy.named_parameters()}
    return {name: value for name, value in snapshot(strategy).items() if name not in trained}


def difference(a: Mapping[str, Any], b: Mapping[str, Any], tolerance: float = 0.0) -> str | None:
    """The first entry in which two states differ, in words; None if they agree."""
    if a.keys() != b.keys():
        return f"{sorted(a.keys() ^ b.keys())[0]} is in one state only"
    for name, first in a.items():
        second = b[name]
        if isinstance(first, Tensor) != isinstance(second, Tensor):
            return f"{name} is a {type(first).__name__} and a {type(second).__name__}"
        if not isinstance(first, Tensor):
            if first != second and not (first != first and second != second):  # two NaNs are the same
                return f"{name} is {first} and {second}"
        elif first.shape != second.shape or first.dtype != second.dtype:
            return f"{name} is {first.dtype} {list(first.shape)} and {second.dtype} {list(second.shape)}"
        elif not torch.allclose(first.double(), second.double(), rtol=tolerance, atol=tolerance, equal_nan=True):
            return f"{name} differs by {(first.double() - second.double()).abs().max():.3g}"
    return None


def require_bias(strategy: Strategy) -> Tensor:
    """The selection bias, copied; `NotApplicable` for rules without one."""
    bias_E = strategy.selection_bias()
    if bias_E is None:
        raise NotApplicable("has no selection bias")
    return bias_E.detach().clone()
