"""What passes between a rule and the engine, and the facts that a rule declares about itself.

Shapes: T tokens of one micro-batch (whole sequences, one after another), S sequence length, E experts,
K experts per token, A assignments, D model width, V vocabulary.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

Score = Literal["sigmoid", "softmax", "sqrt_softplus"]


@dataclass(frozen=True, kw_only=True)
class LayerSpec:
    """The MoE layer a strategy is built for. The same for every strategy of a comparison."""

    width: int  # D
    num_experts: int  # E
    top_k: int  # K
    vocab_size: int  # V
    layer: int = 0  # index of this layer among the model's MoE layers
    num_layers: int = 1  # MoE layers in the model
    score: Score = "sigmoid"  # how logits become scores
    normalize_gates: bool = True  # divide the chosen scores by their sum (never done for K = 1)
    route_scale: float = 1.0  # multiplies the gates
    router_std: float = 0.02  # initial standard deviation of a router's weights
    seed: int = 0  # the trial's seed: a strategy's own parameters draw from a stream of their own
    token_counts_V: Tensor | None = field(default=None, compare=False)  # how often each token occurs in training

    def __post_init__(self) -> None:
        for name in ("width", "num_experts", "top_k", "vocab_size"):
            value = getattr(self, name)
            if value < 1:
                raise ValueError(f"{name}: {value} is impossible; expected a positive integer")
        if self.top_k > self.num_experts:
            raise ValueError(f"top_k: {self.top_k} is more than num_experts = {self.num_experts}")

    def generator(self, stream: str) -> torch.Generator:
        """A random stream that depends on the trial's seed, this layer and `stream` only."""
        digest = hashlib.sha256(f"{self.seed}/{self.layer}/{stream}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))


def _alone(value: Tensor) -> Tensor:
    return value


@dataclass(frozen=True, kw_only=True)
class RouteContext:
    """What `route` may know of the step besides the tokens themselves."""

    sequence_length: int  # S; T is a multiple of it
    micro_batches: int = 1  # micro-batches of the current optimizer step
    sum_over_ranks: Callable[[Tensor], Tensor] = _alone  # all-reduce (sum) without gradient; identity on one process


@dataclass
class Routing:
    """A list of assignments: token `token_A[a]` goes to expert `expert_A[a]` with gate `gate_A[a]`.

    top-k, expert choice and rules with a variable number of experts per token are all just lists. Build the usual
    case with `Routing.top_k`, which also lets a backend use that every token has exactly K assignments.
    """

    token_A: Tensor  # int64
    expert_A: Tensor  # int64
    gate_A: Tensor  # float32; carries the gradient to the router, where there is one
    per_token: int | None = None  # K, if every token has exactly K assignments, listed token by token
    logits_TE: Tensor | None = None  # before the score function; None for rules without a router
    scores_TE: Tensor | None = None  # after it, unbiased
    losses: dict[str, Tensor] = field(default_factory=dict)  # added to the objective, never to a reported loss
    pooled: dict[str, Tensor] = field(default_factory=dict)  # sums that `rebalance` wants, over the whole global batch

    @classmethod
    def top_k(
        cls, experts_TK: Tensor, gates_TK: Tensor, logits_TE: Tensor | None = None, scores_TE: Tensor | None = None
    ) -> Routing:
        """Every token goes to exactly K experts."""
        num_tokens, k = experts_TK.shape
        token_A = torch.arange(num_tokens, device=experts_TK.device).repeat_interleave(k, output_size=num_tokens * k)
        return cls(token_A, experts_TK.reshape(-1), gates_TK.reshape(-1), k, logits_TE, scores_TE)


REDRAWN = -1  # in `Reset.source_E`: drawn anew, as at the start of training


@dataclass(frozen=True, kw_only=True)
class Reset:
    """Experts that begin again, and from what. The engine changes their weights and forgets their optimizer moments."""

    source_E: Tensor  # int64: itself for an expert that stays, the one whose weights it takes, or `REDRAWN`
    noise: float = 0.0  # standard deviation of what is added to a copy, in root mean squares of what is copied
    rows: tuple[nn.Parameter, ...] = ()  # the strategy's own, (E, …): it has reset them itself, their moments follow


@dataclass(frozen=True)
class Paper:
    """Where a rule comes from."""

    citation: str  # "Wang et al., Auxiliary-Loss-Free Load Balancing Strategy for Mixture-of-Experts"
    year: int
    identifier: str  # "arXiv:2408.15664"


@dataclass(frozen=True)
class Published:
    """The score function and the gates of the source's own routers. None: it does not say, or has none.

    A trial's layer is built so unless its suite, its rung or `--set` states the field itself.
    """

    score: Score | None = None
    normalize_gates: bool | None = None
    score_of_one: Score | None = None  # with one expert per token, where that differs

    def stated(self, top_k: int) -> dict[str, Score | bool]:
        """The fields of a rung that the source settles."""
        score = self.score_of_one if top_k == 1 and self.score_of_one else self.score
        said = {"score": score, "normalize_gates": self.normalize_gates}
        return {name: value for name, value in said.items() if value is not None}


@dataclass(frozen=True)
class Knob:
    """The one parameter that is tuned, and the grid it is tuned over (five values, the same number for everybody)."""

    parameter: str
    grid: tuple[float, ...]


@dataclass(frozen=True)
class Balances:
    """A promise checked by `equipoise check`: MaxVio under `max_vio` within `steps` on the synthetic skewed router."""

    max_vio: float
    steps: int


@dataclass(frozen=True)
class Waived:
    """Why a rule does not apply to a strategy."""

    reason: str
