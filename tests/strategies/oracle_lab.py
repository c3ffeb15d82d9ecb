"""What the oracle tests share: known logits in, a routing out, and the score functions once more in NumPy.

A layer is as wide as it has experts and its router is the identity, so a token's hidden state is its logits.

Shapes: T tokens, E experts, K experts per token, V vocabulary.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from strategies import registry
from strategies.framework.contract import LayerSpec, RouteContext

SIZES = [(4, 1), (4, 2), (16, 1), (16, 4), (64, 2), (64, 8), (256, 4), (256, 8)]
SCORES = ["sigmoid", "softmax", "sqrt_softplus"]
VOCABULARY = 40


def build(
    name,
    experts,
    k,
    *,
    terms=None,
    score="sigmoid",
    normalize=True,
    scale=1.0,
    seed=0,
    counts=None,
    vocab=None,
    **config,
):
    """A strategy whose logits are its hidden states, if it has a router."""
    spec = LayerSpec(
        width=experts,
        num_experts=experts,
        top_k=k,
        vocab_size=vocab or VOCABULARY,
        score=score,
        normalize_gates=normalize,
        route_scale=scale,
        seed=seed,
        token_counts_V=counts,
    )
    strategy = registry.build(registry.get(name), spec, config, terms)
    for parameter_name, parameter in strategy.named_parameters():
        if parameter_name.startswith("router."):
            nn.init.eye_(parameter)
    return strategy


def draw(tokens, experts, seed=0, skew=1.0):
    """Random logits, some experts more popular than others; float32, so that NumPy starts from the same numbers."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(tokens, experts)) + skew * rng.normal(size=experts)).astype(np.float32)


def route(strategy, logits_TE, *, tokens=None, sequence_length=None, total=None):
    """The routing of these logits, and the hidden states (with gradient) they came from."""
    hidden = torch.tensor(np.asarray(logits_TE, dtype=np.float32), requires_grad=True)
    ids = torch.zeros(len(hidden), dtype=torch.int64) if tokens is None else torch.as_tensor(tokens)
    extra = {} if total is None else {"sum_over_ranks": total}
    context = RouteContext(sequence_length=sequence_length or len(hidden), **extra)
    return strategy(hidden, ids, context), hidden


def gates_of(routing, tokens, experts):
    """Gates as a (T, E) float64 table with NaN where a token does not go; no assignment may be listed twice."""
    table = np.full((tokens, experts), np.nan)
    pairs = list(zip(routing.token_A.tolist(), routing.expert_A.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)
    for (token, expert), gate in zip(pairs, routing.gate_A.tolist(), strict=True):
        table[token, expert] = gate
    return table


def chosen_of(routing, tokens, experts):
    """Which token goes to which expert, (T, E) bool."""
    return ~np.isnan(gates_of(routing, tokens, experts))


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, dtype=np.float64)))


def softmax(x):
    x = np.asarray(x, dtype=np.float64)
    weight = np.exp(x - x.max(-1, keepdims=True))
    return weight / weight.sum(-1, keepdims=True)


def scores_of(logits_TE, function):
    """The three score functions of the layer, float64."""
    if function == "sigmoid":
        return sigmoid(logits_TE)
    if function == "softmax":
        return softmax(logits_TE)
    return np.sqrt(np.log1p(np.exp(np.asarray(logits_TE, dtype=np.float64))))


def best(values_TE, k):
    """Mask of every row's k largest values."""
    mask = np.zeros(values_TE.shape, dtype=bool)
    np.put_along_axis(mask, np.argsort(-values_TE, axis=-1)[:, :k], True, axis=-1)
    return mask


def gated(scores_TE, mask_TE, *, normalize, scale=1.0):
    """Expected table of gates: chosen scores, over their sum if `normalize`; NaN elsewhere."""
    table = np.where(mask_TE, scores_TE, 0.0)
    if normalize:
        table = table / table.sum(-1, keepdims=True)
    return np.where(mask_TE, scale * table, np.nan)


def slope(function, at, step=1e-5):
    """Gradient of a scalar function by central differences, float64."""
    at = np.asarray(at, dtype=np.float64)
    gradient = np.zeros_like(at)
    for index in np.ndindex(*at.shape):
        up, down = at.copy(), at.copy()
        up[index] += step
        down[index] -= step
        gradient[index] = (function(up) - function(down)) / (2 * step)
    return gradient


def assert_best(mask_TE, values_TE, k, slack=2e-6):
    """Every row's k chosen values are its largest; within `slack`, float32's share, either of two may be chosen."""
    assert (mask_TE.sum(-1) == k).all()
    worst_chosen = np.where(mask_TE, values_TE, np.inf).min(-1)
    best_left = np.where(mask_TE, -np.inf, values_TE).max(-1)
    assert (worst_chosen >= best_left - slack).all()
