"""Rules 5 and 6: the bias moves against the load, is applied to the selection, and to nothing else.

Shapes: T tokens, E experts.
"""

from __future__ import annotations

import torch

from strategies.conformance.broken import Broken, NotApplicable
from strategies.conformance.lab import Lab, dense, experts_of, require_bias, route, take_step

TRIES = 400  # steps within which a moving bias must have changed at least one choice
REST = 30  # steps on one batch within which a rule that pools statistics must have settled


def bias_moves_against_load(lab: Lab) -> None:
    """Rule 5."""
    strategy = lab.build()
    before_E = require_bias(strategy)
    load_E = take_step(strategy, [lab.batch(sequences=32)]).load_E
    move_E = require_bias(strategy) - before_E
    if not move_E.any():
        raise Broken("the bias does not move under a skewed load", "rebalance")
    hot, cold = int(load_E.argmax()), int(load_E.argmin())
    deviation_E = load_E - load_E.mean()
    if move_E[hot] >= move_E[cold] or (move_E * deviation_E).sum() >= 0:
        moved = f"{move_E[hot]:+.2g} for the fullest expert and {move_E[cold]:+.2g} for the emptiest"
        raise Broken(f"the bias does not move against the load: {moved}", "rebalance")
    _rests(lab)


def _rests(lab: Lab) -> None:
    """A balanced load gives no correction; a rule that goes by pooled statistics instead rests on one fixed batch."""
    strategy = lab.build()
    batch = lab.batch(sequences=32)
    step = take_step(lab.build(), [batch])
    before_E = require_bias(strategy)
    with torch.no_grad():
        strategy.rebalance(torch.full_like(step.load_E, float(step.load_E.mean().round())), step.pooled)
    move = float((require_bias(strategy) - before_E).abs().max())
    if move <= 1e-9:
        return
    if not step.pooled:
        raise Broken(f"a balanced load moves the bias by {move:.2g}; expected no correction", "rebalance")
    strategy = lab.build()
    moves = []
    for _ in range(REST):
        before_E = require_bias(strategy)
        take_step(strategy, [batch])
        moves.append(float((require_bias(strategy) - before_E).abs().max()))
    if moves[-1] > 0.1 * moves[0]:
        raise Broken(f"on one fixed batch the bias still moves by {moves[-1]:.2g} after {REST} steps", "rebalance")


def bias_selects_only(lab: Lab) -> None:
    """Rule 6."""
    strategy = lab.build()
    start_E = require_bias(strategy)
    batch = lab.batch(sequences=32)
    shape = len(batch.tokens_T), experts_of(strategy)
    count_TE, gate_TE = dense(route(strategy.eval(), batch), *shape)
    for index in range(TRIES):
        take_step(strategy.train(), [batch])
        if index % 20 == 19 or index == 0:
            new_count_TE, new_gate_TE = dense(route(strategy.eval(), batch), *shape)
            if not torch.equal(new_count_TE, count_TE):
                break
    else:
        size = float(require_bias(strategy).abs().max())
        if torch.equal(require_bias(strategy), start_E):
            raise NotApplicable("its bias does not move: see rule bias-moves")
        raise Broken(f"after {TRIES} steps the bias has reached {size:.2g} and has not changed one choice: not applied")
    if not lab.cls.selection_only_bias:
        raise NotApplicable("does not say selection_only_bias; that its bias is applied was checked")
    same_T = (new_count_TE == count_TE).all(-1)
    if not same_T.any():
        raise Broken("the bias changed every choice at once; there is no gate left to compare")
    worst = float((new_gate_TE - gate_TE)[same_T].abs().max())
    if worst > 1e-5:
        raise Broken(f"the bias changed gates by up to {worst:.2g} where the choice is the same; it may only select")
