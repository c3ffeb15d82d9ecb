"""Rules 10 and 11: which loss moves which parameter, and auxiliary terms stay apart from everything else.

Shapes: T tokens, A assignments, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from strategies.conformance.broken import Broken
from strategies.conformance.lab import PHASES, Batch, Lab, experts_of, route, task_loss
from strategies.framework.contract import LayerSpec, Routing, Strategy

ROUNDING = 1e-7  # what remains of a gradient that cancels, as that of a single normalised gate


def gradients_go_where_declared(lab: Lab) -> None:
    """Rule 10."""
    for spec in list(lab.specs())[:2]:
        for progress in PHASES:
            strategy = lab.trained(spec, progress=progress)
            strategy.schedule(progress)
            batch = lab.batch(seed=8)
            routing = route(strategy, batch)
            _task_gradient(strategy, routing, batch)
            _auxiliary_gradients(strategy, routing)
            _scores_carry_gradients(strategy, routing)
            _nothing_trainable_is_idle(strategy, routing, batch, progress)


def _layer(spec: LayerSpec) -> str:
    return f"{spec.num_experts} experts, top_k {spec.top_k}"


def _reached(strategy: Strategy, value: Tensor, floor: float = 0.0) -> set[str]:
    """Names of the parameters that have a gradient of `value` larger than `floor` somewhere."""
    named = {name: p for name, p in strategy.named_parameters() if p.requires_grad}
    if not named or not value.requires_grad:
        return set()
    gradients = torch.autograd.grad(value, list(named.values()), allow_unused=True, retain_graph=True)
    return {name for name, g in zip(named, gradients, strict=True) if g is not None and bool((g.abs() > floor).any())}


def _task_gradient(strategy: Strategy, routing: Routing, batch: Batch) -> None:
    reached = _reached(strategy, task_loss(routing, batch, experts_of(strategy)), ROUNDING)
    if strategy.task_trains_router and not reached:
        raise Broken(f"{_layer(strategy.spec)}: the task loss reaches no parameter, yet task_trains_router is set")
    if not strategy.task_trains_router and reached:
        names = ", ".join(sorted(reached))
        raise Broken(f"{_layer(strategy.spec)}: the task loss reaches {names}, yet task_trains_router is not set")


def _auxiliary_gradients(strategy: Strategy, routing: Routing) -> None:
    for name, loss in routing.losses.items():
        if not _reached(strategy, loss):
            raise Broken(f"the auxiliary term {name} reaches no parameter: it is computed for nothing")
    for name, value in routing.pooled.items():
        if value.requires_grad:
            raise Broken(f"pooled[{name!r}] carries a gradient; expected statistics without one")


def _scores_carry_gradients(strategy: Strategy, routing: Routing) -> None:
    if not strategy.has_router:
        return
    for name in ("logits_TE", "scores_TE"):
        if not _reached(strategy, getattr(routing, name).square().sum()):
            raise Broken(f"{name} has no gradient to any parameter; terms that a configuration adds would do nothing")


def _nothing_trainable_is_idle(strategy: Strategy, routing: Routing, batch: Batch, progress: float) -> None:
    """A part that no loss reaches must be frozen in so many words: weight decay moves it otherwise."""
    objective = (
        task_loss(routing, batch, experts_of(strategy)) + torch.stack([torch.zeros(()), *routing.losses.values()]).sum()
    )
    reached = _reached(strategy, objective)
    for name, parameter in strategy.named_parameters():
        if parameter.requires_grad and name not in reached:
            raise Broken(
                f"no loss reaches {name} at progress {progress}, yet it is trainable and weight decay would move it; "
                "freeze it with requires_grad_(False)",
                "schedule",
            )


def terms_stay_apart(lab: Lab) -> None:
    """Rule 11."""
    for progress in PHASES:
        strategy = lab.trained(progress=progress)
        strategy.schedule(progress)
        batch = lab.batch(seed=9)
        batch.hidden_TD.requires_grad_()
        routing = route(strategy, batch)
        _are_named_scalars(strategy, routing)
        _smuggle_nothing(strategy, routing)
        if lab.cls.causal:
            _gates_are_their_own_tokens(routing, batch)
        left = route(strategy.eval(), batch).losses
        if left:
            raise Broken(f"emits the term {next(iter(left))} at eval(), where only the task's loss is reported")


def _are_named_scalars(strategy: Strategy, routing: Routing) -> None:
    declared = strategy.auxiliary
    for name, loss in routing.losses.items():
        if name not in declared:
            raise Broken(f"emits the term {name!r}, which `auxiliary` does not declare; expected one of {declared}")
        if not isinstance(loss, Tensor) or loss.ndim or loss.dtype != torch.float32 or not loss.isfinite():
            raise Broken(f"the term {name!r} is {loss!r}; expected a finite float32 scalar")


def _smuggle_nothing(strategy: Strategy, routing: Routing) -> None:
    """An upstream gradient of zero must stay zero: a term hidden in the backward pass of the gates does not."""
    for name in ("gate_A", "logits_TE", "scores_TE"):
        value = getattr(routing, name)
        reached = set() if value is None else _reached(strategy, (0.0 * value).sum())
        if reached:
            raise Broken(f"{name} adds a gradient of its own to {sorted(reached)[0]}; expected such terms in `losses`")


def _gates_are_their_own_tokens(routing: Routing, batch: Batch) -> None:
    """A gate must not depend on later tokens or other sequences, as it does once a mean over the batch is in it."""
    if not routing.gate_A.requires_grad:
        return
    token = batch.length + batch.length // 2
    own_A = routing.token_A == token
    gradient_TD = torch.autograd.grad(routing.gate_A[own_A].sum(), batch.hidden_TD, retain_graph=True)[0]
    foreign_T = gradient_TD.abs().amax(-1) > 1e-12
    foreign_T[batch.length : token + 1] = False
    if foreign_T.any():
        other = int(foreign_T.nonzero()[0])
        raise Broken(f"the gate of token {token} has a gradient to token {other}: a term over the batch is mixed in")
