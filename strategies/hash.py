"""Hash layers: a fixed map from token ids to experts; nothing is learned.

Shapes: T tokens, K experts per token, V vocabulary, R rows of the map.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from strategies.framework.contract import LayerSpec, Paper, RouteContext, Routing, Strategy, Waived

BIGRAM_ROWS = 1 << 16  # bigrams share this many rows; collisions are one more hash
PRIME = (1 << 31) - 1


class Hash(Strategy):
    """Every token goes to the experts its row of a fixed random map names; the map depends on the seed alone.

    Variants (as remembered from the paper, not re-checked against its text):
        random: the row is the token's id.
        balanced: likewise, the map built greedily: the most frequent token goes to the emptiest expert.
        previous_token: the row is the previous token's id.
        bigram: the row is a hash of the previous and the current id.
    The first token of a sequence has the reserved previous id V, so no sequence sees another.

    The paper has one expert per token, with gate 1. For more (our generalisation): K tables that agree on no token,
    each gate 1/K. Gates are times the layer's `route_scale`, as everywhere.
    """

    name = "hash"
    title = "Hash"
    paper = Paper("Roller et al., Hash Layers for Large Sparse Models", 2021, "arXiv:2106.04426")
    has_router = False
    task_trains_router = False
    balances = Waived("the map is fixed: balance is as good as the token frequencies allow")

    @dataclass(frozen=True, kw_only=True)
    class Config:
        variant: Literal["random", "balanced", "previous_token", "bigram"] = (
            "random"  # the paper's simplest, and close to its best
        )

    def __init__(self, spec: LayerSpec, config: Any = None, terms: Mapping[str, float] | None = None) -> None:
        super().__init__(spec, config, terms)
        generator = spec.generator("hash")
        self.experts_RK: Tensor
        self.mixer: Tensor  # (3,) the universal hash (a·previous + b·current + c) mod PRIME
        self.register_buffer("experts_RK", self._map(generator))
        self.register_buffer("mixer", torch.randint(1, PRIME, (3,), generator=generator))

    def _map(self, generator: torch.Generator) -> Tensor:
        spec = self.spec
        if self.config.variant == "balanced":
            if spec.token_counts_V is None:
                raise ValueError(
                    "hash.variant: 'balanced' needs the token counts of the training split; expected random"
                )
            return balanced_map(spec.token_counts_V, spec.num_experts, spec.top_k, generator)
        rows = {"random": spec.vocab_size, "previous_token": spec.vocab_size + 1, "bigram": BIGRAM_ROWS}
        priority_RE = torch.rand(rows[self.config.variant], spec.num_experts, generator=generator)
        return priority_RE.topk(spec.top_k, dim=1).indices

    def route(self, hidden_TD: Tensor, tokens_T: Tensor, context: RouteContext) -> Routing:
        experts_TK = self.experts_RK[self._row(tokens_T, context.sequence_length)]
        gate = self.spec.route_scale / self.spec.top_k
        return Routing.top_k(experts_TK, torch.full_like(experts_TK, gate, dtype=torch.float32))

    def _row(self, tokens_T: Tensor, sequence_length: int) -> Tensor:
        if self.config.variant in ("random", "balanced"):
            return tokens_T
        previous_T = tokens_T.roll(1)
        previous_T[::sequence_length] = self.spec.vocab_size
        if self.config.variant == "previous_token":
            return previous_T
        a, b, c = self.mixer.unbind()
        return (a * previous_T + b * tokens_T + c) % PRIME % len(self.experts_RK)


def balanced_map(counts_V: Tensor, num_experts: int, k: int, generator: torch.Generator) -> Tensor:
    """The greedy map, (V, K) int64: tokens from the most to the least frequent, each to the expert with the least load.

    K rounds over the vocabulary, loads carried on; a token never gets an expert twice. Among equal loads the expert
    with fewer tokens comes first, then a random order, so that tokens never seen in training are spread as well.
    """
    counts = counts_V.tolist()
    shuffled_V = torch.randperm(len(counts), generator=generator)
    order = shuffled_V[counts_V.cpu()[shuffled_V].sort(descending=True, stable=True).indices].tolist()
    tie_breaks = torch.randperm(num_experts, generator=generator).tolist()
    heap = [(0, 0, tie_breaks[expert], expert) for expert in range(num_experts)]
    heapq.heapify(heap)
    chosen: list[list[int]] = [[] for _ in counts]
    for _ in range(k):
        for token in order:
            passed = []
            while heap[0][3] in chosen[token]:
                passed.append(heapq.heappop(heap))
            load, tokens, tie_break, expert = heap[0]
            heapq.heapreplace(heap, (load + counts[token], tokens + 1, tie_break, expert))
            chosen[token].append(expert)
            for entry in passed:
                heapq.heappush(heap, entry)
    return torch.tensor(chosen)
