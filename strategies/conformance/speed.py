"""Rule 15: routing costs less than the experts it routes to."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from strategies.conformance.broken import Broken
from strategies.conformance.lab import WIDTH, Lab, take_step

REPEATS = 5
HIDDEN = 64 * WIDTH  # of the feed-forward layer that stands for the experts


def is_fast(lab: Lab) -> None:
    """Rule 15."""
    strategy = lab.build()
    batch = lab.batch(sequences=64)
    up_DF = torch.randn(WIDTH, HIDDEN, requires_grad=True)
    down_FD = torch.randn(HIDDEN, WIDTH, requires_grad=True)

    def experts() -> None:
        (torch.relu(batch.hidden_TD @ up_DF) @ down_FD).sum().backward()

    own, allowed = [], []
    for _ in range(REPEATS):  # alternating, so that a busy machine slows both
        own.append(_seconds(lambda: take_step(strategy, [batch])))
        allowed.append(_seconds(experts))
    if min(own) > min(allowed):
        raise Broken(
            f"routing {len(batch.tokens_T)} tokens takes {1e3 * min(own):.0f} ms, "
            f"{min(own) / min(allowed):.1f} times as long as the experts; look for loops over tokens or experts"
        )


def _seconds(work: Callable[[], object]) -> float:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    start = time.thread_time()  # not the clock on the wall: somebody else's work is not the strategy's
    try:
        work()
        return time.thread_time() - start
    finally:
        torch.set_num_threads(threads)
