"""The rules, in words, in the order in which they are checked."""

from __future__ import annotations

from strategies.conformance.balance import balances_as_promised
from strategies.conformance.bias import bias_moves_against_load, bias_selects_only
from strategies.conformance.causality import evaluates_purely
from strategies.conformance.declaration import constructs, follows_the_seed, routes_as_declared
from strategies.conformance.device import stays_on_its_device
from strategies.conformance.gradients import gradients_go_where_declared, terms_stay_apart
from strategies.conformance.invariance import changes_once_per_step, is_rank_invariant, resumes_exactly
from strategies.conformance.numerics import keeps_float32, survives_hostile_loads
from strategies.conformance.rule import Rule
from strategies.conformance.settings import heeds_its_settings
from strategies.conformance.speed import is_fast

RULES: list[Rule] = [
    Rule(
        "constructs",
        1,
        "It declares its class facts, has every method, and is built with default parameters for each layer of E in "
        "{4, 16, 64} and k in {1, 2, 4} that it claims to support; it refuses the others with a clear error.",
        constructs,
        presumes=(),
    ),
    Rule(
        "routes",
        2,
        "Every token is routed as declared (k distinct experts, or the rule's own number), indices are in range, "
        "gates are finite, in training and at eval() and in every phase; a step can be taken, and a bias has an entry "
        "per expert.",
        routes_as_declared,
        presumes=("constructs",),
    ),
    Rule(
        "seed",
        3,
        "The same seed gives the same routing and another seed another (unless the rule is fixed); noise differs from "
        "step to step, and nothing is drawn from the global random stream, so that trials stay paired.",
        follows_the_seed,
    ),
    Rule(
        "eval",
        4,
        "eval() changes no state, and its routing uses nothing a decoder has not seen: later tokens and other "
        "sequences leave it alone; so does training where the class says causal.",
        evaluates_purely,
    ),
    Rule(
        "bias-moves",
        5,
        "The bias moves against the load, and a balanced load gives no correction at rest.",
        bias_moves_against_load,
    ),
    Rule(
        "bias-selects",
        6,
        "The bias changes which experts are chosen, and never a gate.",
        bias_selects_only,
    ),
    Rule(
        "micro-batches",
        7,
        "The state changes once per optimizer step, not in route: a batch split into micro-batches leaves the same "
        "state as the whole batch.",
        changes_once_per_step,
    ),
    Rule(
        "ranks",
        8,
        "One process and several with the same global batch leave the same state, on every rank.",
        is_rank_invariant,
    ),
    Rule(
        "resume",
        9,
        "A strategy loaded from its state_dict (with weights_only=True) takes exactly the next steps that the saved "
        "one takes, buffers and phase included, also when the loads turn, and keeps no numbers or tensors beside it.",
        resumes_exactly,
    ),
    Rule(
        "gradients",
        10,
        "The task loss and each auxiliary term reach parameters where declared, and what no loss reaches in a phase "
        "is frozen.",
        gradients_go_where_declared,
    ),
    Rule(
        "terms",
        11,
        "Auxiliary terms are reported apart: declared names, finite scalars, while training only, and nothing of "
        "them in the gates or in their backward pass.",
        terms_stay_apart,
    ),
    Rule(
        "float32",
        12,
        "Under bfloat16 autocast its state, scores, gates and terms are float32, and the same routing comes out.",
        keeps_float32,
    ),
    Rule(
        "hostile",
        13,
        "One expert taking all, empty experts, a single token, token counts that E does not divide and NaN give "
        "defined behaviour or a clear error, and never spread.",
        survives_hostile_loads,
    ),
    Rule(
        "balances",
        14,
        "On the synthetic skewed router it brings MaxVio under the bound it promises, within the steps it promises.",
        balances_as_promised,
    ),
    Rule(
        "speed",
        15,
        "A routing step of 1,024 tokens takes less time than a feed-forward layer of the experts' size on them.",
        is_fast,
    ),
    Rule(
        "settings",
        16,
        "It heeds what it is given: gates carry the layer's route_scale, the value of its knob arrives, and the ends "
        "of its grid make a difference.",
        heeds_its_settings,
        presumes=("constructs", "routes", "seed"),  # it compares two instances
    ),
    Rule(
        "device",
        17,
        "What it computes with lies on the layer's device: nothing is made in a step without device=, nothing is kept "
        "beside buffers and parameters, nothing but indices and single numbers comes from the host unmoved.",
        stays_on_its_device,
    ),
]
