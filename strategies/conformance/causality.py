"""Rule 4: evaluation changes nothing, and a token's routing depends on what a decoder has seen, and on nothing else.

Shapes: T tokens, S tokens per sequence, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from strategies.conformance.broken import Broken
from strategies.conformance.lab import (
    PHASES,
    Batch,
    Lab,
    dense,
    difference,
    experts_of,
    route,
    same_routing,
    snapshot,
    take_step,
)
from strategies.framework.contract import LayerSpec, Strategy


def evaluates_purely(lab: Lab) -> None:
    """Rule 4."""
    for progress in (PHASES[0], PHASES[-1]):
        _changes_nothing(lab, progress)
        for training in (True, False) if lab.cls.causal else (False,):
            for spec in list(lab.specs())[:2]:
                _looks_back_only(lab, spec, progress, training)
            _looks_back_from_everywhere(lab, progress, training)
        _decodes(lab, progress)


def _changes_nothing(lab: Lab, progress: float) -> None:
    strategy, undisturbed = lab.trained(progress=progress), lab.trained(progress=progress)
    before = snapshot(strategy)
    strategy.eval()
    first, again = (_table(strategy, lab.batch(seed=3)) for _ in range(2))
    changed = difference(before, snapshot(strategy))
    if changed:
        raise Broken(f"eval() changed its state: {changed}")
    if not same_routing(first, again, tolerance=0):
        raise Broken("at eval() the same tokens are routed differently the second time")
    batch = lab.batch(seed=4)
    for one in (strategy.train(), undisturbed):
        take_step(one, [batch], progress)
    changed = difference(snapshot(undisturbed), snapshot(strategy))
    if changed:
        raise Broken(f"a step after an evaluation is another step: {changed}")


def _looks_back_only(lab: Lab, spec: LayerSpec, progress: float, training: bool) -> None:
    """Change the tokens after a cut, then those of the sequences before it; the rest of the routing must stay."""
    batch, other = lab.batch(seed=5), lab.batch(seed=6, skew=-1.0)
    length = batch.length
    cut = 3 * length + length // 2  # in the middle of a sequence
    start = 3 * length  # of that sequence

    def routed(changed: Batch) -> tuple[Tensor, Tensor]:
        return _table(lab.trained(spec, progress=progress).train(training), changed)

    count_TE, gate_TE = routed(batch)
    mode = "training" if training else "eval()"
    order = torch.arange(len(batch.tokens_T))
    order[cut:] = order[cut:].flip(0)
    for what, changed in (("replaced", _mix(batch, other, cut)), ("permuted", _pick(batch, order))):
        count, gate = routed(changed)
        if not same_routing((count_TE[:cut], gate_TE[:cut]), (count[:cut], gate[:cut])):
            raise Broken(f"in {mode}, earlier tokens are routed otherwise when later ones are {what}{_hint(training)}")
    count, gate = routed(_mix(other, batch, start))
    if not same_routing((count_TE[start:], gate_TE[start:]), (count[start:], gate[start:])):
        raise Broken(f"in {mode}, a sequence is routed otherwise when another is replaced{_hint(training)}")


def _looks_back_from_everywhere(lab: Lab, progress: float, training: bool) -> None:
    """Change the ends of all sequences at once, from every place on: a faint look ahead moves few tokens' routing."""
    batch, other = lab.batch(seed=5), lab.batch(seed=6, skew=-1.0)
    place_T = torch.arange(len(batch.tokens_T)) % batch.length
    whole = _table(lab.trained(progress=progress).train(training), batch)
    for cut in range(1, batch.length):
        late_T = place_T >= cut
        hidden_TD = torch.where(late_T[:, None], other.hidden_TD, batch.hidden_TD)
        changed = Batch(hidden_TD, torch.where(late_T, other.tokens_T, batch.tokens_T), batch.length)
        part = _table(lab.trained(progress=progress).train(training), changed)
        if not same_routing((whole[0][~late_T], whole[1][~late_T]), (part[0][~late_T], part[1][~late_T])):
            mode = "training" if training else "eval()"
            raise Broken(
                f"in {mode}, earlier tokens are routed otherwise when later ones are replaced{_hint(training)}"
            )


def _hint(training: bool) -> str:
    return "; expected of a rule with causal = True only what a decoder has seen" if training else ""


def _decodes(lab: Lab, progress: float) -> None:
    """A sequence that is still being written is routed as it will be when it is complete."""
    strategy = lab.trained(progress=progress).eval()
    batch = lab.batch(seed=5)
    length, shown = batch.length, batch.length // 2
    whole = _table(strategy, batch)
    start = 2 * length
    part = _table(strategy, batch.prefix(2, shown))
    if not same_routing((whole[0][start : start + shown], whole[1][start : start + shown]), part):
        raise Broken("at eval() the beginning of a sequence, alone, is routed otherwise than within the batch")


def _table(strategy: Strategy, batch: Batch) -> tuple[Tensor, Tensor]:
    return dense(route(strategy, batch), len(batch.tokens_T), experts_of(strategy))


def _mix(early: Batch, late: Batch, cut: int) -> Batch:
    """The tokens of `early` before the cut, those of `late` from there on."""
    hidden_TD = torch.cat([early.hidden_TD[:cut], late.hidden_TD[cut:]])
    return Batch(hidden_TD, torch.cat([early.tokens_T[:cut], late.tokens_T[cut:]]), early.length)


def _pick(batch: Batch, order: Tensor) -> Batch:
    return Batch(batch.hidden_TD[order], batch.tokens_T[order], batch.length)
