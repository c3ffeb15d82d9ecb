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

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from strategies.framework.interface import (
    Balances,
    Knob,
    LayerSpec,
    Paper,
    Published,
    Reset,
    RouteContext,
    Routing,
    Waived,
)
from strategies.framework.terms import build_terms


class Strategy(nn.Module):
    """Base class of every strategy. A subclass sets the class facts, declares `Config` and implements `route`."""

    name: ClassVar[str]  # how suites and the command line call it
    title: ClassVar[str]  # how tables and figures call it
    paper: ClassVar[Paper | None] = None
    published: ClassVar[Published] = Published()  # how its source makes scores and gates
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
        self.terms = build_terms(terms or {}, self.name, self.has_router, spec.top_k)

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
