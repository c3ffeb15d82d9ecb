"""Rules 7 to 9: one state change per optimizer step, however the batch is cut, shared out or interrupted.

Shapes: T tokens, E experts.
"""

from __future__ import annotations

import io
from typing import Any

import torch
from torch import Tensor

from strategies.conformance.broken import Broken
from strategies.conformance.lab import (
    PHASES,
    Batch,
    Lab,
    buffers,
    dense,
    difference,
    experts_of,
    route,
    same_routing,
    sgd,
    snapshot,
    take_step,
)
from strategies.conformance.ranks import Ranks
from strategies.framework.contract import Strategy

STEPS = 3
SKEWS = (-1.0, 1.0, 1.0)  # after loading, the loads turn, turn back, and go on: signs of averages show what they are of
ROUNDING = 1e-5  # sums over micro-batches and ranks may be taken in another order


def changes_once_per_step(lab: Lab) -> None:
    """Rule 7."""
    for progress in (PHASES[0], PHASES[-1]):
        strategy = lab.trained(progress=progress)
        before = snapshot(strategy)
        for seed in (1, 2):
            route(strategy, lab.batch(seed=seed))
            changed = difference(before, snapshot(strategy))
            if changed:
                raise Broken(f"route changed the state in training: {changed}; expected that of rebalance alone")
        if lab.cls.causal:  # the choices of other rules depend on the micro-batch itself, and so may their statistics
            whole, parts = (_driven(lab, micro_batches, progress) for micro_batches in (1, 4))
            changed = difference(buffers(whole), buffers(parts), ROUNDING)
            changed = changed or _apart(_probe(whole, lab), _probe(parts, lab))
            if changed:
                raise Broken(
                    f"one batch and the same in 4 micro-batches leave different states: {changed}", "rebalance"
                )


def _driven(lab: Lab, micro_batches: int, progress: float) -> Strategy:
    strategy = lab.build()
    for index in range(STEPS):
        take_step(strategy, lab.batch(seed=index).split(micro_batches), progress)
    return strategy


Probe = list[tuple[Tensor, Tensor]]


def _probe(strategy: Strategy, lab: Lab) -> Probe:
    """How an instance routes from here on: state that hides outside `state_dict` shows up in it."""
    batch = lab.batch(seed=50)
    return [_table(strategy.train(training), batch) for training in (False, True)]


def _apart(one: Probe, other: Probe) -> str | None:
    for mode, first, second in zip(("eval", "training"), one, other, strict=True):
        if not same_routing(first, second):
            return f"the next routing ({mode}) differs"
    return None


def _table(strategy: Strategy, batch: Batch) -> tuple[Tensor, Tensor]:
    return dense(route(strategy, batch), len(batch.tokens_T), experts_of(strategy))


def is_rank_invariant(lab: Lab) -> None:
    """Rule 8."""
    for size in (2, 4):
        for progress in (PHASES[0], PHASES[-1]):
            replicas = _shared(lab, size, progress)
            states = [snapshot(replica) for replica in replicas]
            single = _driven(lab, 1, progress)
            alone = buffers(single)
            probe, *probes = [_probe(strategy, lab) for strategy in (single, *replicas)]
            for rank in range(1, size):
                changed = difference(states[0], states[rank]) or _apart(probes[0], probes[rank])
                if changed:
                    raise Broken(f"ranks 0 and {rank} of {size} disagree after {STEPS} steps: {changed}", "rebalance")
            if lab.cls.causal:
                shared = {name: states[0][name] for name in alone}
                changed = difference(alone, shared, ROUNDING) or _apart(probe, probes[0])
                if changed:
                    raise Broken(f"1 process and {size} leave different states: {changed}", "rebalance")


def _shared(lab: Lab, size: int, progress: float) -> list[Strategy]:
    """`size` replicas that trained together, each on its own share of every batch."""
    ranks = Ranks(size)
    replicas = [lab.build() for _ in range(size)]

    def work(rank: int) -> Strategy:
        for index in range(STEPS):
            share = lab.batch(seed=index).split(size)[rank]
            take_step(replicas[rank], [share], progress, sum_over_ranks=ranks.sum_for(rank))
        return replicas[rank]

    return ranks.run(work)


def resumes_exactly(lab: Lab) -> None:
    """Rule 9."""
    for progress in PHASES:
        strategy = lab.trained(progress=progress)
        resumed = lab.build()
        resumed.load_state_dict(_through_a_file(strategy.state_dict()))
        apart = _apart(_probe(strategy, lab), _probe(resumed, lab))
        if apart:
            raise Broken(f"after loading its state_dict at progress {progress}, {apart}", "__init__")
        for one in (strategy, resumed):
            one.schedule(progress)  # what follows from the phase comes back with it
        beside = difference(_beside_the_state(strategy), _beside_the_state(resumed))
        if beside:
            raise Broken(
                f"state_dict does not hold all that it keeps: {beside}; register it as a buffer, or begin its "
                "name with _ if nothing goes by it",
                "__init__",
            )
        optimizers = [sgd(one) for one in (strategy, resumed)]
        for index, skew in enumerate(SKEWS):
            later = progress + (1 - progress) * (index + 1) / (len(SKEWS) + 1)
            batches = lab.batch(seed=60 + index, skew=skew).split(2)
            step, again = (
                take_step(one.train(), batches, later, optimizer)
                for one, optimizer in zip((strategy, resumed), optimizers, strict=True)
            )
            changed = difference(step.outputs, again.outputs) or difference(snapshot(strategy), snapshot(resumed))
            if changed:
                raise Broken(f"step {index + 1} after loading its state_dict is another step: {changed}", "__init__")


def _beside_the_state(strategy: Strategy) -> dict[str, Any]:
    """Numbers, words and tensors that are plain attributes of the strategy or of a module in it."""
    return {
        f"{path}.{name}" if path else name: value
        for path, module in strategy.named_modules()
        for name, value in vars(module).items()
        if not name.startswith("_") and name != "training" and isinstance(value, bool | int | float | str | Tensor)
    }


def _through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    try:
        return torch.load(file, weights_only=True)
    except Exception as error:
        raise Broken(f"its state_dict does not load with weights_only=True: {type(error).__name__}") from error
