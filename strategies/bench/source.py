"""What the bench feeds a strategy: synthetic hidden states, or recorded router logits.

Shapes: T tokens of one step, N recorded tokens, E experts, D features.
"""

from __future__ import annotations

import difflib
import math
from typing import Literal, get_args

import torch
from torch import Tensor

from strategies.framework.contract import LayerSpec, RouteContext, Strategy

Drift = Literal["static", "drifting", "shift"]

VOCABULARY = 4096  # token ids are uniform: the bench is about routers, not about words
FEATURES = 64  # D: the same for every E, so that the cost grows with T · E alone


class Synthetic:
    """Gaussian hidden states h = z + c·u before the strategy's own, frozen Gaussian router (rows of size 1).

    Every logit is then Gaussian: z gives it noise of standard deviation 1 from token to token; u, one direction shared
    by all tokens, gives every expert an offset of standard deviation c. Fresh tokens at every step.

    static: u stays. drifting: u ← √(1 − η²) u + η ξ, a random walk that keeps its length: as if the router turned.
    shift: u is drawn anew at half time, as when the data change domain.
    """

    width = FEATURES

    def __init__(self, tokens: int, steps: int, drift: Drift, seed: int, skew: float, speed: float) -> None:
        if drift not in get_args(Drift):
            near = difflib.get_close_matches(str(drift), get_args(Drift), n=1, cutoff=0)[0]
            raise ValueError(
                f"drift: {drift!r} is unknown; expected one of {', '.join(get_args(Drift))}; nearest is {near}"
            )
        self.tokens, self.drift, self.skew, self.speed = tokens, drift, skew, speed
        self.shift_at = steps // 2 if drift == "shift" else None
        self._noise = torch.Generator().manual_seed(2 * seed)
        self._walk = torch.Generator().manual_seed(2 * seed + 1)
        self._common_D = torch.randn(FEATURES, generator=self._walk)

    @property
    def router_std(self) -> float:
        return 1 / math.sqrt(FEATURES)

    def prepare(self, strategy: Strategy) -> None:
        """Nothing to do: the strategy keeps the router it drew."""

    def hidden(self, step: int) -> Tensor:
        """The hidden states of one step, (T, D); call it once per step, in order."""
        fresh_D = torch.randn(FEATURES, generator=self._walk)
        if self.drift == "drifting":
            self._common_D = math.sqrt(1 - self.speed**2) * self._common_D + self.speed * fresh_D
        elif step == self.shift_at:
            self._common_D = fresh_D
        return torch.randn(self.tokens, FEATURES, generator=self._noise) + self.skew * self._common_D


class Recorded:
    """Recorded router logits, `tokens` rows per step in their order, from the start again when they end.

    The layer is as wide as it has experts, and the strategy's router is set to the identity: its logits are then the
    recorded ones, and everything after them is the strategy's own doing.
    """

    router_std = 1.0
    shift_at = None

    def __init__(self, logits_NE: Tensor, tokens: int) -> None:
        if logits_NE.ndim != 2 or len(logits_NE) < tokens:
            raise ValueError(f"scores: shape {list(logits_NE.shape)}; expected (N, experts) with N at least {tokens}")
        if not logits_NE.isfinite().all():
            raise ValueError("scores: some are NaN or infinite; expected finite router logits")
        self._logits_NE = logits_NE.float()
        self.tokens = tokens
        self.width = logits_NE.shape[1]

    def prepare(self, strategy: Strategy) -> None:
        """Set the router to the identity.

        Raises:
            ValueError: the strategy has no parameter that does it.
        """
        probe_TD = self._logits_NE[: self.tokens]
        tokens_T = torch.zeros(self.tokens, dtype=torch.int64)
        context = RouteContext(sequence_length=self.tokens)
        for parameter in strategy.parameters():
            if list(parameter.shape) != [self.width, self.width]:
                continue
            before = parameter.detach().clone()
            with torch.no_grad():
                parameter.copy_(torch.eye(self.width))
                logits_TE = strategy.eval()(probe_TD, tokens_T, context).logits_TE
                if logits_TE is not None and torch.equal(logits_TE, probe_TD):
                    return
                parameter.copy_(before)
        raise ValueError(f"scores: {strategy.name} has no linear router to feed them to; expected one of shape (E, D)")

    def hidden(self, step: int) -> Tensor:
        """The logits of one step, (T, E)."""
        rows_T = torch.arange(step * self.tokens, (step + 1) * self.tokens) % len(self._logits_NE)
        return self._logits_NE[rows_T]


def layer(source: Synthetic | Recorded, experts: int, top_k: int, seed: int) -> LayerSpec:
    """The layer that a strategy is built for."""
    return LayerSpec(
        width=source.width,
        num_experts=experts,
        top_k=top_k,
        vocab_size=VOCABULARY,
        router_std=source.router_std,
        seed=seed,
        token_counts_V=torch.ones(VOCABULARY, dtype=torch.int64),
    )
