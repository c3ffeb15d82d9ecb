"""Which domain each training sequence comes from: whole-number shares, exact at every step, without state.

Shapes: B sequences of a batch, L sequences of one cycle of a mixture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.corpus import Phase
from tasks.errors import unknown


def check_phases(phases: Sequence[Phase], domains: Sequence[str]) -> None:
    """ValueError unless the phases cover the run in order and name known domains."""
    before = 0.0
    for index, phase in enumerate(phases):
        key = f"corpus.phases.{index}"
        for domain in phase.shares:
            if domain not in domains:
                raise unknown(f"{key}.shares", domain, "a domain of this corpus", domains)
        if sum(phase.shares.values()) == 0:
            raise ValueError(f"{key}.shares: {phase.shares} is impossible; expected at least one share above 0")
        if phase.until <= before:
            raise ValueError(f"{key}.until: {phase.until} is impossible; expected more than {before}, where it starts")
        before = phase.until
    if phases and before != 1.0:
        raise ValueError(
            f"corpus.phases.{len(phases) - 1}.until: {before} is impossible; expected 1.0 for the last phase"
        )


def cycle(shares: Sequence[int]) -> NDArray[np.int64]:
    """One cycle of a mixture: index d occurs `shares[d]` times, spread as evenly as it goes, (L,)."""
    due = [((turn + 0.5) / share, index) for index, share in enumerate(shares) for turn in range(share)]
    return np.array([index for _, index in sorted(due)], dtype=np.int64)


class _Mixture:
    """A phase, ready to be asked."""

    def __init__(self, first_step: int, shares: Sequence[int], seen: NDArray[np.int64]) -> None:
        self.first_step = first_step
        self.seen = seen  # sequences of each domain in earlier phases
        self.cycle_L = cycle(shares)
        self.shares = np.array(shares, dtype=np.int64)
        self.rank_L = np.array([np.sum(self.cycle_L[:i] == d) for i, d in enumerate(self.cycle_L)], dtype=np.int64)

    def at(self, slot_B: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        turn_B, place_B = np.divmod(slot_B, len(self.cycle_L))
        domain_B = self.cycle_L[place_B]
        return domain_B, self.seen[domain_B] + turn_B * self.shares[domain_B] + self.rank_L[place_B]

    def counts(self, slots: int) -> NDArray[np.int64]:
        """Sequences of each domain after `slots` sequences of this phase, and before it."""
        turns, rest = divmod(slots, len(self.cycle_L))
        return self.seen + turns * self.shares + np.bincount(self.cycle_L[:rest], minlength=len(self.shares))


class Schedule:
    """Domain and position within the domain of every training sequence.

    Args:
        domains: their names, in order.
        phases: empty for equal shares all along.
        steps: optimizer steps of the run; later steps belong to the last phase.
        batch: sequences per step.
    """

    def __init__(self, domains: Sequence[str], phases: Sequence[Phase], steps: int, batch: int) -> None:
        check_phases(phases, domains)
        self._batch, self._steps = batch, steps
        self._mixtures: list[_Mixture] = []
        plans = [(p.until, [p.shares.get(d, 0) for d in domains]) for p in phases] or [(1.0, [1] * len(domains))]
        first, seen = 0, np.zeros(len(domains), dtype=np.int64)
        for until, shares in plans:
            mixture = _Mixture(first, shares, seen)
            self._mixtures.append(mixture)
            end = round(until * steps)
            seen, first = mixture.counts((end - first) * batch), end

    def at(self, step: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Domain and position of each sequence of a step: two int64 arrays, (B,)."""
        mixture = next(m for m in reversed(self._mixtures) if m.first_step <= step)
        return mixture.at((step - mixture.first_step) * self._batch + np.arange(self._batch))

    def totals(self) -> NDArray[np.int64]:
        """Sequences of each domain in the whole run, one number a domain."""
        mixture = self._mixtures[-1]
        return mixture.counts((self._steps - mixture.first_step) * self._batch)


def spread(total: int, available: Sequence[int]) -> list[int]:
    """`total` split evenly over domains, what is left over going to the first ones; never more than is available.

    Raises:
        ValueError: one domain has too little.
    """
    parts = [total // len(available) + (index < total % len(available)) for index in range(len(available))]
    short: Any = min(zip(parts, available, strict=True), key=lambda pair: pair[1] - pair[0])
    if short[0] > short[1]:
        most = min(available) * len(available)
        raise ValueError(
            f"rung.eval_sequences: {total} is impossible; expected at most {most}: one domain holds out {short[1]}"
        )
    return parts
