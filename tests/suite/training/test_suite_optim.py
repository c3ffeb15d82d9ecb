"""Schedule and optimizers, against torch's own Muon and numbers worked by hand."""

from __future__ import annotations

import copy
import math

import pytest
import torch

import tasks
from suite.training import optimizers
from suite.training.muon import Muon, orthogonalise


def test_warm_up_then_cosine():
    rung = tasks.load("mix-nano", {"rung.steps": 100, "rung.warmup_steps": 10, "rung.learning_rate": 1.0}).rung
    assert optimizers.learning_rate(rung, 0) == pytest.approx(0.1)  # the first step of ten
    assert optimizers.learning_rate(rung, 9) == pytest.approx(1.0)
    low = rung.min_learning_rate_ratio
    assert optimizers.learning_rate(rung, 55) == pytest.approx((1 + low) / 2)  # half way down: cos(π/2) = 0
    assert optimizers.learning_rate(rung, 99) == pytest.approx(
        low + (1 - low) * 0.5 * (1 + math.cos(math.pi * 89 / 90))
    )


@pytest.mark.parametrize("shape", [(8, 24, 16), (8, 16, 24), (1, 32, 32)])
def test_newton_schulz_equals_torch_s_one_matrix_at_a_time(shape):
    """In bfloat16, torch's precision, the batched steps agree with torch.optim.Muon to bfloat16 rounding."""
    generator = torch.Generator().manual_seed(0)
    gradients = torch.randn(shape, generator=generator)
    ours = torch.nn.Parameter(torch.zeros(shape))
    ours.grad = gradients.clone()
    Muon([{"params": [ours]}], lr=0.1, weight_decay=0.0, dtype=torch.bfloat16).step()
    theirs = [torch.nn.Parameter(torch.zeros(shape[1:])) for _ in range(shape[0])]
    for parameter, gradient in zip(theirs, gradients, strict=True):
        parameter.grad = gradient.clone()
    torch.optim.Muon(theirs, lr=0.1, weight_decay=0.0, adjust_lr_fn="match_rms_adamw").step()
    expected = torch.stack([parameter.detach() for parameter in theirs])
    assert (ours.detach() - expected).norm() / expected.norm() < 0.02


def test_several_steps_with_decay_follow_torch_s():
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(12, 20, generator=generator)
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    mine = Muon([{"params": [ours]}], lr=0.02, weight_decay=0.1, dtype=torch.bfloat16)
    other = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(5):
        gradient = torch.randn(12, 20, generator=generator)
        for parameter, optimizer in ((ours, mine), (theirs, other)):
            parameter.grad = gradient.clone()
            optimizer.step()
    assert (ours - theirs).norm() / (theirs - start).norm() < 0.02


def test_singular_values_come_near_one():
    update = torch.randn(3, 40, 24, generator=torch.Generator().manual_seed(2))
    values = torch.linalg.svdvals(orthogonalise(update, torch.float32))
    assert ((values > 0.5) & (values < 1.3)).all()  # the quintic's band around 1


def test_fused_projections_are_separate_matrices():
    """Orthogonalising [gate | up] as one would couple them; each part alone must come out as if it were alone."""
    generator = torch.Generator().manual_seed(3)
    gradient = torch.randn(4, 16, 24, generator=generator)
    fused = torch.nn.Parameter(torch.zeros(4, 16, 24))
    fused.grad = gradient.clone()
    Muon([{"params": [fused], "parts": 2, "dim": -1}], lr=1.0, weight_decay=0.0).step()
    for half in (0, 1):
        alone = torch.nn.Parameter(torch.zeros(4, 16, 12))
        alone.grad = gradient[:, :, 12 * half : 12 * (half + 1)].clone()
        Muon([{"params": [alone]}], lr=1.0, weight_decay=0.0).step()
        torch.testing.assert_close(
            fused.detach()[:, :, 12 * half : 12 * (half + 1)], alone.detach(), rtol=1e-4, atol=1e-5
        )


def test_a_vector_is_refused():
    with pytest.raises(ValueError, match="expected \\(A, B\\)"):
        Muon([{"params": [torch.nn.Parameter(torch.zeros(3))]}], lr=0.1)


def test_decay_is_on_matrices_only(tiny_suite, home):
    from suite.planning import config, plan
    from suite.training.distributed import World
    from suite.training.trainer import Training

    for name, count in (("adamw", 2), ("muon", None)):
        data = copy.deepcopy(tiny_suite) | {"strategies": ["smebu"], "baseline": "smebu", "seeds": 1}
        data["tasks"][0]["set"] |= {"rung.optimizer": name}
        made = plan.make_plan(config.parse(data, "test"))
        training = Training(made.write_trial(home, made.trials[0]), home / "cache", World(), lambda _: None)
        groups = training.optimizer.param_groups
        held = [id(p) for group in groups for p in group["params"]]
        assert sorted(held) == sorted(id(p) for p in training.model.parameters())  # each parameter exactly once
        assert all((p.ndim >= 2) == (group["weight_decay"] > 0) for group in groups for p in group["params"])
        assert count is None or len(groups) == count
