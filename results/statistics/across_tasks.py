"""Over all tasks of a suite: mean rank, probability of improvement, performance profile.

Seeds are resampled within each task, the same for every arm, so that pairing survives; tasks are not resampled: the
intervals speak of these tasks, not of tasks in general. A diverged trial counts as an infinite loss. A trial that is
missing or failed is left out, and an arm that has nothing on some task is left out of the mean rank.

Shapes: A arms, N seeds, B bootstrap resamples, G points of the profile.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from results.records import Records

RESAMPLES = 2_000
PROFILE_POINTS = 41

Array = NDArray[np.float64]


def across_tasks(records: Records, arms: Sequence[str], tasks: Sequence[str], baseline: str) -> dict[str, Any]:
    """Summary over tasks of every arm.

    Returns:
        `n_tasks`; `arms`: {arm: {mean_rank, rank_low, rank_high, improvement, improvement_low, improvement_high}} with
        95 % percentile bootstrap intervals over seeds, None where an arm lacks a task, empty without a baseline;
        `profile`: {excess: nats/token over the best arm's mean on the task (G,), arms: {arm: share of trials (G,)}}.
    """
    tables = [_losses_AN(records, arms, task) for task in tasks]
    if baseline not in arms:
        return {"n_tasks": len(tasks), "arms": {}, "profile": _profile(tables, arms)}
    base = arms.index(baseline)
    ranks_TBA = [_bootstrap_ranks(table, base) for table in tables]
    mean_rank_BA = np.mean(ranks_TBA, axis=0) if tables else np.full((1, len(arms)), np.nan)
    improvement_BA = (
        np.mean([_bootstrap_improvement(table, base) for table in tables], axis=0)
        if tables
        else np.full((1, len(arms)), np.nan)
    )
    summary = {}
    for index, arm in enumerate(arms):
        rank, rank_low, rank_high = _point_and_interval(mean_rank_BA[:, index])
        better, better_low, better_high = _point_and_interval(improvement_BA[:, index])
        if arm == baseline:
            better = better_low = better_high = None
        summary[arm] = {
            "mean_rank": rank,
            "rank_low": rank_low,
            "rank_high": rank_high,
            "improvement": better,
            "improvement_low": better_low,
            "improvement_high": better_high,
        }
    return {"n_tasks": len(tasks), "arms": summary, "profile": _profile(tables, arms)}


def _losses_AN(records: Records, arms: Sequence[str], task: str) -> Array:  # noqa: N802
    """Losses of one task, (A, N): infinite where a trial diverged, NaN where there is none."""
    seeds = sorted({outcome.seed for arm in arms for outcome in records.cell(arm, task)})
    column = {seed: index for index, seed in enumerate(seeds)}
    losses_AN = np.full((len(arms), len(seeds)), np.nan)
    for index, arm in enumerate(arms):
        for outcome in records.cell(arm, task):
            if outcome.status == "diverged":
                losses_AN[index, column[outcome.seed]] = np.inf
            elif outcome.val_loss is not None:
                losses_AN[index, column[outcome.seed]] = outcome.val_loss
    return losses_AN


def _weights_BN(seeds: int) -> Array:  # noqa: N802
    """How often each seed is drawn, (1 + B, N); the first row is the sample itself."""
    rng = np.random.default_rng(0)
    drawn_BN = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=RESAMPLES) if seeds else np.zeros((RESAMPLES, 0))
    return np.vstack([np.ones((1, seeds)), drawn_BN]).astype(float)


def _bootstrap_ranks(losses_AN: Array, base: int) -> Array:
    """Rank of every arm's mean difference to the baseline in every resample, (1 + B, A); NaN where there is none."""
    weights_BN = _weights_BN(losses_AN.shape[1])
    finite_AN = np.isfinite(losses_AN) & np.isfinite(losses_AN[base])
    difference_AN = np.where(finite_AN, losses_AN, 0.0) - np.where(finite_AN, losses_AN[base], 0.0)
    total_BA = weights_BN @ difference_AN.T
    count_BA = weights_BN @ finite_AN.T.astype(float)
    diverged_BA = weights_BN @ np.isposinf(losses_AN).T.astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_BA = np.where(diverged_BA > 0, np.inf, total_BA / count_BA)
    # An arm none of whose trials was drawn cannot be ranked in that resample; it takes its place in the sample.
    mean_BA = np.where(np.isnan(mean_BA), mean_BA[:1], mean_BA)
    there_A = ~np.isnan(mean_BA[0])
    ranks_BA = np.full(mean_BA.shape, np.nan)
    ranks_BA[:, there_A] = rankdata(mean_BA[:, there_A], axis=1)
    return ranks_BA


def _bootstrap_improvement(losses_AN: Array, base: int) -> Array:
    """Probability that a trial of an arm beats one of the baseline, other seeds included, (1 + B, A); ties count half.

    Agarwal et al., Deep Reinforcement Learning at the Edge of the Statistical Precipice, 2021 (section 4.3).
    """
    weights_BN = _weights_BN(losses_AN.shape[1])
    columns = []
    for loss_N in losses_AN:
        with np.errstate(invalid="ignore"):
            wins_NN = (loss_N[:, None] < losses_AN[base]) + 0.5 * (loss_N[:, None] == losses_AN[base])
        pairs_NN = ~np.isnan(loss_N)[:, None] & ~np.isnan(losses_AN[base])
        won_B = np.einsum("bn,nm,bm->b", weights_BN, np.where(pairs_NN, wins_NN, 0.0), weights_BN, optimize=True)
        all_B = np.einsum("bn,nm,bm->b", weights_BN, pairs_NN.astype(float), weights_BN, optimize=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            columns.append(won_B / all_B)
    return np.stack(columns, axis=1)


def _point_and_interval(values_B: Array) -> tuple[float | None, float | None, float | None]:
    """The sample's own value (first) and the 95 % percentile interval of its resamples."""
    point = float(values_B[0])
    if not math.isfinite(point):
        return None, None, None
    resampled = values_B[1:][np.isfinite(values_B[1:])]
    if not len(resampled):
        return point, None, None
    low, high = np.quantile(resampled, (0.025, 0.975))
    return point, float(low), float(high)


def _profile(tables: Sequence[Array], arms: Sequence[str]) -> dict[str, Any]:
    """Share of an arm's trials whose loss exceeds the best arm's mean on the task by no more than each excess.

    Dolan and Moré, Benchmarking optimization software with performance profiles, 2002, with differences of losses in
    place of ratios of times; every task weighs the same.
    """
    excesses = []
    for losses_AN in tables:
        mean_A = [np.mean(row[~np.isnan(row)]) if (~np.isnan(row)).any() else np.inf for row in losses_AN]
        best = min(mean_A, default=np.inf)
        excesses.append(losses_AN - best if math.isfinite(best) else np.full_like(losses_AN, np.nan))
    finite = np.concatenate([table[np.isfinite(table)] for table in excesses]) if excesses else np.empty(0)
    if not len(finite):
        return {"excess": [], "arms": {arm: [] for arm in arms}}
    grid_G = np.linspace(min(0.0, float(finite.min())), float(np.quantile(finite, 0.99)), PROFILE_POINTS)
    curves = {}
    for index, arm in enumerate(arms):
        rows = [table[index][~np.isnan(table[index])] for table in excesses]
        shares = [(row[:, None] <= grid_G).mean(0) for row in rows if len(row)]
        curves[arm] = [float(value) for value in np.mean(shares, axis=0)] if shares else []
    return {"excess": [float(value) for value in grid_G], "arms": curves}
