"""Muon for models with experts: Newton–Schulz batched over equally shaped matrices.

Jordan et al., Muon (2024), with Moonlight's weight decay and update RMS matched to AdamW's (Liu et al.,
arXiv:2502.16982, §2.2). `torch.optim.Muon` takes 2-D parameters only, one after another; an expert stack is many.

Three steps instead of Jordan's five: each step's quintic is the best for what the one before it leaves, the
construction of Polar Express (Amsel et al., arXiv:2505.16932), from [0.01, 1]; and matrices are divided by the bound
‖G‖₂ ≤ ‖GGᵀ‖_F^½ of their largest singular value instead of ‖G‖_F, which costs no product. On a CPU in float32, where
bfloat16 may be emulated, on an accelerator in bfloat16: a part of the protocol, no option.

Shapes: M matrices, A × B each, A ≤ B.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

COEFFICIENTS = ((8.0934, -23.6204, 17.4462), (3.6366, -2.7219, 0.5365), (2.6613, -1.9772, 0.4526))
SAFETY = 1.02  # rounding may leave a largest singular value above its bound, where the first quintic is steep
EPSILON = 1e-20
RMS = 0.2  # of AdamW's typical update
CHUNK = 32  # matrices at a time on a CPU: what fits its cache


def precision(device: torch.device) -> torch.dtype:
    """What Newton–Schulz steps are done in."""
    return torch.float32 if device.type == "cpu" else torch.bfloat16


def orthogonalise(update_MAB: Tensor, dtype: torch.dtype) -> Tensor:
    """Each matrix's singular values brought near 1 (those over 0.01 of the bound to 0.73 … 1.27), in `dtype`."""
    if update_MAB.device.type == "cpu" and len(update_MAB) > CHUNK:
        return torch.cat([orthogonalise(part, dtype) for part in update_MAB.split(CHUNK)])
    size_M11 = update_MAB.flatten(1).norm(dim=1).clamp(min=EPSILON)[:, None, None]
    x_MAB = (update_MAB / size_M11).to(dtype)
    gram_MAA = x_MAB @ x_MAB.mT
    bound_M11 = SAFETY * gram_MAA.float().flatten(1).norm(dim=1).clamp(min=EPSILON).sqrt()[:, None, None]
    x_MAB, gram_MAA = (x_MAB / bound_M11).to(dtype), (gram_MAA / bound_M11.square()).to(dtype)
    for step, (a, b, c) in enumerate(COEFFICIENTS):
        gram_MAA = x_MAB @ x_MAB.mT if step else gram_MAA
        x_MAB = torch.baddbmm(x_MAB, torch.baddbmm(gram_MAA, gram_MAA, gram_MAA, beta=b, alpha=c), x_MAB, beta=a)
    return x_MAB


def matrices(parameter: Tensor, parts: int, dim: int) -> Tensor:
    """A parameter as the matrices it holds, (M, …): expert stacks by expert, fused projections by part."""
    stack = parameter if parameter.ndim == 3 else parameter[None]
    return torch.cat(stack.chunk(parts, dim)) if parts > 1 else stack


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, scaled to AdamW's update RMS, with decoupled weight decay.

    Args:
        params: groups of (A, B) or (E, A, B) parameters; a group's `parts` says how many matrices lie side by side
            in each, along its `dim`.
        lr: AdamW's learning rate: the updates have AdamW's size.
    """

    def __init__(
        self, params: Iterable[dict[str, Any]], lr: float, weight_decay: float = 0.1, momentum: float = 0.95
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "parts": 1, "dim": -1})
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.ndim not in (2, 3):
                    raise ValueError(
                        f"Muon: a parameter of shape {tuple(parameter.shape)}; expected (A, B) or (E, A, B)"
                    )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """All matrices of one shape, upright or lying, of all groups are one batch."""
        by_shape: dict[tuple[int, int], list[tuple[dict[str, Any], Tensor, Tensor]]] = defaultdict(list)
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    update = matrices(self._momentum(group, parameter), group["parts"], group["dim"])
                    shape = (min(update.shape[1:]), max(update.shape[1:]))
                    by_shape[shape].append((group, parameter, update))
        for (_, longer), entries in by_shape.items():
            lying = [update if update.shape[2] == longer else update.mT for _, _, update in entries]
            whitened = orthogonalise(torch.cat(lying), precision(lying[0].device))
            for (group, parameter, update), result in zip(
                entries, whitened.split([len(u) for u in lying]), strict=True
            ):
                upright = result if update.shape[2] == longer else result.mT
                joined = torch.cat(upright.chunk(group["parts"]), dim=group["dim"]) if group["parts"] > 1 else upright
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.sub_(joined.reshape(parameter.shape), alpha=group["lr"] * RMS * longer**0.5)

    def _momentum(self, group: dict[str, Any], parameter: Tensor) -> Tensor:
        """The update before it is orthogonalised."""
        assert parameter.grad is not None
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
        return parameter.grad.lerp(state["momentum"], group["momentum"])


class Together:
    """Several optimizers driven as one."""

    def __init__(self, optimizers: list[torch.optim.Optimizer]) -> None:
        self.optimizers = optimizers

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def step(self) -> None:
        for optimizer in self.optimizers:
            optimizer.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        return {str(index): optimizer.state_dict() for index, optimizer in enumerate(self.optimizers)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for index, optimizer in enumerate(self.optimizers):
            optimizer.load_state_dict(state[str(index)])
