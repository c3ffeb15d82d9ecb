"""The fused kernels against float64 formulas and autograd; in Triton's interpreter where there is no GPU."""

from __future__ import annotations

import os
from importlib.util import find_spec

import numpy as np
import pytest
import torch

GPU = torch.cuda.is_available()
DEVICE = "cuda" if GPU else "cpu"
if not GPU:
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before any other test imports Triton

from suite.backends import fused  # noqa: E402

pytestmark = [
    pytest.mark.skipif(find_spec("triton") is None, reason="not installed: triton (docs/gpu.md)"),
    *([pytest.mark.gpu] if GPU else []),
]


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("width", [8, 24, 1500])  # a power of two, none, more than a block
def test_swiglu_is_the_formula_of_every_row(width):
    given, gate = draw(5, 2 * width), draw(5, seed=1)
    a, b = given.numpy()[:, :width], given.numpy()[:, width:]
    right = gate.numpy()[:, None] * (a / (1 + np.exp(-a))) * b
    found = fused.swiglu(given.float().to(DEVICE), gate.float().to(DEVICE)).cpu()
    np.testing.assert_allclose(found.numpy(), right, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("width", [8, 24, 1500])
def test_its_gradients_are_those_of_autograd_in_float64(width):
    given, gate, grad = draw(5, 2 * width).requires_grad_(), draw(5, seed=1).requires_grad_(), draw(5, width, seed=2)
    a, b = given.chunk(2, dim=1)
    (gate[:, None] * (a * torch.sigmoid(a)) * b).backward(grad)
    found = fused.swiglu_backward(*(x.detach().float().to(DEVICE) for x in (given, gate, grad)))
    for mine, right in zip(found, (given.grad, gate.grad), strict=True):
        torch.testing.assert_close(mine.cpu().double(), right, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("k", [1, 3])
def test_rows_are_summed_by_token(k):
    rows, width, tokens = draw(4 * k, 40), 40, 4
    order = torch.randperm(4 * k, generator=torch.Generator().manual_seed(3))
    right = [sum(rows[order[token * k + j]] for j in range(k)) for token in range(tokens)]
    found = fused.sum_rows(rows.float().to(DEVICE), order.to(DEVICE), k).cpu()
    assert found.shape == (tokens, width)
    torch.testing.assert_close(found.double(), torch.stack(right), rtol=1e-6, atol=1e-6)


def test_no_rows_are_no_work():
    empty = torch.empty(0, 16, device=DEVICE)
    assert fused.swiglu(empty, torch.empty(0, device=DEVICE)).shape == (0, 8)
    grad_in, grad_gate = fused.swiglu_backward(empty, torch.empty(0, device=DEVICE), torch.empty(0, 8, device=DEVICE))
    assert grad_in.shape == (0, 16)
    assert grad_gate.shape == (0,)
    assert fused.sum_rows(empty, torch.empty(0, dtype=torch.int64, device=DEVICE), 2).shape == (0, 16)
