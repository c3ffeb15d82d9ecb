"""N processes in one: threads that each hold a replica, with an all-reduce that waits for all of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from strategies.conformance.broken import Broken

PATIENCE = 5.0  # seconds an all-reduce waits for the other ranks

Result = TypeVar("Result")


class Ranks:
    """An all-reduce among `size` threads. The sum runs in the order of the ranks, so every rank gets the same bits."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._barrier = threading.Barrier(size, timeout=PATIENCE)
        self._values: list[Tensor] = [torch.empty(0)] * size

    def sum_for(self, rank: int) -> Callable[[Tensor], Tensor]:
        """What one rank gets as `context.sum_over_ranks`."""

        def sum_over_ranks(value: Tensor) -> Tensor:
            self._values[rank] = value.detach().clone()
            self._barrier.wait()
            total = torch.stack(self._values).sum(0)
            self._barrier.wait()  # nobody overwrites a value that another still reads
            return total

        return sum_over_ranks

    def run(self, work: Callable[[int], Result]) -> list[Result]:
        """`work(rank)` on every rank at once.

        Raises:
            Broken: the ranks do not make the same all-reduces.
            Exception: whatever a rank raised first.
        """
        results: dict[int, Result] = {}
        errors: list[Exception] = []

        def one(rank: int) -> None:
            try:
                results[rank] = work(rank)
            except Exception as error:
                errors.append(error)
                self._barrier.abort()

        threads = [threading.Thread(target=one, args=(rank,), daemon=True) for rank in range(self.size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        own = [error for error in errors if not isinstance(error, threading.BrokenBarrierError)]
        if own:
            raise own[0]
        if errors:
            raise Broken("a rank waits in sum_over_ranks for others that never call it; every rank must call it alike")
        return [results[rank] for rank in range(self.size)]
