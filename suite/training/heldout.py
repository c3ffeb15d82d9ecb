"""The held-out text of one trial: its loss, and where some of its tokens go as training proceeds."""

from __future__ import annotations

import torch

from suite.training.evaluate import Evaluation, Probes, evaluate
from suite.training.opening import Opened


class HeldOut:
    """Evaluations and probes; neither changes any state of the model.

    Shapes: N held-out sequences, S sequence length.
    """

    def __init__(self, opened: Opened) -> None:
        self._opened, self.probes = opened, Probes()
        tokens_NS, domain_N = opened.source.heldout()
        self.tokens_NS = torch.from_numpy(tokens_NS).to(opened.device)
        counted_S = opened.source.counted_S
        self.counted_S = None if counted_S is None else torch.from_numpy(counted_S).to(opened.device)
        self.domain_N = torch.from_numpy(domain_N).to(opened.device)

    @property
    def predicted(self) -> int:
        """How many tokens are predicted."""
        return self.tokens_NS[:, 1:].numel()

    @property
    def predicted_bytes(self) -> int:
        """How many bytes of text those are that count."""
        predicted_NS = self.tokens_NS[:, 1:] if self.counted_S is None else self.tokens_NS[:, 1:][:, self.counted_S]
        return int(self._opened.source.token_bytes_V[predicted_NS.cpu().numpy()].sum())

    def evaluate(self, loads: bool) -> Evaluation:
        with self._opened.autocast():
            domains = self._opened.source.domains
            return evaluate(self._opened.model, self.tokens_NS, self.domain_N, domains, loads, self.counted_S)

    def probe(self, progress: float) -> None:
        with self._opened.autocast():
            self.probes.take(self._opened.model, self.tokens_NS, progress)
