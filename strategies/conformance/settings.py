"""Rule 16: what a strategy is given, by its layer and by its parameters, makes a difference.

Shapes: T tokens, E experts.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from strategies.conformance.broken import Broken, NotApplicable
from strategies.conformance.lab import (
    PHASES,
    Lab,
    dense,
    difference,
    experts_of,
    route,
    same_routing,
    snapshot,
    take_step,
)
from strategies.registry.configs import make_config

SCALE = 2.0


def heeds_its_settings(lab: Lab) -> None:
    """Rule 16."""
    _scales_gates(lab)
    knob = lab.cls.knob
    if knob is None:
        return
    low, high = (Lab(lab.cls, make_config(lab.cls, {knob.parameter: end(knob.grid)})) for end in (min, max))
    for end in (low, high):
        if getattr(end.build().config, knob.parameter) != getattr(end.config, knob.parameter):
            raise Broken(
                f"the value of {knob.parameter} does not arrive in self.config; pass config on to super().__init__",
                "__init__",
            )
    if all(_same(low, high, progress) for progress in PHASES):
        raise NotApplicable(  # it may act later than in the few steps that are looked at
            f"{knob.parameter} = {min(knob.grid):g} and {max(knob.grid):g} make no difference in a few steps; "
            "where they make none at all, tuning compares equal trials"
        )


def _scales_gates(lab: Lab) -> None:
    if lab.cls.experts_to_build(lab.spec()) != lab.spec().num_experts:
        return  # a control that holds another number of experts chooses none
    if lab.cls.unsupported(replace(lab.spec(), route_scale=SCALE)):
        raise NotApplicable("supports no other route_scale than 1")
    batch = lab.batch()
    for training in (True, False):
        tables = []
        for scale in (1.0, SCALE):
            strategy = lab.build(lab.spec(route_scale=scale)).train(training)
            tables.append(dense(route(strategy, batch), len(batch.tokens_T), experts_of(strategy)))
        (count, gate), scaled = tables
        if not same_routing((count, SCALE * gate), scaled):
            raise Broken(f"gates ignore the layer's route_scale of {SCALE:g}; multiply them by spec.route_scale")


def _same(one: Lab, other: Lab, progress: float) -> bool:
    """Whether the two take equal steps and leave equal states."""
    first, second = (_driven(lab, progress) for lab in (one, other))
    return difference(first[0], second[0]) is None and same_routing(first[1], second[1], tolerance=0)


def _driven(lab: Lab, progress: float) -> tuple[dict[str, Any], tuple[Tensor, Tensor]]:
    strategy = lab.trained(progress=progress)
    batch = lab.batch(seed=9)
    step = take_step(strategy, [batch], progress)
    table = dense(route(strategy.eval(), batch), len(batch.tokens_T), experts_of(strategy))
    knob = lab.cls.knob.parameter if lab.cls.knob else None  # kept as a buffer, it says nothing of what it does
    state = {name: value for name, value in snapshot(strategy).items() if name != knob}
    return {**step.outputs, **state}, table
