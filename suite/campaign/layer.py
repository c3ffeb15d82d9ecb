"""Part: one MoE layer, forward and backward, beside MegaBlocks' own, a dense twin and the bare products.

Two tables. In the first every layer routes for itself, as it would at the start of training: ours with the strategy
that the settings name, MegaBlocks' with its own router. In the second our backends get the same given loads.

Shapes: T tokens, D width, E experts, F expert width, A assignments, K assignments per token.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from strategies import LayerSpec, RouteContext, registry
from suite import backends
from suite.campaign.ledger import Campaign, Ledger
from suite.campaign.loads import routing as draw_routing
from suite.campaign.machine import DTYPES, interleaved
from suite.training.model import MoELayer, SwiGLU
from tasks.ladder import derive

Step = Callable[[], Any]


def expert_flops(shape: dict[str, int]) -> float:
    """Of all experts' products, forward and backward: three matrices, each used three times."""
    return 2.0 * 9 * shape["width"] * shape["expert_width"] * shape["tokens"] * shape["top_k"]


def least_bytes(shape: dict[str, int], itemsize: int) -> float:
    """What products and activation have to move at least where they are not fused with each other.

    Per assignment 2D + 6F elements forward and 4D + 11F backward; weights are read twice and their gradient is
    written once, 3DF elements each time.
    """
    width, expert_width = shape["width"], shape["expert_width"]
    rows = shape["tokens"] * shape["top_k"] * (6 * width + 17 * expert_width)
    return float(itemsize) * (rows + 9 * shape["experts"] * width * expert_width)


def training_step(layer: Callable[[Tensor], Tensor], hidden: Tensor, parameters: list[nn.Parameter]) -> Step:
    """Forward and backward of a layer with a gradient that is given; gradients are dropped before they add up."""
    grad = torch.randn_like(hidden)

    def step() -> None:
        for tensor in (hidden, *parameters):
            tensor.grad = None
        layer(hidden).backward(grad)

    return step


def our_layer(shape: dict[str, int], strategy: str, backend: str, dtype: torch.dtype, device: torch.device) -> MoELayer:
    """The engine's layer, with weights as they are at the start."""
    sizes = {name: shape[name] for name in ("width", "experts", "top_k", "expert_width")}
    rung = derive("layer", {"depth": 2, "heads": 1, **sizes}, "layer")
    spec = LayerSpec(width=rung.width, num_experts=rung.experts, top_k=rung.top_k, vocab_size=2)
    layer = MoELayer(rung, registry.build(registry.get(strategy), spec), backends.get(backend).load())
    for weight in (layer.w_in_EDF, layer.w_out_EFD):
        nn.init.normal_(weight, std=0.02)
    layer.to(device)
    for weight in (layer.w_in_EDF, layer.w_out_EFD):
        weight.data = weight.data.to(dtype)
    return layer


def own_layer(shape: dict[str, int], dtype: torch.dtype, device: torch.device) -> nn.Module:
    """MegaBlocks' dropless layer as a user of it would have it: its own router, grouped GLU experts."""
    from suite.backends.megablocks import ready

    arguments = ready.module("megablocks.layers.arguments").Arguments(
        hidden_size=shape["width"],
        ffn_hidden_size=shape["expert_width"],
        moe_num_experts=shape["experts"],
        moe_top_k=shape["top_k"],
        moe_loss_weight=0.0,
        mlp_type="glu",
        mlp_impl="grouped",
        activation_fn=F.silu,
        fp16=False,
        bf16=dtype == torch.bfloat16,
        bias=False,
        return_bias=False,
        device=device,
    )
    return ready.module("megablocks.layers.dmoe").dMoE(arguments)


def routed_layers(shape: dict[str, int], campaign: Campaign) -> dict[str, Callable[[], Step]]:
    """What builds the step of each layer of the first table."""
    settings, device = campaign.settings["layer"], campaign.device
    dtype, strategy = DTYPES[settings["precision"]], campaign.settings["arms"]["layer"]
    context = RouteContext(sequence_length=shape["tokens"])

    def hidden() -> Tensor:
        return torch.randn(shape["tokens"], shape["width"], device=device, dtype=dtype).requires_grad_()

    def ours(backend: str) -> Step:
        layer = our_layer(shape, strategy, backend, dtype, device)
        tokens_T = torch.zeros(shape["tokens"], dtype=torch.int64, device=device)
        return training_step(lambda x: layer(x, tokens_T, context), hidden(), list(layer.parameters()))

    def theirs() -> Step:
        layer = own_layer(shape, dtype, device)
        return training_step(lambda x: layer(x[None])[0], hidden(), list(layer.parameters()))

    def dense() -> Step:
        twin = SwiGLU(shape["width"], shape["top_k"] * shape["expert_width"]).to(device, dtype)
        return training_step(twin, hidden(), list(twin.parameters()))

    made: dict[str, Callable[[], Step]] = {name: partial(ours, name) for name in settings["backends"]}
    return {**made, "MegaBlocks' own": theirs, "dense twin": dense}


def given_loads(shape: dict[str, int], load: str, campaign: Campaign) -> dict[str, Callable[[], Step]]:
    """What builds the step of each row of the second table: dispatch and experts, or the products alone."""
    settings, device = campaign.settings["layer"], campaign.device
    dtype = DTYPES[settings["precision"]]

    def weights() -> tuple[nn.Parameter, nn.Parameter]:
        sizes = (shape["experts"], shape["width"], 2 * shape["expert_width"])
        w_in = nn.Parameter(torch.randn(sizes, device=device, dtype=dtype) * 0.02)
        w_out = nn.Parameter(torch.randn(sizes[0], sizes[2] // 2, sizes[1], device=device, dtype=dtype) * 0.02)
        return w_in, w_out

    def ours(backend: str) -> Step:
        routing = draw_routing(load, shape["tokens"], shape["experts"], shape["top_k"], device)
        experts, parameters = backends.get(backend).load(), list(weights())
        hidden = torch.randn(shape["tokens"], shape["width"], device=device, dtype=dtype).requires_grad_()

        def layer(x: Tensor) -> Tensor:
            return experts(x, backends.plan_dispatch(routing, shape["experts"]), *parameters)

        return training_step(layer, hidden, parameters)

    def products() -> Step:
        plan = backends.plan_dispatch(
            draw_routing(load, shape["tokens"], shape["experts"], shape["top_k"], device), shape["experts"]
        )
        w_in, w_out = weights()
        rows = torch.randn(len(plan.token_A), shape["width"], device=device, dtype=dtype).requires_grad_()
        act = torch.randn(len(plan.token_A), shape["expert_width"], device=device, dtype=dtype).requires_grad_()
        grads = torch.randn(len(rows), 2 * shape["expert_width"], device=device, dtype=dtype), torch.randn_like(rows)

        def step() -> None:
            for tensor in (rows, act, w_in, w_out):
                tensor.grad = None
            F.grouped_mm(rows, w_in, offs=plan.ends_E).backward(grads[0])
            F.grouped_mm(act, w_out, offs=plan.ends_E).backward(grads[1])

        return step

    made: dict[str, Callable[[], Step]] = {name: partial(ours, name) for name in settings["backends"]}
    return {**made, "torch's grouped products alone": products}


def measure_all(
    ledger: Ledger, table: str, load: str, shape: dict[str, int], variants: dict[str, Callable[[], Step]]
) -> None:
    """A row per variant, timed in turns."""
    campaign = ledger.campaign
    settings, peaks = campaign.settings["layer"], campaign.machine["peaks"]
    ours = {backend.name: backend for backend in backends.available()}
    found: dict[str, float | Exception] = {}
    if ledger.seconds_left() > 0:
        found = interleaved(variants, campaign.device, settings["repeats"])
    for name in variants:

        def measurement(name: str = name) -> dict[str, Any]:
            seconds = found[name]
            if isinstance(seconds, Exception):
                raise seconds
            return {
                "layer": ours[name].label() if name in ours else name,
                "ms": 1000 * seconds,
                "tokens_per_second": shape["tokens"] / seconds,
                "share_of_peak": expert_flops(shape) / seconds / peaks[settings["precision"]],
                "share_of_bandwidth": least_bytes(shape, DTYPES[settings["precision"]].itemsize)
                / seconds
                / peaks["bandwidth"],
            }

        ledger.measure({"table": table, "load": load, **shape, "name": name, "layer": name}, measurement)


def compare(ledger: Ledger, ours: str, theirs: str) -> None:
    """A note on how a backend of ours stands to another layer, over all shapes of the first table."""
    rate: dict[tuple[Any, ...], dict[str, float]] = {}
    for row in ledger.rows:
        if row["table"] == "routed" and "ms" in row:
            shape = (row["tokens"], row["width"], row["experts"], row["top_k"], row["expert_width"])
            rate.setdefault(shape, {})[row["name"]] = row["tokens_per_second"]
    ratios = [held[ours] / held[theirs] for held in rate.values() if ours in held and theirs in held]
    if ratios:
        shown = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        ledger.note(f"{ours} over {theirs}, shape by shape: {shown}.")


def run(campaign: Campaign) -> bool:
    """All shapes. Returns whether every layer could be measured."""
    ledger, settings = campaign.ledger("layer"), campaign.settings["layer"]
    for shape in settings["shapes"]:
        measure_all(ledger, "routed", "its own", shape, routed_layers(shape, campaign))
    for shape in settings["shapes"]:
        for load in settings["loads"]:
            measure_all(ledger, "given", load, shape, given_loads(shape, load, campaign))
    for backend in settings["backends"]:
        compare(ledger, backend, "MegaBlocks' own")
        compare(ledger, backend, "dense twin")
    columns = ["layer", "load", "tokens", "width", "experts", "top_k", "expert_width", "ms", "tokens_per_second"]
    columns += ["share_of_peak", "share_of_bandwidth"]
    tables = [
        (heading, columns, [row for row in ledger.rows if row["table"] == table])
        for table, heading in (
            ("routed", "Whole layers, forward and backward, each routing for itself"),
            ("given", "Dispatch and experts alone, at given loads"),
        )
    ]
    ledger.finish("One MoE layer", tables)
    return not any("failed" in row for row in ledger.rows)
