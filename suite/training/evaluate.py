"""Held-out evaluation with the inference router, and probes of where fixed tokens go. Neither changes any state.

Shapes: N held-out sequences, S sequence length, L MoE layers, E experts, T tokens, M domains, P probes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from strategies import RouteContext, Routing
from suite.training.model import Transformer

PROBE_TOKENS = 256
CHUNK_TOKENS = 4096  # evaluated at once: bounds memory


@dataclass
class Evaluation:
    """What the held-out set says."""

    loss: float  # nats per token
    loss_by_domain: dict[str, float]
    nats: float  # summed over tokens
    load_LE: NDArray[np.int64]
    joint_LME: NDArray[np.int64]  # assignments by domain of the token


@contextmanager
def inference(model: Transformer, keep_routing: bool) -> Iterator[None]:
    """The model as a decoder would run it; training mode is restored afterwards."""
    was_training = model.training
    model.eval()
    for layer in model.moe_layers:
        layer.keep_routing = keep_routing
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)
        for layer in model.moe_layers:
            layer.keep_routing, layer.routing = False, None


def held_routing(model: Transformer) -> list[Routing]:
    """Every layer's routing of the forward pass just done."""
    kept = [layer.routing for layer in model.moe_layers]
    assert all(routing is not None for routing in kept)
    return [routing for routing in kept if routing is not None]


def evaluate(
    model: Transformer,
    tokens_NS: Tensor,
    domain_N: Tensor,
    domains: list[str],
    loads: bool = True,
    counted_S: Tensor | None = None,
) -> Evaluation:
    """Loss over the held-out set, and with `loads` where its tokens went.

    Args:
        tokens_NS: (N, S + 1) token ids on the model's device.
        domain_N: which domain each sequence is from.
        counted_S: (S,) bool, which predicted tokens count in the losses; None: all. Loads are of all of them.
    """
    length = tokens_NS.shape[1] - 1
    context = RouteContext(sequence_length=length)
    layers, experts = len(model.moe_layers), max((layer.num_experts for layer in model.moe_layers), default=0)
    device = tokens_NS.device
    joint = torch.zeros(layers, len(domains), experts, dtype=torch.int64, device=device)
    nats_M = torch.zeros(len(domains), dtype=torch.float64, device=device)
    per_chunk = max(1, CHUNK_TOKENS // length)
    with inference(model, keep_routing=loads):
        for chunk, domain in zip(tokens_NS.split(per_chunk), domain_N.split(per_chunk), strict=True):
            losses_NS = model.losses(chunk, context).double()
            if counted_S is not None:
                losses_NS = losses_NS[:, counted_S]
            nats_M.index_add_(0, domain, losses_NS.sum(1))
            if not loads:
                continue
            domain_T = domain.repeat_interleave(length)
            for layer, routing in enumerate(held_routing(model)):
                cell_A = domain_T[routing.token_A] * experts + routing.expert_A
                joint[layer].view(-1).scatter_add_(0, cell_A, torch.ones_like(cell_A))
    each = length if counted_S is None else int(counted_S.sum())
    counts_M = torch.bincount(domain_N, minlength=len(domains)).double() * each
    by_domain = {name: float(nats_M[i] / counts_M[i]) for i, name in enumerate(domains) if counts_M[i] > 0}
    total = float(nats_M.sum())
    joint_LME = joint.cpu().numpy()
    return Evaluation(total / (len(tokens_NS) * each), by_domain, total, joint_LME.sum(1), joint_LME)


@dataclass
class Probes:
    """Where the same held-out tokens were sent, at fixed points of training."""

    progress: list[float] = field(default_factory=list)
    top: list[Tensor] = field(default_factory=list)  # each (L, T) int32: the expert with the greatest gate
    chosen: list[Tensor] = field(default_factory=list)  # each (L, T, ceil(E/8)) uint8: packed sets

    def take(self, model: Transformer, tokens_NS: Tensor, progress: float) -> None:
        """Route the probe tokens now."""
        length = tokens_NS.shape[1] - 1
        count = min(len(tokens_NS), max(1, PROBE_TOKENS // length))
        spread_N = torch.arange(count, device=tokens_NS.device) * len(tokens_NS) // count  # over all domains
        probe_NS = tokens_NS[spread_N, :-1]
        with inference(model, keep_routing=True):
            model(probe_NS, RouteContext(sequence_length=length))
            routings = held_routing(model)
        tops, sets = [], []
        for layer, routing in zip(model.moe_layers, routings, strict=True):
            gate_TE = torch.full((probe_NS.numel(), layer.num_experts), -torch.inf)
            gate_TE[routing.token_A.cpu(), routing.expert_A.cpu()] = routing.gate_A.float().cpu()
            top_T = torch.where(gate_TE.amax(1) > -torch.inf, gate_TE.argmax(1), -1)  # -1: sent nowhere
            tops.append(top_T.to(torch.int32))
            sets.append(torch.from_numpy(np.packbits((gate_TE > -torch.inf).numpy(), axis=1)))
        self.progress.append(progress)
        self.top.append(torch.stack(tops))
        self.chosen.append(torch.stack(sets))

    def arrays(self, experts: int) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """(P, L·T) top-1 experts and (P, L·T, E) chosen sets, layers side by side."""
        top = torch.stack(self.top).flatten(1).numpy()
        packed = torch.stack(self.chosen).flatten(1, 2).numpy()
        return top, np.unpackbits(packed, axis=2, count=experts).astype(bool)

    def state(self) -> dict[str, object]:
        return {"progress": list(self.progress), "top": list(self.top), "chosen": list(self.chosen)}
