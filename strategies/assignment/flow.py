"""From good prices to the optimum: tokens move along cheapest chains of experts until every load is right.

At prices p, let every token sit at an expert where s_te − p_e is largest. Whatever loads that gives, no assignment with
the same loads scores more. Moving a token from expert i to j loses at least min over i's tokens of s_ti − s_tj, so a
surplus at one expert reaches a shortage at another over a shortest path in a graph of E nodes; lowering the prices by
the distances keeps every token at its favourite (successive shortest paths: Ahuja, Magnanti & Orlin, Network Flows,
1993, §9.7). One tree of shortest paths serves all shortages, and ties let many tokens move at once.

Shapes: T tokens, E experts, M some of the tokens, G = E·E arcs of the graph.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


def settle(values_TE: Floats, price_E: Floats, capacity_E: Ints) -> Ints:
    """Experts of the tokens, (T,), in the assignment of largest sum in which every expert has its capacity.

    Args:
        values_TE: scores; −inf where a token must not go. Some assignment must do without those.
        price_E: any finite prices. The better they are, the less there is to do.
        capacity_E: tokens per expert, summing to T.
    """
    settlement = Settlement(values_TE, price_E, capacity_E)
    while settlement.surplus_E.any():
        settlement.improve()
    return settlement.expert_T


class Settlement:
    """An assignment that is optimal for the loads it has, on its way to the loads it should have."""

    def __init__(self, values_TE: Floats, price_E: Floats, capacity_E: Ints) -> None:
        experts = len(price_E)
        self.values_TE = values_TE
        self.price_E = price_E
        self.expert_T: Ints = (values_TE - price_E).argmax(axis=1)
        self.surplus_E: Ints = np.bincount(self.expert_T, minlength=experts) - capacity_E
        self.loss_EE = np.empty((experts, experts))  # of the cheapest move from row to column
        self._weigh(np.ones(experts, dtype=bool))

    def improve(self) -> None:
        """Bring surpluses to shortages along one tree of shortest paths; the nearest shortage always gets some."""
        distance_E, parent_E = self._distances()
        self.price_E = self.price_E - np.minimum(distance_E, distance_E[np.isfinite(distance_E)].max())
        short_E = np.flatnonzero((self.surplus_E < 0) & np.isfinite(distance_E))
        touched_E = np.zeros(len(distance_E), dtype=bool)
        for expert in short_E[np.argsort(distance_E[short_E], kind="stable")]:
            path = [int(expert)]
            while (before := int(parent_E[path[-1]])) >= 0:
                path.append(before)
            if self._push(path[::-1]):
                touched_E[path] = True
        assert touched_E.any(), "no surplus reaches a shortage"
        self._weigh(touched_E)

    def _weigh(self, chosen_E: Flags) -> None:
        """Bring the losses of moves away from the chosen experts up to date."""
        token_M = np.flatnonzero(chosen_E[self.expert_T])
        values_ME = torch.from_numpy(self.values_TE[token_M])
        expert_M1 = torch.from_numpy(self.expert_T[token_M])[:, None]
        loss_ME = values_ME.gather(1, expert_M1) - values_ME
        loss_EE = loss_ME.new_full(self.loss_EE.shape, torch.inf)
        loss_EE.scatter_reduce_(0, expert_M1.expand_as(loss_ME), loss_ME, "amin")
        self.loss_EE[chosen_E] = loss_EE.numpy()[chosen_E]

    def _distances(self) -> tuple[Floats, Ints]:
        """Shortest distances from the experts with a surplus, and the expert before each on its path (or −9999)."""
        experts = len(self.price_E)
        # In exact arithmetic nothing here is negative; rounding may leave a trace that Dijkstra would stumble over.
        weight_EE = np.maximum(self.loss_EE - self.price_E[:, None] + self.price_E, 0)
        head_G = np.tile(np.arange(experts, dtype=np.int32), experts)
        first_E = np.arange(0, experts * experts + 1, experts, dtype=np.int32)
        graph = csr_array((weight_EE.ravel(), head_G, first_E), shape=(experts, experts))  # keeps arcs of length 0
        source = np.flatnonzero(self.surplus_E > 0)
        distance_E, parent_E, _ = dijkstra(graph, indices=source, min_only=True, return_predecessors=True)
        return distance_E, parent_E

    def _push(self, path: list[int]) -> bool:
        """Move as many tokens along the path as surplus, shortage and ties allow; False if that is none."""
        amount = min(self.surplus_E[path[0]], -self.surplus_E[path[-1]])
        moves = []
        for here, there in pairwise(path):  # near the surplus paths meet, and are used up first
            if amount <= 0:
                return False
            token_M = np.flatnonzero(self.expert_T == here)
            loss_M = self.values_TE[token_M, here] - self.values_TE[token_M, there]
            token_M = token_M[loss_M == self.loss_EE[here, there]]
            amount = min(amount, len(token_M))
            moves.append((token_M, there))
        for token_M, there in moves:
            self.expert_T[token_M[:amount]] = there
        self.surplus_E[path[0]] -= amount
        self.surplus_E[path[-1]] += amount
        return amount > 0
