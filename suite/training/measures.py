"""Load measures, from counts alone. What each one means, and why it is reported, is in docs/measures.md.

Shapes: … any leading dimensions (steps, layers), E experts, T tokens, K experts per token, P probes, N domains.
Counts are assignments per expert; every function of counts works over the last dimension.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil

import numpy as np
from numpy.typing import ArrayLike, NDArray

CAPACITY_FACTORS = (1.0, 1.25, 1.5, 2.0)
DEAD_WINDOW = 20  # optimizer steps without a token: the first reading of "dead"
DEAD_SHARE = 0.01  # of the mean load: the second
DEAD_NORM = 0.1  # of the layer's median weight norm: the third

Array = NDArray[np.float64]


def max_vio(load: ArrayLike) -> Array:
    """(max n − n̄)/n̄ (Wang et al., arXiv:2408.15664); 0 for a layer without load."""
    n = np.asarray(load, dtype=np.float64)
    mean = n.mean(-1)
    return np.divide(n.max(-1) - mean, mean, out=np.zeros_like(mean), where=mean > 0)


def entropy(load: ArrayLike) -> Array:
    """H(p)/ln E of p = n/Σn: 1 is balanced, 0 is one expert for all; 1 by convention for a single expert."""
    n = np.asarray(load, dtype=np.float64)
    experts = n.shape[-1]
    if experts == 1:
        return np.ones(n.shape[:-1])
    total = n.sum(-1, keepdims=True)
    p = np.divide(n, total, out=np.full_like(n, 1 / experts), where=total > 0)
    return -(p * np.log(np.where(p > 0, p, 1.0))).sum(-1) / np.log(experts)


def coefficient_of_variation(load: ArrayLike) -> Array:
    """Standard deviation over mean (population form)."""
    n = np.asarray(load, dtype=np.float64)
    mean = n.mean(-1)
    return np.divide(n.std(-1), mean, out=np.zeros_like(mean), where=mean > 0)


def gini(load: ArrayLike) -> Array:
    """Gini coefficient: 0 is balanced, (E − 1)/E is one expert for all."""
    n = np.sort(np.asarray(load, dtype=np.float64), axis=-1)
    experts = n.shape[-1]
    total = n.sum(-1)
    weighted = (n * (2 * np.arange(1, experts + 1) - experts - 1)).sum(-1)
    return np.divide(weighted, experts * total, out=np.zeros_like(total), where=total > 0)


def min_max(load: ArrayLike) -> Array:
    """Least over greatest load."""
    n = np.asarray(load, dtype=np.float64)
    most = n.max(-1)
    return np.divide(n.min(-1), most, out=np.ones_like(most), where=most > 0)


def efficiency(load: ArrayLike) -> Array:
    """n̄ / max n = 1/(1 + MaxVio): the most an expert-parallel step could be used, one expert per device."""
    return 1 / (1 + max_vio(load))


def overflow(load: ArrayLike, capacity_factor: float) -> Array:
    """Share of assignments that a layer limited to ceil(cf·n̄) rows per expert would have dropped. Ours drops none."""
    n = np.asarray(load, dtype=np.float64)
    total = n.sum(-1)
    # 1e-9: cf·n̄ that is a whole number up to float rounding is that number
    capacity = np.ceil(capacity_factor * total / n.shape[-1] - 1e-9)
    over = np.maximum(0, n - capacity[..., None]).sum(-1)
    return np.divide(over, total, out=np.zeros_like(total), where=total > 0)


def dead_in_window(load_SLE: ArrayLike, window: int = DEAD_WINDOW) -> float:
    """Share of experts that got no token in the last `window` steps, over all layers."""
    return float((np.asarray(load_SLE)[-window:].sum(0) == 0).mean())


def dead_by_share(load_LE: ArrayLike) -> float:
    """Share of experts with less than 1 % of the mean load."""
    n = np.asarray(load_LE, dtype=np.float64)
    return float((n < DEAD_SHARE * n.mean(-1, keepdims=True)).mean())


def dead_by_norm(norm_LE: ArrayLike) -> float:
    """Share of experts whose output weights' norm is under a tenth of their layer's median."""
    norm = np.asarray(norm_LE, dtype=np.float64)
    return float((norm < DEAD_NORM * np.median(norm, axis=-1, keepdims=True)).mean())


@lru_cache(maxsize=256)
def noise_floor(tokens: int, experts: int, top_k: int, draws: int = 64) -> float:
    """MaxVio that sampling alone would give: every token picks k distinct experts at random. Mean over draws.

    Simulated exactly where that is cheap. Beyond, each count keeps its exact law, binomial with p = k/E, and the counts
    their correlation of −1/(E − 1), through a normal copula: a normal law alone has too thin a tail at small n̄.
    """
    if top_k >= experts:
        return 0.0
    rng = np.random.default_rng(20_240_815)
    if tokens * experts <= 2**16:
        counts = np.zeros((draws, experts))
        for draw in range(draws):
            chosen = np.argpartition(rng.random((tokens, experts)), top_k, axis=1)[:, :top_k]
            counts[draw] = np.bincount(chosen.ravel(), minlength=experts)
    else:
        from scipy import stats  # here, since its import takes longer than a small trial

        p = top_k / experts
        z = rng.standard_normal((4 * draws, experts))
        z = (z - z.mean(1, keepdims=True)) * np.sqrt(experts / (experts - 1))
        counts = stats.binom.ppf(stats.norm.cdf(z), tokens, p)
        return float((counts.max(1) / (tokens * p) - 1).mean())
    return float(max_vio(counts).mean())


def fluctuation(
    top_PT: ArrayLike, progress_P: ArrayLike, shares: tuple[float, ...] = (0.2, 0.5, 0.8)
) -> dict[str, float]:
    """Share of tokens whose last fluctuation lies beyond a share of training (StableMoE, arXiv:2204.08396, §2.2).

    A token's last fluctuation is the last probe at which its top-1 expert differs from the one at the end.

    Args:
        top_PT: top-1 expert of each fixed held-out token at each probe, the last probe being the final model.
        progress_P: progress of each probe, 0 … 1.
    """
    top = np.asarray(top_PT)
    progress = np.asarray(progress_P, dtype=np.float64)
    differs = top != top[-1]
    last = np.where(differs, progress[:, None], -1.0).max(0)
    return {str(share): float((last > share).mean()) for share in shares}


def saturation(chosen_PTE: ArrayLike, top_k: float) -> list[float]:
    """mean |S(t) ∩ S(final)| / k at each probe (OLMoE, arXiv:2409.02060, §5.1)."""
    chosen = np.asarray(chosen_PTE, dtype=bool)
    common = (chosen & chosen[-1]).sum(-1).mean(-1)
    return [float(value) for value in common / top_k]


def specialisation(joint_NE: ArrayLike) -> float:
    """Mutual information of domain and expert over the domain's entropy: 0 knows nothing, 1 one domain per expert.

    Args:
        joint_NE: assignments of each domain's tokens to each expert.
    """
    joint = np.asarray(joint_NE, dtype=np.float64)
    if joint.sum() == 0:
        return 0.0
    p = joint / joint.sum()
    domain, expert = p.sum(1, keepdims=True), p.sum(0, keepdims=True)
    ratio = np.divide(p, domain * expert, out=np.ones_like(p), where=p > 0)
    information = (p * np.log(ratio)).sum()
    own = -(domain * np.log(np.where(domain > 0, domain, 1.0))).sum()
    return float(information / own) if own > 0 else 0.0


def bias_health(bias_SLE: ArrayLike, tail: int) -> dict[str, float]:
    """How a selection bias behaves: size, common mode, step, sign flips and spread at the end of training.

    `flip_rate` is the share of consecutive moves of opposite sign (0.5 is a coin, 1 an oscillation), over the tail;
    pairs in which one move is zero count for neither. `spread` (over experts, at the end) and `tail_std` (over time)
    are taken without the common mode, which changes no routing; `mean_abs_step` is of the bias as it is.
    """
    bias = np.asarray(bias_SLE, dtype=np.float64)
    end = bias[-tail:]
    with np.errstate(invalid="ignore"):  # a bias may have left the numbers
        moves = np.diff(end, axis=0)
        centred = end - end.mean(-1, keepdims=True)  # the common mode changes no routing
    both = (moves[1:] != 0) & (moves[:-1] != 0)
    flips = (np.sign(moves[1:]) != np.sign(moves[:-1])) & both
    return {
        "max_abs": float(np.abs(bias[-1]).max()),
        "common": float(bias[-1].mean()),
        "spread": float(centred[-1].std()),
        "mean_abs_step": float(np.abs(moves).mean()) if len(moves) else 0.0,
        "flip_rate": float(flips.sum() / both.sum()) if both.any() else 0.0,
        "tail_std": float(centred.std(axis=0).mean()),
    }


def tail_length(steps: int) -> int:
    """The last 20 % of training, at least one step."""
    return max(1, ceil(0.2 * steps))
