"""One trial over several processes: data parallel, with load counts summed over ranks.

Every rank holds the whole model and takes its share of each micro-batch. torchrun and srun both set the environment
this reads; on one process everything here does nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class World:
    """This process among its peers."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """The one rank that writes files."""
        return self.rank == 0

    def share(self, batch: Tensor) -> Tensor:
        """This rank's sequences of a micro-batch, (B/size, …)."""
        return batch.chunk(self.size)[self.rank] if self.size > 1 else batch

    def sum(self, value: Tensor) -> Tensor:
        """Sum over ranks, without gradient; a new tensor."""
        total = value.detach().clone()
        if self.size > 1:
            dist.all_reduce(total)
        return total

    def average_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace gradients by their mean over ranks, in one message. A rank without a gradient counts as zero."""
        if self.size == 1:
            return
        held = list(parameters)
        for parameter in held:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        flat = torch.cat([parameter.grad.reshape(-1) for parameter in held if parameter.grad is not None])
        dist.all_reduce(flat)
        flat /= self.size
        offset = 0
        for parameter in held:
            size = parameter.numel()
            parameter.grad = flat[offset : offset + size].view_as(parameter)
            offset += size


def join() -> World:
    """Join the process group the environment describes (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT)."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World()
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    if not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return World(dist.get_rank(), dist.get_world_size())
