"""A source that says what counts: losses on value words alone, and its own figures in the record."""

from __future__ import annotations

import torch

from suite.training.evaluate import evaluate


class Guess(torch.nn.Module):
    """A stand-in for the model: the loss of a target is its own number."""

    moe_layers: tuple[()] = ()

    def losses(self, tokens_NS, context):
        return tokens_NS[:, 1:].float()


def test_only_counted_tokens_are_in_the_loss():
    tokens_NS = torch.tensor([[9, 1, 2, 3, 4], [9, 10, 20, 30, 40]])
    counted_S = torch.tensor([False, True, False, True])
    found = evaluate(Guess(), tokens_NS, torch.tensor([0, 1]), ["a", "b"], False, counted_S)
    assert found.loss_by_domain == {"a": 3.0, "b": 30.0}
    assert found.loss == 16.5
    assert found.nats == 66.0
    assert evaluate(Guess(), tokens_NS, torch.tensor([0, 1]), ["a", "b"], False).loss_by_domain == {"a": 2.5, "b": 25.0}
