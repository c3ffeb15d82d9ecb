"""Muon for models with experts: Newton–Schulz batched over equally shaped matrices.

Jordan et al., Muon (2024), with Moonlight's weight decay and update RMS matched to AdamW's (Liu et al.,
arXiv:2502.16982, §2.2). `torch.optim.Muon` takes 2-D parameters only, one after another; an expert stack is many.

Shapes: M matrices, A × B each.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.775, 2.0315)
STEPS = 5
EPSILON = 1e-7
RMS = 0.2  # of AdamW's typical update


def orthogonalise(update_MAB: Tensor, dtype: torch.dtype) -> Tensor:
    """Each matrix's singular values brought near 1 by five Newton–Schulz steps, all at once, (M, A, B) in `dtype`."""
    a, b, c = COEFFICIENTS
    x = update_MAB.to(dtype)
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / x.flatten(1).norm(dim=1).clamp(min=EPSILON)[:, None, None]
    for _ in range(STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def matrices(parameter: Tensor, parts: int, dim: int) -> Tensor:
    """A parameter as the matrices it holds, (M, A, B): expert stacks by expert, fused projections by part."""
    stack = parameter if parameter.ndim == 3 else parameter[None]
    return torch.cat(stack.chunk(parts, dim)) if parts > 1 else stack


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, scaled to AdamW's update RMS, with decoupled weight decay.

    Args:
        params: groups of (A, B) or (E, A, B) parameters; a group's `parts` says how many matrices lie side by side
            in each, along its `dim`.
        lr: AdamW's learning rate: the updates have AdamW's size.
        dtype: of the Newton–Schulz steps; bfloat16 is what Jordan and torch use.
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        lr: float,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "parts": 1, "dim": -1})
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.ndim not in (2, 3):
                    raise ValueError(
                        f"Muon: a parameter of shape {tuple(parameter.shape)}; expected (A, B) or (E, A, B)"
                    )
        self._dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                update = matrices(
                    parameter.grad.lerp(state["momentum"], group["momentum"]), group["parts"], group["dim"]
                )
                by_shape[update.shape[1:]].append((parameter, update))
            for shape, entries in by_shape.items():
                scale = group["lr"] * RMS * max(shape) ** 0.5
                updates = [update for _, update in entries]
                joined = torch.cat(updates) if len(updates) > 1 else updates[0]
                whitened = orthogonalise(joined, self._dtype).split([len(update) for update in updates])
                for (parameter, _), result in zip(entries, whitened, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    joined_back = (
                        torch.cat(result.chunk(group["parts"]), dim=group["dim"]) if group["parts"] > 1 else result
                    )
                    parameter.sub_(joined_back.view_as(parameter), alpha=scale)


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
