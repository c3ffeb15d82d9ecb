"""The auction that BASE layers were published with: experts bid for tokens, and the last rounds are approximate.

Source: Lewis et al., arXiv:2103.16716, in the form of its released code (fairseq's `balanced_assignment.cpp`), which
follows Bertsekas' auction with all of an expert's bids made at once. An arm for comparisons; `exact` scores higher.

Shapes: T tokens, E experts, C = T / E tokens per expert, W tokens won in a round.
"""

from __future__ import annotations

import torch
from torch import Tensor

from strategies.assignment.scores import finite_scores

INCREMENTS, SMALLEST = 50, 1e-4  # ε = max(range of the scores / 50, 1e-4)
PATIENT_ROUNDS = 100  # rounds after which winners no longer hold on to their tokens


@torch.no_grad()
def auction_assignment(scores_TE: Tensor) -> Tensor:
    """An assignment with equal loads and a nearly maximal sum of scores, by auction. float32, no gradient.

    In every round each expert bids on the C tokens worth most to it, by how much more than its (C + 1)-th they are
    worth, plus ε. The highest bid wins a token and is added to the token's price for everybody. In the first 100 rounds
    a winner values what it holds above everything, and bids just ε to keep it; after that, at its score without the
    price. It ends with the round in which every token has a bid.

    Args:
        scores_TE: (T, E) real numbers, T divisible by E. Non-finite scores count as the smallest finite one.

    Returns:
        experts_T: (T,) int64 on the device of the scores.

    Raises:
        ValueError: scores that are no (T, E ≥ 1) matrix, or T not divisible by E.
    """
    scores_ET = finite_scores(scores_TE).float().T.contiguous()
    experts, tokens = scores_ET.shape
    if tokens % experts:
        raise ValueError(f"scores_TE: {tokens} tokens do not divide among {experts} experts; the auction needs that")
    experts_T = torch.zeros(tokens, dtype=torch.int64, device=scores_ET.device)
    if tokens == 0 or experts == 1:
        return experts_T
    share = tokens // experts
    scores_ET = scores_ET - scores_ET.min()  # no bid depends on a common offset, but the resolution of prices does
    highest = scores_ET.max()
    epsilon = (highest / INCREMENTS).clamp(min=SMALLEST)
    treasured = highest.nextafter(
        torch.full_like(highest, torch.inf)
    )  # at `highest` itself ties could push what is held out of the C best
    value_ET, price_T = scores_ET.clone(), scores_ET.new_zeros(tokens)
    held_W = held_by_W = experts_T[:0]
    round_ = 0
    while True:
        worth_EC, token_EC = value_ET.topk(share + 1, dim=1)
        bids_ET = torch.zeros_like(value_ET)
        bids_ET.scatter_(1, token_EC[:, :-1], worth_EC[:, :-1] - worth_EC[:, -1:] + epsilon)
        if round_ < PATIENT_ROUNDS:
            bids_ET[held_by_W, held_W] = epsilon
        high_T, experts_T = bids_ET.max(dim=0)
        if (high_T > 0).all():
            return experts_T
        price_T += high_T
        held_W = (high_T > 0).nonzero().squeeze(1)
        held_by_W = experts_T[held_W]
        value_ET = scores_ET - price_T
        value_ET[held_by_W, held_W] = treasured if round_ < PATIENT_ROUNDS else scores_ET[held_by_W, held_W]
        round_ += 1
