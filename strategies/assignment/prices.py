"""Prices at which every expert is wanted by about as many tokens as it may take.

Subtract an expert's price from its scores and let every token pick its favourite: at the right prices that is the
optimal assignment, ties aside. The right prices minimise the dual Σ_t max_e (s_te − p_e) + Σ_e c_e p_e. Here the max is
softened by a temperature τ to τ·logsumexp(·/τ), which makes the dual smooth enough for Newton's method, and τ falls
until the favourites themselves are nearly balanced (the semi-dual of entropic optimal transport: Peyré & Cuturi,
Computational Optimal Transport, 2019, §5.3). The prices need not be perfect: they only save `flow` most of its work.

Shapes: T tokens, E experts, N the tokens looked at (all, or every so many-th).
"""

from __future__ import annotations

import torch
from torch import Tensor

HOTTEST, COOLING, COLDEST = 0.3, 0.2, 1e-7  # temperatures, in units of the scores' spread
SAMPLE = 16  # tokens per expert that are looked at while the temperature is high
SAMPLED_EXCESS, EXCESS = 0.2, 0.01  # share of tokens too many at their favourites that is good enough
TOLERANCE = 0.01  # the same of the softened loads, at each temperature
STALLED = 0.95  # a cooling that leaves more than this of the excess: ties, which no price resolves
MOST_STEPS = 12  # Newton steps at one temperature; one to three are usual
LONGEST = 20.0  # temperatures by which a step may move a price
SHORTEST = 0.01  # share of a Newton step below which it is not shortened further
RIDGE = 1e-3  # keeps the Hessian invertible where no token hesitates between two groups of experts
FAR = 1e4  # spreads below a token's best score at which an expert is simply out of question


def balancing_prices(values_TE: Tensor, capacity_E: Tensor) -> Tensor:
    """Approximate dual prices, (E,) float64.

    Args:
        values_TE: finite scores, float64, on the CPU, T ≥ 1.
        capacity_E: tokens per expert, summing to T; fractions are welcome.
    """
    tokens, experts = values_TE.shape
    every = max(1, tokens // (SAMPLE * experts))
    regret_TE = values_TE - values_TE.amax(dim=1, keepdim=True)
    spread = _spread(regret_TE[::every])
    if spread == 0:
        return values_TE.new_zeros(experts)
    regret_TE = (regret_TE / spread).clamp_(min=-FAR).float()
    share_E = (capacity_E / tokens).float()
    price_E, temperature = regret_TE.new_zeros(experts), HOTTEST
    with torch.autocast("cpu", enabled=False):
        if every > 1:
            sample_NE = regret_TE[::every].contiguous()
            price_E, temperature = _cool(sample_NE, share_E, price_E, temperature, SAMPLED_EXCESS)
        price_E, _ = _cool(regret_TE, share_E, price_E, temperature, EXCESS)
    return price_E.double() * spread


def _spread(regret_NE: Tensor) -> float:
    """By how much the last of the best quarter of a token's experts typically falls short of the best."""
    experts = regret_NE.shape[1]
    quarter_N = regret_NE.topk(min(max(2, experts // 4), experts), dim=1).values[:, -1]
    return float(-quarter_N.median()) or float(-regret_NE.mean())


def _cool(
    regret_NE: Tensor, share_E: Tensor, price_E: Tensor, temperature: float, enough: float
) -> tuple[Tensor, float]:
    """Lower the temperature until favourites are nearly balanced; also returns the temperature to go on with."""
    target_E = share_E * len(regret_NE)
    before = torch.inf
    while temperature > COLDEST:
        price_E = _descend(regret_NE, target_E, price_E, temperature)
        temperature *= COOLING
        favourite_N = torch.from_numpy((regret_NE - price_E).numpy().argmax(axis=1))  # torch's own is five times slower
        excess = float((favourite_N.bincount(minlength=len(target_E)) - target_E).clamp(min=0).sum())
        if excess < enough * len(regret_NE) or excess > STALLED * before:
            break
        before = excess
    return price_E, temperature


def _descend(regret_NE: Tensor, target_E: Tensor, price_E: Tensor, temperature: float) -> Tensor:
    """Newton's method on the softened dual at one temperature; a step that overshoots is shortened."""
    tokens, experts = regret_NE.shape
    even = tokens / experts
    wish_NE = _wishes(regret_NE, price_E, temperature)
    gap_E = wish_NE.sum(dim=0) - target_E
    for _ in range(MOST_STEPS):
        if gap_E.abs().sum() < 2 * TOLERANCE * tokens:
            break
        # even / experts stands for the direction in which all prices move together and nothing changes
        hessian_EE = torch.diag(gap_E + target_E + RIDGE * even) - wish_NE.T @ wish_NE + even / experts
        step_E = temperature * torch.linalg.solve_ex(hessian_EE, gap_E).result
        step_E *= (LONGEST * temperature / step_E.abs().max()).clamp(max=1)
        slope, length = float(gap_E @ step_E), 1.0
        if not slope > 0:  # rounding has spoilt the Hessian
            break
        while True:
            wish_NE = _wishes(regret_NE, price_E + length * step_E, temperature)
            gap_E = wish_NE.sum(dim=0) - target_E
            ahead = float(gap_E @ step_E)
            if ahead >= -slope / 2 or length < SHORTEST:
                break
            length *= min(0.5, max(0.1, slope / (slope - ahead)))  # where the secant puts the minimum
        price_E = price_E + length * step_E
    return price_E


def _wishes(regret_NE: Tensor, price_E: Tensor, temperature: float) -> Tensor:
    """softmax((regret − price) / temperature) over experts, without denormal numbers, which are slow."""
    drive_NE = (regret_NE - price_E).mul_(1 / temperature)
    drive_NE -= drive_NE.amax(dim=1, keepdim=True)
    return torch.softmax(drive_NE.clamp_(min=-80), dim=1)
