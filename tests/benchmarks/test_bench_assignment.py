"""How fast the exact assignment is, beside scipy, the published auction and, where installed, POT and OR-tools.

`python -m tests.benchmarks.test_bench_assignment` prints the table of docs/assignment.md (minutes, nearly all scipy's).

Shapes: T tokens, E experts, D width, S slots (an expert has one for every token it takes), A arcs.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from strategies.assignment import auction_assignment, balanced_assignment

TOKENS, EXPERTS, WIDTH = 4096, 64, 256
Solver = Callable[[torch.Tensor], torch.Tensor]


def hidden_times_centroids(kind: str) -> torch.Tensor:
    """Scores hidden · centroidᵀ, (T, E), of a router in one of five situations."""
    draw = torch.Generator().manual_seed(0)
    hidden_TD = torch.randn(TOKENS, WIDTH, generator=draw)
    centroid_ED = torch.randn(EXPERTS, WIDTH, generator=draw) / WIDTH**0.5
    common_D = torch.randn(WIDTH, generator=draw)
    if kind == "skewed":  # one direction that every token has, to a different degree
        hidden_TD += 3 * torch.rand(TOKENS, 1, generator=draw) * common_D
    elif kind == "few words":  # Zipf's law over 512 words, with a little context
        word_T = torch.multinomial(1 / torch.arange(1.0, 513), TOKENS, replacement=True, generator=draw)
        hidden_TD = torch.randn(512, WIDTH, generator=draw)[word_T] + 0.3 * hidden_TD
    elif kind == "near collapse, bf16":  # all tokens nearly alike, and many scores the same
        hidden_TD = common_D + 0.02 * hidden_TD
    scores_TE = hidden_TD @ centroid_ED.T
    return scores_TE.bfloat16().float() if "bf16" in kind else scores_TE


KINDS = ("gaussian", "gaussian, bf16", "skewed", "few words", "near collapse, bf16")


def scipy_assignment(scores_TE: torch.Tensor) -> torch.Tensor:
    share = len(scores_TE) // scores_TE.shape[1]
    values_TS = np.repeat(scores_TE.double().numpy(), share, axis=1)
    return torch.from_numpy(linear_sum_assignment(values_TS, maximize=True)[1] // share)


def pot_assignment(scores_TE: torch.Tensor) -> torch.Tensor:
    import ot

    tokens, experts = scores_TE.shape
    cost_TE = (scores_TE.max() - scores_TE).double().numpy()
    plan_TE = ot.emd(np.ones(tokens), np.full(experts, tokens / experts), cost_TE, numItermax=10**7)
    return torch.from_numpy(plan_TE.argmax(axis=1))


def ortools_assignment(scores_TE: torch.Tensor) -> torch.Tensor:
    from ortools.graph.python import min_cost_flow

    tokens, experts = scores_TE.shape
    flow = min_cost_flow.SimpleMinCostFlow()
    cost_A = np.rint(scores_TE.double().numpy().ravel() * -(2.0**24)).astype(np.int64)  # it wants integers
    from_A, to_A = np.repeat(np.arange(tokens), experts), tokens + np.tile(np.arange(experts), tokens)
    flow.add_arcs_with_capacity_and_unit_cost(from_A, to_A, np.ones_like(cost_A), cost_A)
    flow.set_nodes_supplies(np.arange(tokens + experts), np.repeat([1, -tokens // experts], [tokens, experts]))
    assert flow.solve() == flow.OPTIMAL
    return torch.from_numpy(flow.flows(np.arange(tokens * experts)).reshape(tokens, experts).argmax(axis=1))


def total(scores_TE: torch.Tensor, experts_T: torch.Tensor) -> float:
    return float(scores_TE.double()[torch.arange(len(experts_T)), experts_T].sum())


def timed(solve: Solver, scores_TE: torch.Tensor, rounds: int) -> tuple[float, torch.Tensor]:
    """Median of the process's CPU time in milliseconds, and the assignment."""
    spent = []
    for _ in range(rounds):
        start = time.process_time()
        experts_T = solve(scores_TE)
        spent.append(1e3 * (time.process_time() - start))
    return median(spent), experts_T


def print_row(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def print_table() -> None:
    torch.set_num_threads(1)
    others: dict[str, tuple[Solver, int]] = {"auction": (auction_assignment, 5), "scipy": (scipy_assignment, 1)}
    if importlib.util.find_spec("ot"):
        others["POT"] = pot_assignment, 3
    if importlib.util.find_spec("ortools"):
        others["OR-tools"] = ortools_assignment, 3
    print_row("scores", "exact", *others, "the auction loses")
    print_row(*["---"] * (len(others) + 3))
    for kind in KINDS:
        scores_TE = hidden_times_centroids(kind)
        balanced_assignment(scores_TE)  # the first call pays for the libraries' own start
        ours, experts_T = timed(balanced_assignment, scores_TE, 15)
        best = total(scores_TE, experts_T)
        cells, lost = [f"{ours:.1f} ms"], 0.0
        for name, (solve, rounds) in others.items():
            spent, experts_T = timed(solve, scores_TE, rounds)
            cells.append(f"{spent:,.0f} ms ({spent / ours:,.0f} ×)")
            gap = best - total(scores_TE, experts_T)
            if name == "auction":
                lost = gap / TOKENS
            else:
                assert abs(gap) < 1e-6 * abs(best), f"{name} and we disagree on the optimum by {gap}"
        spread = float(scores_TE.std(dim=1).mean())
        print_row(kind, *cells, f"{lost / spread:.2%}")


@pytest.mark.parametrize("kind", KINDS)
def test_exact(benchmark: Callable[..., torch.Tensor], kind: str) -> None:
    experts_T = benchmark(balanced_assignment, hidden_times_centroids(kind))
    assert (experts_T.bincount() == TOKENS // EXPERTS).all()


@pytest.mark.parametrize("kind", KINDS)
def test_auction(benchmark: Callable[..., torch.Tensor], kind: str) -> None:
    experts_T = benchmark(auction_assignment, hidden_times_centroids(kind))
    assert (experts_T.bincount() == TOKENS // EXPERTS).all()


@pytest.mark.parametrize("kind", KINDS)
def test_better_than_the_auction(kind: str) -> None:
    scores_TE = hidden_times_centroids(kind)
    assert total(scores_TE, balanced_assignment(scores_TE)) > total(scores_TE, auction_assignment(scores_TE))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_not_slower_than_the_auction(kind: str) -> None:
    scores_TE = hidden_times_centroids(kind)
    assert timed(balanced_assignment, scores_TE, 9)[0] <= timed(auction_assignment, scores_TE, 9)[0]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_fifty_times_faster_than_scipy(kind: str) -> None:
    scores_TE = hidden_times_centroids(kind)
    ours, exact_T = timed(balanced_assignment, scores_TE, 5)
    theirs, scipy_T = timed(scipy_assignment, scores_TE, 1)
    assert total(scores_TE, exact_T) == pytest.approx(total(scores_TE, scipy_T), rel=1e-13)
    assert 50 * ours <= theirs


if __name__ == "__main__":
    print_table()
