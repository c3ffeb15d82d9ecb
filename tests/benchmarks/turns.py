"""Timing several arms in turns, so that whatever else the machine does falls on all of them alike.

Times are the process's own CPU time: waiting for a core that somebody else has is not the arm's doing.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

Ratio = tuple[float, float, float]


def take_turns(benchmark: Any, arms: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of every arm's call in every round; a round calls each once, in random order. It is the benchmark."""
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    order, draw = list(arms), random.Random(0)

    def one_round() -> None:
        draw.shuffle(order)
        for name in order:
            started = time.process_time()
            arms[name]()
            seconds[name].append(time.process_time() - started)

    warmup = 3
    benchmark.pedantic(one_round, rounds=rounds, warmup_rounds=warmup)
    return {name: spent[warmup:] if benchmark.enabled else spent for name, spent in seconds.items()}


def ratio(own: Sequence[float], base: Sequence[float]) -> Ratio:
    """Median over rounds of own / base, and a 95 % interval of that median.

    The interval is between order statistics n/2 ± 0.98 √n: that many of n rounds fall on either side of the median
    by chance, whatever the distribution (the sign test turned round).
    """
    ratios = sorted(a / b for a, b in zip(own, base, strict=True))
    n = len(ratios)
    low = max(0, math.floor(n / 2 - 0.98 * math.sqrt(n)))
    return median(ratios), ratios[low], ratios[n - 1 - low]
