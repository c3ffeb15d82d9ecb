"""StableMoE: learn to route, distil the routing into a small word-level router, then freeze it.

Shapes: T tokens, E experts, K experts per token, D width, V vocabulary, C width of the distilled router's embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from strategies.framework.contract import Balances, Knob, LayerSpec, Paper, Published, RouteContext, Routing, Strategy
from strategies.framework.router import LinearRouter, RouterInit, choose, count, gates, score


class StableMoE(Strategy):
    """Two stages.

    Stage 1: the backbone router E_i · h_t chooses; its balance loss is α Σ_i (n_i − n̄)/n̄ Σ_{t∈A_i} σ(s_ti),
    and a distilled router Ê_i · D(x_t), with a word embedding D of its own, learns its choices by cross-entropy.
    Stage 2: D and Ê are frozen and choose; the gate stays σ of the backbone's score, whose centroids keep training.
    A token id then always has the same experts. Both losses are sums over tokens in the paper, divided here by T.

    The paper and the authors' code disagree in places; each is a parameter, and its default says whose it is.
    The paper has one expert per token. For more (our generalisation): the K best scores; each gate the score itself,
    not normalised; the distilled router learns the uniform distribution over the chosen set; n̄ = KT/E.
    σ is the layer's score function: sigmoid is the published rule.
    """

    name = "stable_moe"
    title = "StableMoE"
    paper = Paper("Dai et al., StableMoE: Stable Routing Strategy for Mixture of Experts", 2022, "arXiv:2204.08396")
    published = Published("sigmoid", False)
    knob = Knob("balance", (0.03, 0.1, 0.3, 1.0, 3.0))
    auxiliary = ("balance", "distillation")
    balances = Balances(max_vio=0.5, steps=500)

    @dataclass(frozen=True, kw_only=True)
    class Config:
        stage_one: float = 0.1  # share of training before the freeze: 6K of 60K steps in the paper
        balance: float = 0.3  # α, the paper's
        distill_factor: float = 1.0  # weight of the distillation loss: 1 in eq. 11, 0.3 in the code's command line
        embedding_width: int = 50  # width of the word embedding D, the paper's
        stage_one_eval: Literal["distilled", "backbone"] = "distilled"  # inference before the freeze; the code's choice
        centroid_init: RouterInit = "orthogonal"  # gain 0.1, the code's; "normal" is the other strategies' own

        def __post_init__(self) -> None:
            if not 0 <= self.stage_one <= 1:
                raise ValueError(f"stage_one: {self.stage_one} is not a share of training; expected 0 … 1")
            for name in ("balance", "distill_factor"):
                if getattr(self, name) < 0:
                    raise ValueError(f"{name}: {getattr(self, name)} is negative; expected 0 or more")
            if self.embedding_width < 1:
                raise ValueError(f"embedding_width: {self.embedding_width} is impossible; expected a positive integer")

    def __init__(self, spec: LayerSpec, config: Any = None, terms: Mapping[str, float] | None = None) -> None:
        super().__init__(spec, config, terms)
        self.router = LinearRouter(spec, self.config.centroid_init)
        generator = spec.generator("distilled router")
        table_VC = torch.empty(spec.vocab_size, self.config.embedding_width).normal_(generator=generator)
        centroid_EC = torch.empty(spec.num_experts, self.config.embedding_width)
        nn.init.orthogonal_(centroid_EC, gain=0.1, generator=generator)
        self.distilled_table_VC = nn.Parameter(table_VC)
        self.distilled_centroid_EC = nn.Parameter(centroid_EC)
        self.stage: Tensor
        self.register_buffer("stage", torch.tensor(1))
        self.frozen = False  # `stage` as seen by the host, so that `route` never waits for the device
        self.register_load_state_dict_post_hook(_follow_stage)
        self.schedule(0.0)

    def schedule(self, progress: float) -> None:
        frozen = progress >= self.config.stage_one
        if frozen != self.frozen:
            self.stage.fill_(2 if frozen else 1)
            self._freeze(frozen)

    def _freeze(self, frozen: bool) -> None:
        self.frozen = frozen
        for parameter in (self.distilled_table_VC, self.distilled_centroid_EC):
            parameter.requires_grad_(not frozen)
            parameter.grad = None  # an optimizer would go on decaying a parameter that still has a gradient

    def route(self, hidden_TD: Tensor, tokens_T: Tensor, context: RouteContext) -> Routing:
        logits_TE = self.router(hidden_TD)
        scores_TE = score(logits_TE, self.spec.score)
        by_word = self.frozen or (not self.training and self.config.stage_one_eval == "distilled")
        selection_TE = self._distilled(tokens_T).detach() if by_word else logits_TE.detach()
        experts_TK = choose(selection_TE, self.spec.top_k)
        gates_TK = gates(scores_TE, experts_TK, self.spec, normalize=False)
        routing = Routing.top_k(experts_TK, gates_TK, logits_TE, scores_TE)
        if self.training and not self.frozen:
            routing.losses["balance"] = self.config.balance * self._balance(scores_TE, experts_TK)
            routing.losses["distillation"] = self.config.distill_factor * self._distillation(tokens_T, experts_TK)
        return routing

    def _distilled(self, tokens_T: Tensor) -> Tensor:
        with torch.autocast(tokens_T.device.type, enabled=False):
            return nn.functional.embedding(tokens_T, self.distilled_table_VC) @ self.distilled_centroid_EC.T

    def _balance(self, scores_TE: Tensor, experts_TK: Tensor) -> Tensor:
        load_E = count(experts_TK.reshape(-1), self.spec.num_experts)
        violation_E = load_E / load_E.mean() - 1
        return (violation_E[experts_TK] * scores_TE.gather(-1, experts_TK)).sum() / len(experts_TK)

    def _distillation(self, tokens_T: Tensor, experts_TK: Tensor) -> Tensor:
        log_probability_TE = self._distilled(tokens_T).log_softmax(dim=-1)
        return -log_probability_TE.gather(-1, experts_TK).mean()


def _follow_stage(strategy: nn.Module, incompatible_keys: Any) -> None:
    """After a state is loaded, the host's view of the stage and the frozen parameters follow the buffer."""
    assert isinstance(strategy, StableMoE)
    strategy._freeze(int(strategy.stage) == 2)
