"""Rules 1 to 3: the strategy can be built, routes as it declares, and draws its randomness from the trial's seed.

Shapes: T tokens, E experts, A assignments, K experts per token.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Collection
from typing import Any, get_args

import torch
from torch import Tensor

from strategies.conformance.broken import Broken
from strategies.conformance.lab import PHASES, Batch, Lab, dense, experts_of, route, same_routing, take_step
from strategies.conformance.noise import draws_anew
from strategies.families.biased import BiasStrategy
from strategies.framework.contract import Balances, Knob, LayerSpec, Paper, Published, Routing, Strategy, Waived
from strategies.framework.interface import Score
from strategies.framework.terms import TERMS
from strategies.registry import available
from strategies.registry.configs import config_dict, make_config

GRID = 5  # values in every knob's grid: the same tuning budget for everybody

FACTS: dict[str, type | tuple[type, ...]] = {
    "name": str,
    "title": str,
    "paper": (Paper, type(None)),
    "published": Published,
    "causal": bool,
    "knob": (Knob, type(None)),
    "has_router": bool,
    "fixed_rule": bool,
    "variable_k": bool,
    "selection_only_bias": bool,
    "task_trains_router": bool,
    "auxiliary": tuple,
    "balances": (Balances, Waived),
}


def constructs(lab: Lab) -> None:
    """Rule 1."""
    _check_facts(lab.cls)
    for method in dir(lab.cls):
        if getattr(getattr(lab.cls, method), "__isabstractmethod__", False):
            signature = inspect.signature(getattr(lab.cls, method))
            raise Broken(f"{lab.cls.__name__} misses a method; expected {method}{signature}", "__init__")
    supported = 0
    for num_experts in (4, 16, 64):
        for top_k in (1, 2, 4):
            spec = lab.spec(num_experts, top_k)
            reason = lab.cls.unsupported(spec)
            if reason is None:
                supported += 1
                lab.build(spec)
            else:
                _is_refused(lab, spec, reason)
    if not supported:
        raise Broken("supports no layer with E in {4, 16, 64} and k in {1, 2, 4}", "unsupported")


def _check_facts(cls: type[Strategy]) -> None:
    for fact, kind in FACTS.items():
        value = getattr(cls, fact, None)
        if not isinstance(value, kind):
            names = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
            comma = f": ({value!r},), with a comma" if kind is tuple and isinstance(value, str) else ""
            raise Broken(f"{fact}: {value!r} is not a class fact; expected {names}{comma}", "__init__")
    for fact in ("name", "title"):
        if not getattr(cls, fact).strip():
            raise Broken(f"{fact}: empty; expected a name", "__init__")
    for other in available().values():
        if other.name != cls.name and other.title.casefold() == cls.title.casefold():
            raise Broken(f"title: {cls.title!r} is that of {other.name}; expected one of its own", "__init__")
    if not all(isinstance(name, str) for name in cls.auxiliary):
        raise Broken(f"auxiliary: {cls.auxiliary!r}; expected names of loss terms", "__init__")
    taken = [name for name in cls.auxiliary if name in TERMS]
    if taken:
        raise Broken(f"auxiliary: {taken[0]!r} is a term that any rule can be given; expected another name", "__init__")
    if cls.forward is not Strategy.forward:
        raise Broken(
            "forward: overridden; expected route, since forward adds the terms of the configuration", "forward"
        )
    config = cls.Config
    if not dataclasses.is_dataclass(config) or not config.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise Broken("Config: not a frozen dataclass; its values are part of a trial's key", "__init__")
    try:
        make_config(cls, config_dict(make_config(cls, {})))  # a default must be what a suite may write
    except ValueError as error:
        raise Broken(f"Config: a default is not what its field says: {error}", "__init__") from error
    if cls.knob is not None:
        _check_knob(cls, cls.knob)


def _check_knob(cls: type[Strategy], knob: Knob) -> None:
    fields = [f.name for f in dataclasses.fields(cls.Config)]
    if knob.parameter not in fields:
        raise Broken(f"knob.parameter: {knob.parameter!r} is no field of Config; expected one of {fields}", "__init__")
    if len(set(knob.grid)) != GRID:
        raise Broken(f"knob.grid: {knob.grid}; expected {GRID} different values, as for every strategy", "__init__")
    for value in knob.grid:
        try:
            make_config(cls, {knob.parameter: value})
        except ValueError as error:
            raise Broken(f"knob.grid: {value} is refused by Config ({error})", "__init__") from error


def _is_refused(lab: Lab, spec: LayerSpec, reason: Any) -> None:
    layer = f"{spec.num_experts} experts, top_k {spec.top_k}"
    if not isinstance(reason, str) or not reason.strip() or "\n" in reason:
        raise Broken(f"{layer}: unsupported() returned {reason!r}; expected one line that says why", "unsupported")
    try:
        lab.build(spec)
    except ValueError as error:
        if str(error).strip():
            return
    raise Broken(f"{layer}: declared unsupported ({reason}), yet built without a ValueError that says so", "__init__")


def routes_as_declared(lab: Lab) -> None:
    """Rule 2."""
    scores: tuple[Score, ...] = get_args(Score)
    layers = [(spec, scores[:1]) for spec in lab.specs()]
    layers[0] = (layers[0][0], scores)  # every score function in one layer is enough
    for usual, functions in layers:
        for function in functions:
            spec = lab.spec(usual.num_experts, usual.top_k, score=function)
            if not lab.supports(spec):
                continue
            strategy = lab.build(spec)
            batch = lab.batch()
            for progress in PHASES:
                strategy.schedule(progress)
                for training in (True, False):
                    check_routing(route(strategy.train(training), batch), batch, strategy)
    _rebalances(lab)


def _rebalances(lab: Lab) -> None:
    """A step can be taken, and leaves a bias for every expert."""
    strategy, batch = lab.build(), lab.batch()
    experts = experts_of(strategy)
    if isinstance(strategy, BiasStrategy):
        with torch.no_grad():
            move_E: Any = strategy.step(torch.linspace(1, -1, experts))
        if not isinstance(move_E, Tensor) or list(move_E.shape) != [experts]:
            raise Broken(f"step: returned {_describe(move_E)}; expected [{experts}], one move per expert", "step")
    take_step(strategy, [batch])
    bias_E = strategy.selection_bias()
    if bias_E is not None and list(bias_E.shape) != [experts]:
        raise Broken(f"the bias is {_describe(bias_E)} after a step; expected [{experts}]", "rebalance")


def check_routing(routing: Routing, batch: Batch, strategy: Strategy, poisoned: Collection[int] = ()) -> None:
    """Raise `Broken` unless the routing is what the strategy declares; tokens of `poisoned` may have NaN gates."""
    num_tokens = len(batch.tokens_T)
    num_experts = experts_of(strategy)
    _check_lists(routing, num_tokens, num_experts)
    clean_A = torch.ones_like(routing.token_A, dtype=torch.bool)
    for token in poisoned:
        clean_A &= routing.token_A != token
    if not routing.gate_A[clean_A].isfinite().all():
        token = int(routing.token_A[clean_A & ~routing.gate_A.isfinite()][0])
        raise Broken(f"the gate of token {token} is not finite")
    count_TE, _ = dense(routing, num_tokens, num_experts)
    if count_TE.max() > 1:
        token = int((count_TE > 1).any(-1).nonzero()[0])
        raise Broken(f"token {token} goes to the same expert twice; expected distinct experts")
    _check_counts(routing, count_TE, strategy)
    if strategy.has_router:
        shape = [num_tokens, num_experts]
        for name in ("logits_TE", "scores_TE"):
            value = getattr(routing, name)
            if value is None or list(value.shape) != shape or not value.dtype.is_floating_point:
                found = None if value is None else f"{value.dtype} {list(value.shape)}"
                raise Broken(f"{name}: {found}; expected floating point {shape} from a strategy with has_router")


def _check_lists(routing: Routing, num_tokens: int, num_experts: int) -> None:
    for name, limit in (("token_A", num_tokens), ("expert_A", num_experts)):
        value: Any = getattr(routing, name)
        if not isinstance(value, Tensor) or value.dtype != torch.int64 or value.ndim != 1:
            raise Broken(f"{name}: {_describe(value)}; expected int64 with one dimension")
        if len(value) and (value.min() < 0 or value.max() >= limit):
            worst = int(value.min() if value.min() < 0 else value.max())
            raise Broken(f"{name}: index {worst} is out of range; expected 0 … {limit - 1}")
    gate_A: Any = routing.gate_A
    if not isinstance(gate_A, Tensor) or gate_A.ndim != 1 or gate_A.dtype != torch.float32:
        raise Broken(f"gate_A: {_describe(gate_A)}; expected float32 with one dimension")
    if not len(routing.token_A) == len(routing.expert_A) == len(gate_A):
        lengths = f"{len(routing.token_A)}, {len(routing.expert_A)}, {len(gate_A)}"
        raise Broken(f"token_A, expert_A and gate_A have {lengths} entries; expected equally many")


def _check_counts(routing: Routing, count_TE: Tensor, strategy: Strategy) -> None:
    num_tokens, top_k = len(count_TE), strategy.spec.top_k
    count_T = count_TE.sum(-1)
    if not strategy.variable_k and (count_T != top_k).any():
        token = int((count_T != top_k).nonzero()[0])
        raise Broken(f"experts of token {token}: {int(count_T[token])}; expected {top_k} without variable_k")
    if routing.per_token is not None:
        listed_A = torch.arange(num_tokens).repeat_interleave(routing.per_token)
        if not torch.equal(routing.token_A, listed_A):
            raise Broken(f"per_token: {routing.per_token}, yet the assignments are not listed so, token by token")


def _describe(value: Any) -> str:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


def follows_the_seed(lab: Lab) -> None:
    """Rule 3."""
    batch = lab.batch()

    def routed(seed: int, noise: int) -> list[tuple[Tensor, Tensor]]:
        torch.manual_seed(noise)
        before = torch.get_rng_state()
        strategy = lab.build(lab.spec(seed=seed))
        experts = experts_of(strategy)
        tables = []
        for training in (True, False):
            take_step(strategy.train(), [batch])
            tables.append(dense(route(strategy.train(training), batch), len(batch.tokens_T), experts))
        if not torch.equal(before, torch.get_rng_state()):
            raise Broken("draws from torch's global random stream; draw from spec.generator(…) instead", "__init__")
        return tables

    first, again, other = routed(seed=0, noise=1), routed(seed=0, noise=2), routed(seed=1, noise=1)
    if not all(same_routing(a, b, tolerance=0) for a, b in zip(first, again, strict=True)):
        raise Broken("the same seed gives another routing the second time", "__init__")
    same = all(same_routing(a, b) for a, b in zip(first, other, strict=True))
    if same and not lab.cls.fixed_rule:
        raise Broken("another seed gives the same routing; draw from spec.generator(…) or set fixed_rule", "__init__")
    if lab.cls.fixed_rule and not same:
        raise Broken("fixed_rule is set, yet another seed gives another routing", "__init__")
    draws_anew(lab)
