"""Rules 12 and 13: float32 where it matters, and a defined answer to hostile input.

Shapes: T tokens, E experts, D width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from strategies.conformance.broken import Broken
from strategies.conformance.declaration import check_routing
from strategies.conformance.lab import PHASES, Batch, Lab, buffers, dense, difference, experts_of, route, take_step
from strategies.framework.contract import Routing, Strategy

PRECISION = 1e-4  # on gates: far above float32's rounding, far below bfloat16's


def keeps_float32(lab: Lab) -> None:
    """Rule 12."""
    for progress in (PHASES[0], PHASES[-1]):
        plain, mixed = lab.build(), lab.build()
        for index in range(3):
            batch = lab.batch(seed=index)
            coarse = Batch(batch.hidden_TD.bfloat16(), batch.tokens_T, batch.length)
            exact = Batch(coarse.hidden_TD.float(), batch.tokens_T, batch.length)
            routing = take_step(plain, [exact], progress).routings[0]
            with torch.autocast("cpu", torch.bfloat16):
                half = take_step(mixed, [coarse], progress).routings[0]
            _is_float32(mixed, half)
            _agree(mixed, routing, half)
        changed = difference(buffers(plain), buffers(mixed), 1e-5)
        if changed:
            raise Broken(f"bfloat16 autocast leaves another state: {changed}", "rebalance")


def _is_float32(strategy: Strategy, routing: Routing) -> None:
    for name, value in strategy.state_dict().items():
        if isinstance(value, Tensor) and value.is_floating_point() and value.dtype != torch.float32:
            raise Broken(
                f"{name} is {value.dtype}; expected float32, which small updates do not vanish in", "rebalance"
            )
    outputs = {"gate_A": routing.gate_A, "logits_TE": routing.logits_TE, "scores_TE": routing.scores_TE}
    for name, value in {**outputs, **routing.losses, **routing.pooled}.items():
        if value is not None and value.is_floating_point() and value.dtype != torch.float32:
            raise Broken(f"{name} is {value.dtype} under bfloat16 autocast; expected float32")


def _agree(strategy: Strategy, exact: Routing, mixed: Routing) -> None:
    """The hidden states are the same numbers, so a router in float32 gives the same logits."""
    experts = experts_of(strategy)
    tokens = int(exact.token_A.max()) + 1
    (count_TE, gate_TE), (other_TE, gate_mixed_TE) = dense(exact, tokens, experts), dense(mixed, tokens, experts)
    if not torch.equal(count_TE, other_TE):
        raise Broken("bfloat16 autocast changes which experts are chosen; compute the router in float32")
    worst = float((gate_TE - gate_mixed_TE).abs().max())
    if worst > PRECISION:
        raise Broken(f"bfloat16 autocast changes gates by up to {worst:.2g}; compute the router in float32")


def survives_hostile_loads(lab: Lab) -> None:
    """Rule 13."""
    normal = lab.batch(seed=1)
    hostile: dict[str, Batch] = {
        "all tokens equal (one set of experts takes all)": _same(normal),
        "hidden states of zero (all scores tie)": Batch(torch.zeros_like(normal.hidden_TD), *_rest(normal)),
        "a single token": normal.prefix(0, 1),
        "13 tokens (not divisible by the experts)": normal.prefix(0, 13),
        "hidden states of 1e4": Batch(1e4 * normal.hidden_TD, *_rest(normal)),
    }
    for name, batch in hostile.items():
        for progress in (PHASES[0], PHASES[-1]):
            _survives(lab, name, batch, progress)
    for name, load in HOSTILE_LOADS.items():
        _survives_load(lab, name, load)
    _contains_nan(lab, normal)


def _rest(batch: Batch) -> tuple[Tensor, int]:
    return batch.tokens_T, batch.length


def _same(batch: Batch) -> Batch:
    return Batch(batch.hidden_TD[:1].expand_as(batch.hidden_TD), batch.tokens_T[:1].expand_as(batch.tokens_T), 16)


def _one_takes_all(load_E: Tensor) -> Tensor:
    return torch.zeros_like(load_E).index_fill(0, torch.tensor([0]), float(load_E.sum()))


HOSTILE_LOADS: dict[str, Callable[[Tensor], Tensor]] = {
    "one expert takes all": _one_takes_all,
    "an empty batch": torch.zeros_like,
}


def _survives(lab: Lab, name: str, batch: Batch, progress: float) -> None:
    strategy = lab.build()
    for _ in range(3):
        try:
            routing = take_step(strategy.train(), [batch], progress).routings[0]
        except ValueError as error:
            _is_clear(error, name)
            break
        check_routing(routing, batch, strategy)
        _finite(strategy, name)
    try:
        check_routing(route(strategy.eval(), batch), batch, strategy)
    except ValueError as error:
        _is_clear(error, name)
    _recovers(lab, strategy, name)


def _is_clear(error: ValueError, name: str) -> None:
    if not str(error).strip() or "\n" in str(error):
        raise Broken(f"{name}: refused without a clear line ({error!r})") from error


def _finite(strategy: Strategy, name: str) -> None:
    for key, value in strategy.state_dict().items():
        if isinstance(value, Tensor) and value.is_floating_point() and not value.isfinite().all():
            raise Broken(f"{name}: {key} is no longer finite", "rebalance")


def _recovers(lab: Lab, strategy: Strategy, name: str) -> None:
    """A normal batch afterwards is routed as declared, and leaves a finite state."""
    batch = lab.batch(seed=2)
    routing = take_step(strategy.train(), [batch]).routings[0]
    check_routing(routing, batch, strategy)
    _finite(strategy, f"a normal batch after {name}")


def _survives_load(lab: Lab, name: str, load: Callable[[Tensor], Tensor]) -> None:
    strategy = lab.build()
    step = take_step(strategy, [lab.batch(seed=1)])
    empty = load is torch.zeros_like
    pooled = {key: torch.zeros_like(value) if empty else value for key, value in step.pooled.items()}
    for _ in range(20):
        with torch.no_grad():
            strategy.rebalance(load(step.load_E), pooled)
        _finite(strategy, name)
    _recovers(lab, strategy, name)


def _contains_nan(lab: Lab, normal: Batch) -> None:
    """NaN in one token may spoil that token's gate; other tokens' routing and all state stay finite."""
    token = 20
    hidden_TD = normal.hidden_TD.clone()
    hidden_TD[token] = torch.nan
    poisoned = Batch(hidden_TD, *_rest(normal))
    name = "NaN in one token"
    for training in (True, False):
        strategy = lab.build()
        clean = route(strategy.train(training), normal)
        strategy = lab.build().train(training)
        try:
            routing = take_step(strategy, [poisoned]).routings[0] if training else route(strategy, poisoned)
        except ValueError as error:
            _is_clear(error, name)
            continue
        check_routing(routing, poisoned, strategy, poisoned=(token,))
        _finite(strategy, name)
        if strategy.causal or not training:
            _others_untouched(strategy, clean, routing, token, len(normal.tokens_T))
        _recovers(lab, strategy, name)


def _others_untouched(strategy: Strategy, clean: Routing, routing: Routing, token: int, num_tokens: int) -> None:
    experts = experts_of(strategy)
    count_TE, other_TE = (dense(one, num_tokens, experts)[0] for one in (clean, routing))
    moved_T = (count_TE != other_TE).any(-1)
    moved_T[token] = False
    if moved_T.any():
        raise Broken(f"NaN in token {token} changes the experts of token {int(moved_T.nonzero()[0])}")
