"""Expert reset: auxiliary-loss balancing, and experts that get next to nothing begin again now and then.

Shapes: E experts, D width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from strategies.aux_loss import AuxLoss
from strategies.framework.contract import LayerSpec, Reset
from strategies.framework.interface import REDRAWN

ROUNDING = 1e-9  # a round ends at the step it is computed to end at, whichever way the quotient was rounded


class ExpertReset(AuxLoss):
    """Once in every `every` of training, experts with Σ n_j < below · mean Σ n since the last time begin again.

    `weights` says from what. "split": from the layer's most loaded expert, its weights and its router row copied, each
    with noise; the copy then competes for that expert's tokens. "fresh": both drawn as at the start. Either way the
    optimizer forgets the expert's moments (AdamW's count of steps goes on). The engine resets the weights, `rebalance`
    the router row. Several dead experts all begin from the same one.

    Common advice without a definition of its own, for which restarting unused codes of a vector quantiser from used
    ones (Dhariwal et al. 2020, Jukebox, arXiv:2005.00341, "random restarts") is the nearest published rule.
    With `coefficient` 0 it is resets alone.
    """

    name = "expert_reset"
    title = "Expert reset"
    paper = None  # type: ignore[assignment]  # the parent's is of its loss, not of this rule

    @dataclass(frozen=True, kw_only=True)
    class Config(AuxLoss.Config):
        every: float = 0.1  # share of training between resets; ours: nine, the last with a tenth of training to recover
        below: float = 0.01  # of the mean load; what the measures here call a dead expert
        weights: Literal["split", "fresh"] = "split"  # ours: a small new router row competes with rows that have grown
        noise: float = 0.1  # of a copy, in root mean squares of what is copied; ours: enough to tell copies apart

        def __post_init__(self) -> None:
            super().__post_init__()
            if not 0 < self.every <= 1:
                raise ValueError(f"every: {self.every} is not a share of training; expected more than 0, at most 1")
            if not 0 <= self.below < 1:
                raise ValueError(f"below: {self.below} is not a share of the mean load; expected 0 … 1 (excluded)")
            if self.noise < 0:
                raise ValueError(f"noise: {self.noise} is negative; expected 0 or more")

    def __init__(self, spec: LayerSpec, config: Any = None, terms: Mapping[str, float] | None = None) -> None:
        super().__init__(spec, config, terms)
        self.since_E: Tensor  # assignments since the last reset; integers, for float32 stops counting at 2²⁴
        self.register_buffer("since_E", torch.zeros(spec.num_experts, dtype=torch.int64))
        self.round: Tensor  # how many times `every` had passed at the last step
        self.register_buffer("round", torch.tensor(0))
        self.passed = self.now = 0  # `round` as seen by the host, and the round of the step being taken
        self.reset: Reset | None = None
        self.register_load_state_dict_post_hook(_follow_round)

    def schedule(self, progress: float) -> None:
        self.now = math.floor(progress / self.config.every + ROUNDING)

    def rebalance(self, load_E: Tensor, pooled: Mapping[str, Tensor]) -> None:
        super().rebalance(load_E, pooled)
        self.since_E += load_E.long()
        self.reset = None
        if self.now == self.passed:
            return
        self.passed = self.now
        self.round.fill_(self.now)
        self.reset = self._restart()
        self.since_E.zero_()

    def experts_to_reset(self) -> Reset | None:
        return self.reset

    def _restart(self) -> Reset:
        """Begin the router rows of dead experts again, and say which they are. Without waiting for the device."""
        since_E, row_ED = self.since_E.double(), self.router.weight_ED
        dead_E = since_E < self.config.below * since_E.mean()
        drawn_ED = torch.empty(row_ED.shape).normal_(generator=self.spec.generator(f"reset {self.now}"))
        drawn_ED = drawn_ED.to(row_ED.device)
        if self.config.weights == "split":
            source = since_E.argmax()
            copied_1D = row_ED.index_select(0, source[None])  # indexing by a lone number would wait for it
            start_ED = copied_1D + self.config.noise * copied_1D.square().mean().sqrt() * drawn_ED
        else:
            source = torch.full_like(self.round, REDRAWN)
            start_ED = self.spec.router_std * drawn_ED
        row_ED.copy_(torch.where(dead_E[:, None], start_ED, row_ED))
        source_E = torch.where(dead_E, source, torch.arange(len(dead_E), device=dead_E.device))
        return Reset(source_E=source_E, noise=self.config.noise, rows=(row_ED,))


def _follow_round(strategy: nn.Module, incompatible_keys: Any) -> None:
    """After a state is loaded, the host's view follows the buffer."""
    assert isinstance(strategy, ExpertReset)
    strategy.passed = strategy.now = int(strategy.round)
