"""Small layers and batches for the oracle tests, and the pieces of NumPy that several oracles share."""

import numpy as np
import torch

from strategies import LayerSpec, RouteContext


def layer(num_experts=8, top_k=2, **changes):
    """A layer whose untrained router has logits of unit size."""
    values = {"width": 16, "vocab_size": 50, "router_std": 0.25} | changes
    return LayerSpec(num_experts=num_experts, top_k=top_k, **values)


def batch(num_tokens=64, width=16, vocab_size=50, seed=0):
    """Hidden states and token ids."""
    stream = torch.Generator().manual_seed(seed)
    hidden_TD = torch.randn(num_tokens, width, generator=stream)
    return hidden_TD, torch.randint(vocab_size, (num_tokens,), generator=stream)


def route(strategy, hidden_TD, tokens_T, sequence_length=16, **context):
    return strategy(hidden_TD, tokens_T, RouteContext(sequence_length=sequence_length, **context))


def logits_of(strategy, hidden_TD):
    """The router's logits in float64, by NumPy."""
    return hidden_TD.double().numpy() @ strategy.router.weight_ED.detach().double().numpy().T


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def best(values_TE, k):
    """The k largest of each row, best first."""
    return np.argsort(-values_TE, axis=1, kind="stable")[:, :k]


def chosen(routing):
    """Experts by token, (T, K), for rules with a fixed K."""
    return routing.expert_A.view(-1, routing.per_token).numpy()


def table(routing, num_tokens, num_experts):
    """Gates as a (T, E) table, NaN where a token does not go."""
    gates = np.full((num_tokens, num_experts), np.nan)
    gates[routing.token_A.numpy(), routing.expert_A.numpy()] = routing.gate_A.detach().numpy()
    return gates
