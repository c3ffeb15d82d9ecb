"""Part: does every backend compute what the reference computes, forward and backward, on this machine?

Shapes: T tokens, D width, E experts, F expert width.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import Tensor

from strategies import Routing
from suite import backends
from suite.campaign.ledger import Campaign
from suite.campaign.loads import routing as draw_routing
from suite.campaign.machine import DTYPES

NAMES = ("output", "hidden", "gates", "w_in", "w_out")  # the gradients' names after the output's


def results(
    backend: str, routing: Routing, inputs: list[Tensor], weight_TD: Tensor, dtype: torch.dtype
) -> list[Tensor]:
    """Output, and gradients of hidden states, gates and both weights, in float64."""
    assert routing.per_token is not None
    gates = torch.float64 if dtype == torch.float64 else torch.float32  # gates stay float32 in any precision
    gate_A = routing.gate_A.detach().to(gates, copy=True).requires_grad_()
    values = [value.to(dtype, copy=True).requires_grad_() for value in inputs]
    plan = backends.plan_dispatch(Routing(routing.token_A, routing.expert_A, gate_A, routing.per_token), len(values[1]))
    out_TD = backends.get(backend).load()(values[0], plan, values[1], values[2])
    (out_TD * weight_TD.to(out_TD.dtype)).sum().backward()
    found = [out_TD.detach(), values[0].grad, gate_A.grad, values[1].grad, values[2].grad]
    return [value.double() for value in found if value is not None]


def errors(got: list[Tensor], want: list[Tensor]) -> dict[str, float]:
    """Largest difference of each tensor, relative to its largest value."""
    return {
        name: float((a - b).abs().max() / b.abs().max().clamp(min=1e-30))
        for name, a, b in zip(NAMES, got, want, strict=True)
    }


def tolerance(allowed: dict[str, float], backend: str, precision: str) -> float:
    """The tolerance of a precision, or the backend's own: `float32-sparse` is for those that end in -sparse."""
    own = f"{precision}-{backend.rpartition('-')[2]}"
    return allowed.get(own, allowed[precision])


def run(campaign: Campaign) -> bool:
    """All backends, precisions, numbers of experts and loads. Returns whether all were equal."""
    ledger, sizes = campaign.ledger("parity"), campaign.settings["parity"]
    tokens, width, expert_width = sizes["tokens"], sizes["width"], sizes["expert_width"]
    for experts, load, precision in itertools.product(sizes["experts"], sizes["loads"], sizes["precisions"]):
        dtype = DTYPES[precision]
        generator = torch.Generator().manual_seed(1)
        shapes = ((tokens, width), (experts, width, 2 * expert_width), (experts, expert_width, width), (tokens, width))
        *inputs, weight_TD = (
            (torch.randn(shape, generator=generator) / math.sqrt(width)).to(campaign.device, dtype) for shape in shapes
        )
        routing = draw_routing(load, tokens, experts, sizes["top_k"], campaign.device)
        exact = results("reference", routing, inputs, weight_TD, torch.float64)  # of the same rounded numbers
        for backend in ("reference", *sizes["backends"]):
            allowed = tolerance(sizes["tolerance"], backend, precision)

            def compare(backend: str = backend, allowed: float = allowed) -> dict[str, Any]:
                found = errors(results(backend, routing, inputs, weight_TD, dtype), exact)  # noqa: B023  called at once
                label = backends.get(backend).label()
                return {"backend": label, "error": found, "equal": all(value <= allowed for value in found.values())}

            what = {"backend": backend, "precision": precision, "experts": experts, "load": load, "tolerance": allowed}
            ledger.measure(what, compare)
    unequal = sum(not row.get("equal") for row in ledger.rows)
    ledger.note(f"{len(ledger.rows) - unequal} of {len(ledger.rows)} comparisons equal within their tolerance.")
    columns = ["backend", "precision", "experts", "load", *(f"error.{name}" for name in NAMES), "tolerance", "equal"]
    ledger.finish(
        "Parity with the reference",
        [("Largest error, relative to the largest value of the float64 reference", columns, ledger.rows)],
    )
    return unequal == 0
