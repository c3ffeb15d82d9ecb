"""The dtype experts compute in: autocast knows neither grouped products nor hand-written kernels, so it is asked once.

Shapes: T tokens, D width, E experts, F expert width.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import torch
from torch import Tensor

from suite.backends.dispatch import DispatchPlan

ExpertFunction = Callable[[Tensor, DispatchPlan, Tensor, Tensor], Tensor]


def in_autocast_dtype(experts: ExpertFunction) -> ExpertFunction:
    """The same function on inputs and weights in autocast's dtype where autocast is on; gates stay float32."""

    @wraps(experts)
    def cast(hidden_TD: Tensor, plan: DispatchPlan, w_in_EDF: Tensor, w_out_EFD: Tensor) -> Tensor:
        device = hidden_TD.device.type
        if not torch.is_autocast_enabled(device):
            return experts(hidden_TD, plan, w_in_EDF, w_out_EFD)
        dtype = torch.get_autocast_dtype(device)
        with torch.autocast(device, enabled=False):
            return experts(hidden_TD.to(dtype), plan, w_in_EDF.to(dtype), w_out_EFD.to(dtype))

    return cast
