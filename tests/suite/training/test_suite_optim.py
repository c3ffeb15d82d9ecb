"""Schedule, parameter groups and Muon, against torch's own, linear programming and numbers worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

import tasks
from strategies import registry
from suite import backends
from suite.training import muon, optimizers
from suite.training.model import Transformer
from suite.training.muon import Muon, orthogonalise

CONVERGING = (1.875, -1.25, 0.375)  # Newton–Schulz of fifth order: to 1 from anywhere, if slowly


def rung_of(**given):
    return tasks.load("zipf-nano", {f"rung.{name}": value for name, value in given.items()}).rung


def test_warm_up_then_cosine_or_a_line():
    rung = rung_of(steps=100, warmup_steps=10, min_learning_rate_ratio=0.1)
    assert optimizers.schedule(rung, 0) == pytest.approx(0.1)  # the first step of ten
    assert optimizers.schedule(rung, 9) == pytest.approx(1.0)
    assert optimizers.schedule(rung, 55) == pytest.approx(0.55)  # half way down: cos(π/2) = 0
    assert optimizers.schedule(rung, 99) == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * 89 / 90)))
    line = rung_of(steps=100, warmup_steps=10, decay="linear", min_learning_rate_ratio=0.0)
    assert optimizers.schedule(line, 55) == pytest.approx(0.5)
    assert optimizers.schedule(line, 99) == pytest.approx(1 / 90)


def model_of(rung, strategy="stable_moe"):
    cls = registry.get(strategy)
    counts_V = torch.ones(rung.vocab_size)
    return Transformer(rung, lambda spec: registry.build(cls, spec), backends.get("reference").load(), 0, counts_V)


@pytest.mark.parametrize("recipe", ["adamw", "muon"])
def test_every_parameter_is_in_its_group_with_its_rate_and_decay(recipe):
    """By name, written out: what belongs to a strategy is a router, whatever its shape."""
    rates = {"embedding": 0.1, "head": 0.2, "hidden": 0.3, "router": 0.4, "vector": 0.5}
    given = {f"{group}_rate": rate for group, rate in rates.items()}
    rung = rung_of(recipe=recipe, weight_decay=0.7, shared_experts=1, warmup_steps=0, **given)
    model = model_of(rung)
    optimizer = optimizers.build(model, rung)
    found = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters())) == len(found)
    optimizers.set_rates(optimizer, rung, 0)
    for name, parameter in model.named_parameters():
        group = found[id(parameter)]
        if ".strategy." in name:
            expected = (0.4, 0.0)
        elif "norm" in name:
            expected = (0.5, 0.0)
        else:
            expected = ({"embedding.weight": 0.1, "head.weight": 0.2}.get(name, 0.3), 0.7)
        assert (group["lr"], group["weight_decay"]) == expected, name
        assert ("momentum" in group) == (recipe == "muon" and expected[0] == 0.3), name
    later = rung.steps // 2
    optimizers.set_rates(optimizer, rung, later)
    share = optimizers.schedule(rung, later)
    assert {group["lr"] for group in optimizer.param_groups} == {rate * share for rate in rates.values()}


def test_initial_values_by_fan_in():
    """Standard deviations of the drawn values themselves; experts keep (in, out), linear layers (out, in)."""
    rung = rung_of(init_gain=0.8, embedding_std=0.3, router_std=0.05, vocab_size=512, shared_experts=1, expert_width=40)
    model = model_of(rung, "none")
    drawn = {name: float(parameter.detach().std()) for name, parameter in model.named_parameters()}
    block, residual = "blocks.1.", (2 * 2) ** 0.5
    for name, std in {
        "embedding.weight": 0.3,
        "head.weight": 0.8 / 8,
        f"{block}attention.qkv.weight": 0.8 / 8,
        f"{block}attention.w_out.weight": 0.8 / 8 / residual,
        f"{block}feed_forward.w_in_EDF": 0.8 / 8,
        f"{block}feed_forward.w_out_EFD": 0.8 / 40**0.5 / residual,
        f"{block}feed_forward.shared.w_in.weight": 0.8 / 8,
        f"{block}feed_forward.shared.w_out.weight": 0.8 / 40**0.5 / residual,
        f"{block}feed_forward.strategy.router.weight_ED": 0.05,
    }.items():
        assert drawn[name] == pytest.approx(std, rel=0.07), name


@pytest.mark.parametrize("shape", [(8, 24, 16), (8, 16, 24), (1, 32, 32), (40, 16, 24)])
def test_several_steps_are_torch_s_one_matrix_at_a_time(shape, monkeypatch):
    """Both to convergence: what is left are momentum, scale, decay and the batching. torch's steps are in bfloat16."""
    monkeypatch.setattr(muon, "COEFFICIENTS", (CONVERGING,) * 20)
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(shape, generator=generator)
    ours = torch.nn.Parameter(start.clone())
    theirs = [torch.nn.Parameter(matrix.clone()) for matrix in start]
    mine = Muon([{"params": [ours]}], lr=0.02, weight_decay=0.1)
    other = torch.optim.Muon(
        theirs,
        lr=0.02,
        weight_decay=0.1,
        adjust_lr_fn="match_rms_adamw",
        ns_coefficients=CONVERGING,
        ns_steps=20,
    )
    for _ in range(4):
        ours.grad = torch.randn(shape, generator=generator)
        for parameter, gradient in zip(theirs, ours.grad, strict=True):
            parameter.grad = gradient.clone()
        mine.step()
        other.step()
    expected = torch.stack([parameter.detach() for parameter in theirs])
    assert (ours.detach() - expected).norm() / (expected - start).norm() < 0.03


def test_a_step_by_singular_value_decomposition():
    """One step from rest: Nesterov's gradient is 1.95/20 of the gradient, and U Vᵀ does not see its size."""
    gradient = torch.randn(5, 20, 12, generator=torch.Generator().manual_seed(1))
    parameter = torch.nn.Parameter(torch.ones(5, 20, 12))
    parameter.grad = gradient.clone()
    Muon([{"params": [parameter]}], lr=0.02, weight_decay=0.1).step()
    left, _, right = torch.linalg.svd(gradient.double(), full_matrices=False)
    moved = (0.998 - parameter.detach().double()) / (0.02 * 0.2 * 20**0.5)  # 0.2 · √max(A, B): AdamW's update RMS
    values = torch.einsum("mai,mab,mbi->mi", left, moved, right.mT)
    assert ((values > 0.72) & (values < 1.28)).all()
    rebuilt = left @ torch.diag_embed(values) @ right
    torch.testing.assert_close(moved, rebuilt, rtol=0, atol=1e-4)


def test_momentum_of_several_steps_by_hand():
    generator = torch.Generator().manual_seed(2)
    parameter = torch.nn.Parameter(torch.randn(3, 6, 6, generator=generator))
    optimizer = Muon([{"params": [parameter]}], lr=0.1, weight_decay=0.0, momentum=0.9)
    average = torch.zeros(3, 6, 6)
    for _ in range(4):
        gradient = torch.randn(3, 6, 6, generator=generator)
        average = 0.9 * average + 0.1 * gradient
        expected = parameter.detach() - 0.1 * 0.2 * 6**0.5 * orthogonalise(
            0.1 * gradient + 0.9 * average, torch.float32
        )
        parameter.grad = gradient
        optimizer.step()
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-3, atol=1e-5)


def best_quintic(low, high):
    """The odd quintic nearest to 1 on [low, high], and how near, by linear programming on a fine grid."""
    x = np.unique(np.concatenate([np.geomspace(low, high, 2000), np.linspace(low, high, 2000)]))
    powers, one = np.stack([x, x**3, x**5], axis=1), np.ones((len(x), 1))
    limits = np.block([[powers, -one], [-powers, -one]])
    solved = linprog(
        [0, 0, 0, 1], limits, np.concatenate([one[:, 0], -one[:, 0]]), bounds=[(None, None)] * 3 + [(0, 1)]
    )
    return solved.x[:3], solved.x[3]


def test_the_coefficients_are_the_best_of_each_step():
    low, high = 0.01, 1.0
    for stated in muon.COEFFICIENTS:
        best, error = best_quintic(low, high)
        assert stated == pytest.approx(tuple(best), abs=2e-3)
        low, high = 1 - error, 1 + error
    assert error == pytest.approx(0.27, abs=0.002)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [1e-12, 1.0, 1e12])
def test_singular_values_come_near_one(dtype, size):
    """Five orders of magnitude of spread, rank one and nothing at all among them, whatever the gradient's size."""
    generator = torch.Generator().manual_seed(3)
    random = torch.randn(40, 24, 40, generator=generator)
    left, _, right = torch.linalg.svd(random[:1], full_matrices=False)
    spread = left @ torch.diag_embed(torch.logspace(0, -5, 24)[None]) @ right
    rank_one = torch.outer(torch.randn(24, generator=generator), torch.randn(40, generator=generator))[None]
    result = orthogonalise(size * torch.cat([random, spread, rank_one, torch.zeros(1, 24, 40)]), dtype).float()
    assert result.isfinite().all()
    values = torch.linalg.svdvals(result)
    low, top = (0.7, 1.28) if dtype == torch.float32 else (0.6, 1.5)
    assert values.max() < top
    assert values[:40].min() > low
    assert (values[40][torch.logspace(0, -5, 24) > 0.012] > low).all()
    assert values[41, 0] > low
    assert (values[42] == 0).all()


def test_in_parts_or_at_once_is_the_same(monkeypatch):
    update = torch.randn(50, 8, 12, generator=torch.Generator().manual_seed(4))
    in_parts = orthogonalise(update, torch.float32)
    monkeypatch.setattr(muon, "CHUNK", 1000)
    torch.testing.assert_close(in_parts, orthogonalise(update, torch.float32), rtol=1e-4, atol=1e-5)


def test_steps_are_in_float32_on_a_cpu_and_in_bfloat16_elsewhere():
    assert muon.precision(torch.device("cpu")) == torch.float32
    assert muon.precision(torch.device("cuda")) == torch.bfloat16


def test_fused_projections_are_separate_matrices():
    """Orthogonalising [gate | up] as one would couple them; each part alone must come out as if it were alone."""
    generator = torch.Generator().manual_seed(3)
    gradient = torch.randn(4, 16, 24, generator=generator)
    fused = torch.nn.Parameter(torch.zeros(4, 16, 24))
    lying = torch.nn.Parameter(torch.zeros(4, 12, 16))  # of the same shape, lying: in the same batch
    fused.grad, lying.grad = gradient.clone(), gradient[:, :, :12].mT.clone()
    Muon([{"params": [fused], "parts": 2, "dim": -1}, {"params": [lying]}], lr=1.0, weight_decay=0.0).step()
    for half in (0, 1):
        alone = torch.nn.Parameter(torch.zeros(4, 16, 12))
        alone.grad = gradient[:, :, 12 * half : 12 * (half + 1)].clone()
        Muon([{"params": [alone]}], lr=1.0, weight_decay=0.0).step()
        mine = fused.detach()[:, :, 12 * half : 12 * (half + 1)]
        torch.testing.assert_close(mine, alone.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(lying.detach().mT, fused.detach()[:, :, :12], rtol=1e-4, atol=1e-5)


def test_a_vector_is_refused():
    with pytest.raises(ValueError, match="expected \\(A, B\\)"):
        Muon([{"params": [torch.nn.Parameter(torch.zeros(3))]}], lr=0.1)
