"""The model's parts against independent calculations."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from suite.training.loss import CHUNK_BYTES, cross_entropy, mean_cross_entropy
from suite.training.model import Attention


def test_loss_and_gradients_equal_torch_s_cross_entropy(monkeypatch):
    monkeypatch.setitem(CHUNK_BYTES, "cpu", 4 * 50 * 40)  # several chunks, the last one smaller
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(101, 16, generator=generator, requires_grad=True)
    weight = torch.randn(50, 16, generator=generator, requires_grad=True)
    target = torch.randint(50, (101,), generator=generator)
    ours = mean_cross_entropy(hidden, weight, target)
    mine = torch.autograd.grad(3.0 * ours, (hidden, weight))
    theirs = F.cross_entropy(hidden @ weight.T, target)
    expected = torch.autograd.grad(3.0 * theirs, (hidden, weight))
    torch.testing.assert_close(ours, theirs)
    for got, want in zip(mine, expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)
    each = cross_entropy(hidden.detach(), weight.detach(), target)
    torch.testing.assert_close(each, F.cross_entropy(hidden @ weight.T, target, reduction="none").detach())


def test_rotary_attention_equals_a_numpy_version():
    """RoFormer, eq. 15: channel pairs (2c, 2c + 1) turn by position · 10000^(−2c/C); causal softmax; scale 1/√C."""
    width, heads, length = 16, 2, 7
    torch.manual_seed(1)
    attention = Attention(width, heads, length)
    x = torch.randn(2, length, width)
    got = attention(x).detach().numpy()
    qkv = x.numpy() @ attention.qkv.weight.detach().numpy().T
    q, k, v = np.split(qkv, 3, axis=-1)
    channels = width // heads
    angle = np.arange(length)[:, None] * 10_000.0 ** (-np.arange(0, channels, 2) / channels)

    def turn(y):
        turned = np.empty_like(y)
        for pair in range(channels // 2):
            a, b, cos, sin = y[:, 2 * pair], y[:, 2 * pair + 1], np.cos(angle[:, pair]), np.sin(angle[:, pair])
            turned[:, 2 * pair], turned[:, 2 * pair + 1] = a * cos - b * sin, a * sin + b * cos
        return turned

    expected = np.zeros_like(got)
    for sequence in range(2):
        outputs = []
        for head in range(heads):
            own = slice(head * channels, (head + 1) * channels)
            scores = turn(q[sequence][:, own]) @ turn(k[sequence][:, own]).T / np.sqrt(channels)
            scores[np.triu_indices(length, 1)] = -np.inf
            weights = np.exp(scores - scores.max(1, keepdims=True))
            outputs.append(weights / weights.sum(1, keepdims=True) @ v[sequence][:, own])
        expected[sequence] = np.concatenate(outputs, axis=1) @ attention.w_out.weight.detach().numpy().T
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
