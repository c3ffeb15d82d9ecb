"""What a strategy is: the contract between a load-balancing rule and everything that trains it.

A strategy is one `nn.Module` per MoE layer. It owns its router weights, biases, tables and buffers, so its
`state_dict` is its whole state. The engine calls it in this order, once per optimizer step:

    schedule(progress)                      phase changes
    for each micro-batch: strategy(...)     `route`, plus any auxiliary terms the configuration added
    optimizer.step()
    rebalance(load_E, pooled)               counts summed over micro-batches and ranks
    experts_to_reset()                      experts whose weights begin again; almost every rule: none, ever

At `eval()` nothing of its state changes, and routing is the rule a decoder would use at inference.

Shapes: T tokens of one micro-batch (whole sequences, one after another), S sequence length, E experts,
K experts per token, A assignments, D model width, V vocabulary.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

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


class Strategy(nn.Module):
    """Base class of every strategy. A subclass sets the class facts, declares `Config` and implements `route`."""

    name: ClassVar[str]  # how suites and the command line call it
    title: ClassVar[str]  # how tables and figures call it
    paper: ClassVar[Paper | None] = None
    causal: ClassVar[bool] = True  # training-time routing of a token uses no other token of the batch
    knob: ClassVar[Knob | None] = None
    has_router: ClassVar[bool] = True  # `Routing.logits_TE` and `.scores_TE` are there (auxiliary terms need them)
    fixed_rule: ClassVar[bool] = False  # routing does not depend on the trial's seed
    variable_k: ClassVar[bool] = False  # tokens may have any number of assignments
    selection_only_bias: ClassVar[bool] = False  # `bias_E` changes which experts are chosen, never a gate
    task_trains_router: ClassVar[bool] = True  # the task loss has a gradient path into the router
    auxiliary: ClassVar[tuple[str, ...]] = ()  # names of the loss terms `route` may emit
    balances: ClassVar[Balances | Waived] = Waived("makes no promise about balance")

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """A strategy's parameters; every default says where it comes from."""

    def __init__(self, spec: LayerSpec, config: Any = None, terms: Mapping[str, float] | None = None) -> None:
        super().__init__()
        reason = self.unsupported(spec)
        if reason:
            raise ValueError(f"{self.name}: {reason}")
        self.spec = spec
        self.config: Any = self.Config() if config is None else config
        from strategies.framework.terms import build_terms  # the terms know the contract, so they come in here

        self.terms = build_terms(terms or {}, self)

    @classmethod
    def unsupported(cls, spec: LayerSpec) -> str | None:
        """Why this strategy cannot run in such a layer (None: it can)."""
        return None

    @classmethod
    def experts_to_build(cls, spec: LayerSpec) -> int:
        """How many experts the layer holds for this strategy. Only controls such as a dense twin want fewer than E."""
        return spec.num_experts

    def forward(self, hidden_TD: Tensor, tokens_T: Tensor, context: RouteContext) -> Routing:
        """`route`, plus the auxiliary terms of the configuration while training."""
        routing = self.route(hidden_TD, tokens_T, context)
        if self.training:
            for term in self.terms:
                routing.losses[term.name] = term(routing, context)
        return routing

    @abstractmethod
    def route(self, hidden_TD: Tensor, tokens_T: Tensor, context: RouteContext) -> Routing:
        """Choose experts and gates.

        Args:
            hidden_TD: the layer's normalised input, (T, D); may be bfloat16 under autocast.
            tokens_T: token ids, (T,) int64; whole sequences of `context.sequence_length`, one after another.
            context: the rest of what a rule may know.
        """
        raise NotImplementedError(f"{type(self).__name__} must define route(hidden_TD, tokens_T, context)")

    def rebalance(self, load_E: Tensor, pooled: Mapping[str, Tensor]) -> None:
        """Once per optimizer step, without gradient. Default: nothing.

        Args:
            load_E: assignments per expert of the whole global batch (micro-batches and ranks summed), float32.
            pooled: `Routing.pooled` of the same batch, summed likewise.
        """

    def experts_to_reset(self) -> Reset | None:
        """Right after `rebalance`: experts whose weights begin again with the next step. Default: none.

        The answer changes nothing by itself, and follows from global loads, so that every rank gives the same one.
        """
        return None

    def schedule(self, progress: float) -> None:
        """Before each optimizer step, with the share of training already done (0 ≤ progress < 1). Default: nothing."""

    def selection_bias(self) -> Tensor | None:
        """The bias added to scores for selection, (E,) float32, for measures and plots; None if there is none."""
        return getattr(self, "bias_E", None)
