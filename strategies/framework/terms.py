"""Auxiliary terms that combine with any strategy by configuration: `terms: {z_loss: 0.001}`.

A term is a mean over the tokens of the micro-batch, already multiplied by its coefficient; the trainer averages over
micro-batches.

Shapes: T tokens of one micro-batch, B sequences, S tokens per sequence, E experts, K experts per token, A = T·K.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from strategies.framework.interface import RouteContext, Routing
from strategies.framework.router import choose, count, probabilities


@dataclass(frozen=True)
class Term:
    """One configured term: `name` is how curves call it."""

    name: str
    coefficient: float
    top_k: int  # K of the layer
    raw: Callable[[Routing, RouteContext, int], Tensor]

    def __call__(self, routing: Routing, context: RouteContext) -> Tensor:
        """The term's value, a scalar with gradient."""
        return self.coefficient * self.raw(routing, context, self.top_k)


def z_loss(routing: Routing, context: RouteContext, top_k: int) -> Tensor:
    """mean_t (logsumexp_j logits_tj)², ST-MoE (Zoph et al. 2022, arXiv:2202.08906): keeps logits small."""
    assert routing.logits_TE is not None
    return routing.logits_TE.logsumexp(dim=-1).square().mean()


def sequence_loss(routing: Routing, context: RouteContext, top_k: int) -> Tensor:
    """DeepSeek-V3's complementary sequence-wise loss (arXiv:2412.19437, eqs. 17–20), averaged over sequences.

    Σ_j f_j P_j with f_j = E/(kS) Σ_t 1[j among the k best of s_t] and P_j = mean_t s_tj/Σ_l s_tl. The k best are those
    of the unbiased scores, whatever the strategy's own rule chose.
    """
    assert routing.scores_TE is not None
    expert_A = choose(routing.scores_TE.detach(), top_k).reshape(-1)
    return sequence_balance(probabilities(routing.scores_TE), expert_A, context.sequence_length)


def sequence_balance(probabilities_TE: Tensor, expert_A: Tensor, sequence_length: int) -> Tensor:
    """E · Σ_j f_j P_j within each sequence, averaged over sequences; 1 when both are uniform.

    Args:
        probabilities_TE: one distribution over experts per token.
        expert_A: the same number of experts for each token, listed token by token.
        sequence_length: S; T must be a multiple of it.
    """
    num_tokens, num_experts = probabilities_TE.shape
    num_sequences = num_tokens // sequence_length
    assert num_sequences * sequence_length == num_tokens, "a micro-batch holds whole sequences"
    per_sequence = len(expert_A) // num_sequences
    sequence_A = torch.arange(num_sequences, device=expert_A.device).repeat_interleave(
        per_sequence, output_size=len(expert_A)
    )
    load_BE = count(sequence_A * num_experts + expert_A, num_sequences * num_experts).view(num_sequences, num_experts)
    mean_BE = probabilities_TE.view(num_sequences, sequence_length, num_experts).mean(dim=1)
    return num_experts * (load_BE / per_sequence * mean_BE).sum(dim=-1).mean()


TERMS: dict[str, Callable[[Routing, RouteContext, int], Tensor]] = {"z_loss": z_loss, "sequence_loss": sequence_loss}


def build_terms(mapping: Mapping[str, float], strategy: str, has_router: bool, top_k: int) -> list[Term]:
    """The configured terms, in the order given.

    Raises:
        ValueError: unknown term, a coefficient that is not a finite number of 0 or more, or a strategy without scores.
    """
    terms = []
    for name, coefficient in mapping.items():
        key = f"{strategy}.terms.{name}"
        if name not in TERMS:
            near = difflib.get_close_matches(str(name), TERMS, n=1, cutoff=0)[0]
            raise ValueError(f"{key}: no such term; expected one of {', '.join(TERMS)}; nearest is {near}")
        if isinstance(coefficient, bool) or not isinstance(coefficient, int | float):
            raise ValueError(f"{key}: {coefficient!r} is not a number; expected a coefficient of 0 or more")
        if not math.isfinite(coefficient) or coefficient < 0:
            raise ValueError(f"{key}: {coefficient} is impossible; expected a coefficient of 0 or more")
        if not has_router:
            raise ValueError(f"{key}: {coefficient} cannot apply; {strategy} has no router scores; expected no terms")
        terms.append(Term(name, float(coefficient), top_k, TERMS[name]))
    return terms
