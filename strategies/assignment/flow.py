"""From good prices to the optimum: tokens move along cheapest chains of experts until every load is right.

At prices p, let every token sit at an expert where s_te − p_e is largest. Whatever loads that gives, no assignment
with the same loads scores more. A token can move from expert i to j at a loss of min over i's tokens of s_ti − s_tj,
so a surplus at one expert reaches a shortage at another over a shortest path in a graph of E nodes; lowering prices by
the distances keeps every token at its favourite (successive shortest paths: Ahuja, Magnanti & Orlin, Network Flows,
1993, §9.7). One tree of shortest paths serves all shortages at once.

Shapes: T tokens, E experts, M tokens of some of the experts, G = E·E arcs.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Settlement:
    """An assignment that is optimal for its own loads, and on its way to the loads it should have."""

    def __init__(self, values_TE: Floats, price_E: Floats, capacity_E: Ints) -> None:
        self.values_TE = values_TE
        self.price_E = price_E.copy()
        self.expert_T: Ints = (values_TE - price_E).argmax(axis=1)
        self.surplus_E = np.bincount(self.expert_T, minlength=len(price_E)) - capacity_E
        self.loss_EE = np.empty((len(price_E), len(price_E)))
        self._weigh(np.ones(len(price_E), dtype=bool))

    def settle(self) -> Ints:
        """Experts of the tokens, (T,), once every expert has its capacity."""
        while self.surplus_E.any():
            distance_E, parent_E = self._distances()
            self.price_E -= np.minimum(distance_E, distance_E[np.isfinite(distance_E)].max())
            short_E = np.flatnonzero(self.surplus_E < 0)
            touched_E = np.zeros(len(distance_E), dtype=bool)
            for expert in short_E[np.argsort(distance_E[short_E], kind="stable")]:
                self._push(int(expert), parent_E, touched_E)
            self._weigh(touched_E)
        return self.expert_T

    def _weigh(self, chosen_E: NDArray[np.bool_]) -> None:
        """Bring the losses of moving a token away from the chosen experts up to date."""
        token_M = np.flatnonzero(chosen_E[self.expert_T])
        values_ME = torch.from_numpy(self.values_TE[token_M])
        expert_M1 = torch.from_numpy(self.expert_T[token_M])[:, None]
        loss_ME = values_ME.gather(1, expert_M1) - values_ME
        loss_EE = torch.full(self.loss_EE.shape, torch.inf, dtype=torch.float64)
        loss_EE.scatter_reduce_(0, expert_M1.expand_as(loss_ME), loss_ME, "amin")
        self.loss_EE[chosen_E] = loss_EE.numpy()[chosen_E]

    def _distances(self) -> tuple[Floats, Ints]:
        """Shortest distances from the experts with a surplus, and the expert before each on its path."""
        experts = len(self.price_E)
        # In exact arithmetic nothing here is negative; rounding may leave a trace that Dijkstra would stumble over.
        weight_EE = np.maximum(self.loss_EE - self.price_E[:, None] + self.price_E, 0)
        to_G = np.tile(np.arange(experts, dtype=np.int32), experts)
        start_E = np.arange(0, experts * experts + 1, experts, dtype=np.int32)
        graph = csr_array((weight_EE.ravel(), to_G, start_E), shape=(experts, experts))  # keeps arcs of length 0
        distance_E, parent_E, _ = dijkstra(
            graph, indices=np.flatnonzero(self.surplus_E > 0), min_only=True, return_predecessors=True
        )
        return distance_E, parent_E

    def _push(self, expert: int, parent_E: Ints, touched_E: NDArray[np.bool_]) -> None:
        """Fill the shortage of `expert` along its path, as far as the path's tokens and the surplus at its root go."""
        moves: list[tuple[Ints, int]] = []
        amount = -self.surplus_E[expert]
        here = expert
        while (before := int(parent_E[here])) >= 0:
            token_M = np.flatnonzero(self.expert_T == before)
            loss_M = self.values_TE[token_M, before] - self.values_TE[token_M, here]
            token_M = token_M[loss_M == self.loss_EE[before, here]]  # an earlier path may have used them up
            moves.append((token_M, here))
            amount = min(amount, len(token_M))
            here = before
        amount = min(amount, self.surplus_E[here])
        if amount <= 0:
            return
        for token_M, target in moves:
            touched_E[self.expert_T[token_M[0]]] = touched_E[target] = True
            self.expert_T[token_M[:amount]] = target
        self.surplus_E[here] -= amount
        self.surplus_E[expert] += amount
